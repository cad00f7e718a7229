//! `trace show`: prints a trace while it checks it.

use std::io::{BufReader, Write as _};

use anyhow::Context as _;
use clap::Args;
use sandrun_types::{Sha256Hex, TraceFileError, TraceLeaf, TraceReader};
use serde::Serialize;

use super::place::{Place, of_client, open};
use crate::exit::{Failure, Status, words};
use crate::output::{Output, write_out};

/// Longest trace that is fetched: the most events that a class allows, and room.
pub(super) const MOST: u64 = 512 << 20;
/// Bytes of text that are printed at once.
const PIECE: usize = 64 * 1024;

/// Arguments of `trace show`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A file, or a job at an executor
    trace: Place,
    /// The root that the trace should have, as a receipt names it
    #[arg(long, value_name = "HASH", value_parser = hash)]
    root: Option<Sha256Hex>,
}

/// 64 hexadecimal digits.
pub(crate) fn hash(text: &str) -> Result<Sha256Hex, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// A line for scripts.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Counted from 0; none for the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(flatten)]
    leaf: &'a TraceLeaf,
}

/// The last line for scripts.
#[derive(Debug, Serialize)]
struct End {
    root: Sha256Hex,
    events: u64,
}

/// Prints the trace.
pub(super) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    // kept until it is printed
    let folder = tempfile::tempdir().context("a temporary folder for the trace")?;
    let (path, name) = match arguments.trace {
        Place::File(path) => (path.clone(), path.display().to_string()),
        Place::Job(job) => {
            let to = folder.path().join("trace");
            let fetched = job.client()?.save_trace(&job.id.to_string(), &to, MOST).await;
            fetched.map_err(of_client)?;
            (to, format!("the trace of job {}", job.id))
        }
    };
    let file = open(&path)?;
    let output = *output;
    let printed = tokio::task::spawn_blocking(move || print(file, &name, arguments.root, &output));
    printed.await??;
    Ok(Status::Success)
}

fn print(file: std::fs::File, name: &str, wanted: Option<Sha256Hex>, output: &Output) -> anyhow::Result<()> {
    let mut reader = TraceReader::new(BufReader::new(file)).map_err(|error| not_whole(name, error))?;
    let mut text = Vec::new();
    let mut number = None;
    for leaf in reader.by_ref() {
        let leaf = match leaf {
            Ok(leaf) => leaf,
            Err(error) => {
                // what was read so far may help to find out why
                write_out(&text)?;
                return Err(not_whole(name, error));
            }
        };
        if output.is_json() {
            serde_json::to_writer(&mut text, &Line { number, leaf: &leaf })?;
            text.push(b'\n');
        } else if let Some(number) = number {
            writeln!(text, "{number:>7}  {leaf}")?;
        } else {
            writeln!(text, "         {leaf}")?;
        }
        number = Some(number.map_or(0, |number| number + 1));
        if text.len() >= PIECE {
            write_out(&text)?;
            text.clear();
        }
    }
    let root = Sha256Hex(reader.root().0);
    let events = reader.leaves() - 1;
    if output.is_json() {
        serde_json::to_writer(&mut text, &End { root, events })?;
        text.push(b'\n');
    } else {
        writeln!(text, "root {root}, {events} events")?;
    }
    write_out(&text)?;
    match wanted {
        Some(wanted) if wanted != root => {
            let text = format!("the trace has the root {root}, not {wanted}");
            Err(Failure::new(Status::VerificationFailed, text))
        }
        Some(_) | None => Ok(()),
    }
}

fn not_whole(name: &str, error: TraceFileError) -> anyhow::Error {
    let status = match &error {
        TraceFileError::Read(_) => Status::Failure,
        TraceFileError::Format(_)
        | TraceFileError::Leaf { .. }
        | TraceFileError::Order(_)
        | TraceFileError::Changed(_) => Status::VerificationFailed,
    };
    Failure::new(status, format!("{name}: {}", words(&error.into())))
}

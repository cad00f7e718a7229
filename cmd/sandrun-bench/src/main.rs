//! Benchmarks: figures beside peers, measured in the same run, printed as a table and kept in a list on disk.
//!
//! Owns what is measured and how it is judged. Measures the released binary and the committed contracts from outside;
//! it is no part of the product.

mod blocks;
mod det;
mod gas;
mod isolation;
mod measure;
mod peer;
mod queue;
mod row;
mod statistics;
mod throughput;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tokio::runtime::Runtime;

use crate::measure::Measure;
use crate::row::List;

/// Measures and judges; every figure also goes to the list.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only rows whose names begin with this; all without
    #[arg(long, value_name = "PREFIX", default_value = "")]
    only: String,
    /// The list of rows; those that were not measured stay
    #[arg(long, value_name = "FILE", default_value = "target/bench/results.json")]
    results: PathBuf,
    /// The released sandrun-pool binary, which is what is measured
    #[arg(long, value_name = "FILE", default_value = "target/release/sandrun-pool")]
    program: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            note(&format!("error: {}", words(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Measures what was asked for; fails where a row could not be measured, never because of a goal.
fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let wanted = Measure::beginning_with(&arguments.only);
    anyhow::ensure!(
        !wanted.is_empty(),
        "no row begins with {:?}; there are: {}",
        arguments.only,
        Measure::names()
    );
    let program = std::fs::canonicalize(&arguments.program)
        .with_context(|| format!("{} is not there: run `make build`", arguments.program.display()))?;
    let mut list = List::read(&arguments.results)?;
    let (mut rows, mut failures) = (Vec::new(), 0);
    for measure in wanted {
        note(&format!("measuring {}", measure.name()));
        let taken = runtime(measure).and_then(|runtime| measure.take(&runtime, &program));
        match taken {
            Ok(taken) => rows.extend(taken.into_iter().filter(|row| {
                row.name.starts_with(&arguments.only) || measure.name().starts_with(&arguments.only)
            })),
            Err(error) => {
                failures += 1;
                note(&format!(
                    "{} could not be measured: {}",
                    measure.name(),
                    words(&error)
                ));
            }
        }
    }
    list.replace(&arguments.only, &rows);
    list.save()?;
    std::io::stdout()
        .write_all(row::table(&rows).as_bytes())
        .context("printing the table")?;
    Ok(if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Threads for a measurement's own work. Clients of a service have one for every four processors: they wait for answers
/// most of the time, and with more of them the scheduler's work would be measured.
fn runtime(measure: Measure) -> anyhow::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if measure.is_of_a_service() {
        processors.div_ceil(4)
    } else {
        processors
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("the async runtime")
}

/// Says what is going on, beside the table.
fn note(text: &str) {
    // a closed standard error leaves nobody to be told
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An error and its causes in one line; a cause that is quoted already is not said again.
fn words(error: &anyhow::Error) -> String {
    let say_on = |text: String, cause: String| {
        if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    };
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), say_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("no disk")
            .context("starting failed: no disk")
            .context("row");
        assert_eq!(words(&error), "row: starting failed: no disk");
    }
}

//! `logs`: what a job has printed, and what it prints. On the market that comes with the result that its nodes agreed on.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use client_sdk::{Client, JobEntry, ResultError, fetch_result};
use sandrun_core::market::Phase;
use sandrun_types::JobId;
use serde::Serialize;
use serde_json::json;

use crate::args::{ChainArgs, StoreArgs};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report, write_out};
use crate::progress::Progress;
use crate::remote::{self, RemoteArgs};
use crate::view::{PoolArgs, View, unknown};

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool logs 0123456789abcdef --to http://127.0.0.1:8000\n  \
    sandrun-pool logs -f 0123456789abcdef --to http://127.0.0.1:8000\n  \
    sandrun-pool logs -f 0x12345678     # on the market output comes with the result\n\n\
    --follow --json prints one JSON object a line: {\"event\": …, \"data\": …}.")]
pub(crate) struct Arguments {
    /// The job's id; on the market its first digits are enough
    job: String,
    /// Go on until the job ends
    #[arg(id = "go_on", long = "follow", short = 'f')]
    follow: bool,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pool: PoolArgs,
}

/// What a job on the market has printed.
#[derive(Debug, Default, Serialize)]
struct Printed {
    job: JobId,
    stdout: String,
    stderr: String,
}

impl Report for Printed {
    fn human(&self) -> String {
        self.stdout.clone()
    }
}

/// Shows the job's output.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        return remote::logs(to, &arguments.job, arguments.follow, output).await;
    }
    let store = arguments.store.client()?;
    let view = View::open(&arguments.chain, &arguments.pool, output).await?;
    let job = view.resolve(&arguments.job).await?;
    let Some(mut entry) = view.job(job).await? else {
        return Err(unknown(&arguments.job));
    };
    let client = Client::new(view.reader().clone(), Arc::new(store));
    if arguments.follow {
        entry = follow(&client, job, output).await?;
    } else if entry.facts.phase != Phase::Closed {
        output.note(&format!(
            "job {job} is not over; what it printed comes with its result: --follow waits for it"
        ));
    }
    let printed = printed(&client, &entry).await?;
    if !(arguments.follow && output.is_json()) {
        output.result(&printed)?;
        output.program_errors(&printed.stderr);
        return Ok(Status::Success);
    }
    for (name, text) in [("stdout", &printed.stdout), ("stderr", &printed.stderr)] {
        if !text.is_empty() {
            event(name, text)?;
        }
    }
    let outcome = entry.facts.outcome().context("the job is over")?;
    event("status", crate::words::outcome(outcome))?;
    Ok(Status::Success)
}

fn event(name: &str, data: &str) -> anyhow::Result<()> {
    let line = json!({ "event": name, "data": data });
    write_out(format!("{line}\n").as_bytes())
}

/// Waits for the job's end.
async fn follow(client: &Client, job: JobId, output: &Output) -> anyhow::Result<JobEntry> {
    let progress = Progress::new(output);
    let windows = client.windows().await.status(Status::Unreachable)?;
    let entry = client
        .follow(job, windows, |facts| progress.facts(facts))
        .await
        .status(Status::Unreachable)?;
    progress.finish();
    Ok(entry)
}

/// The output out of the result, checked against the digest; empty where there is none.
async fn printed(client: &Client, entry: &JobEntry) -> anyhow::Result<Printed> {
    let job = entry.facts.job;
    let Some((digest, Some(published))) = entry.facts.winner() else {
        return Ok(Printed {
            job,
            ..Printed::default()
        });
    };
    let parts = published.parts().status(Status::VerificationFailed)?;
    let at = client.reader().deployment().escrow_ref();
    let folder = tempfile::tempdir().context("a temporary folder for the result")?;
    let into = folder.path().join("result");
    let fetched = fetch_result(client.store(), at, job, digest, &parts, &into).await;
    fetched.map_err(|error| not_fetched(&error))?;
    let text = |name: &str| read(&into.join(name));
    Ok(Printed {
        job,
        stdout: text("stdout")?,
        stderr: text("stderr")?,
    })
}

/// A stream's text; what is no text is replaced.
fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn not_fetched(error: &ResultError) -> anyhow::Error {
    let status = match error {
        ResultError::Fetch { .. } | ResultError::Io { .. } => Status::Unreachable,
        ResultError::Digest { .. } | ResultError::OutputRoot { .. } | ResultError::Layout(_) => {
            Status::VerificationFailed
        }
    };
    Failure::new(status, error.to_string())
}

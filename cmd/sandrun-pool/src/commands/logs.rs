//! `logs`: what a job has printed, and what it prints.

use clap::Args;

use crate::exit::Status;
use crate::output::Output;
use crate::remote::{self, RemoteArgs};

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool logs 0123456789abcdef --to http://127.0.0.1:8000\n  \
    sandrun-pool logs -f 0123456789abcdef --to http://127.0.0.1:8000\n\n\
    --follow --json prints one JSON object a line: {\"event\": …, \"data\": …}.")]
pub(crate) struct Arguments {
    /// The job's id
    job: String,
    /// Go on until the job ends
    #[arg(id = "go_on", long = "follow", short = 'f')]
    follow: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Shows the job's output.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let instead = "on the market a job's output comes with its result (`sandrun-pool submit`)";
    let to = arguments.remote.required(instead)?;
    remote::logs(to, &arguments.job, arguments.follow, output).await
}

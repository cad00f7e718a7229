//! `drain`: lets a node of a service finish what it has, and take nothing new.

use clap::Args;

use crate::exit::Status;
use crate::output::Output;
use crate::remote::{self, RemoteArgs};

/// Arguments of `drain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool drain NODE --to http://127.0.0.1:8000\n  \
    sandrun-pool drain NODE --resume --to http://127.0.0.1:8000")]
pub(crate) struct Arguments {
    /// The node's id, as `nodes --to` shows it
    node: String,
    /// Let it take jobs again
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Drains the node, or ends that.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let instead = "a market's node is stopped by its agent's owner";
    let to = arguments.remote.required(instead)?;
    remote::drain(to, &arguments.node, arguments.resume, output).await
}

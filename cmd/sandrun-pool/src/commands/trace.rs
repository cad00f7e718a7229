//! `trace`: what happened in a run, event by event, and the first event in which two runs differ.

mod checked;
mod diff;
mod later;
mod place;
mod show;

use clap::{Args, Subcommand};

use crate::exit::Status;
use crate::output::Output;
use crate::signals::Signals;

pub(crate) use place::{OfJob, of_client, receipt};
pub(crate) use show::hash;

/// What `trace` takes for a trace, for the help texts.
const PLACES: &str = "A trace is a file, or a job at an executor: its address and the job's id, as in \
    http://127.0.0.1:8443/job-0123456789abcdef0123456789abcdef";

/// Arguments of `trace`.
#[derive(Debug, Args)]
#[command(after_help = format!("{PLACES}\n\n\
    Examples:\n  \
    sandrun-pool trace show job.trace\n  \
    sandrun-pool trace diff one.trace two.trace"))]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do with traces.
#[derive(Debug, Subcommand)]
enum Action {
    /// Print the events of a trace, and check that it is whole
    #[command(after_help = format!("{PLACES}\n\n\
        The file is checked while it is read: its order, each leaf's byte form, the roots at its end. --json prints one \
        JSON object a line: the header, the events, then the root.\n\n\
        Exit codes:\n  \
        0  the trace is whole\n  \
        2  bad arguments, or no such file\n  \
        3  the executor cannot be reached\n  \
        4  the executor has no such trace\n  \
        7  the trace is none, was cut off or changed, or has another root than --root\n\n\
        Examples:\n  \
        curl -o job.trace http://127.0.0.1:8443/trace/job-0123456789abcdef0123456789abcdef\n  \
        sandrun-pool trace show job.trace\n  \
        sandrun-pool trace show job.trace --root 264a6aec…\n  \
        sandrun-pool trace show --json http://127.0.0.1:8443/job-0123456789abcdef0123456789abcdef"))]
    Show(show::Arguments),
    /// Find the first event in which two traces differ
    #[command(after_help = format!("{PLACES}\n\n\
        A file is read whole first, and has to have the root that it states, and that of --left-root or --right-root. The \
        difference is found by bisection over the roots in the traces: of a trace at an executor only these (72 bytes for 256 \
        events) and one block of 256 events are fetched; they have to make up the root of its receipt. With \
        --left-root or --right-root all of it is fetched and checked. What only one of them has in that block is listed too, so \
        that runs of two programs can be compared.\n\n\
        Exit codes, as diff(1) has them:\n  \
        0  the traces are the same\n  \
        1  they differ\n  \
        2  trouble: bad arguments, a trace that was cut off or altered or has another root than it should, an executor \
        that cannot be reached\n  \
        7  an executor's receipt is of another job, or it is none\n\n\
        Examples:\n  \
        sandrun-pool trace diff one.trace two.trace\n  \
        sandrun-pool trace diff one.trace http://127.0.0.1:8443/job-0123456789abcdef0123456789abcdef\n  \
        sandrun-pool trace diff one.trace two.trace --left-root one.receipt.json\n  \
        sandrun-pool trace diff --json one.trace two.trace"))]
    Diff(diff::Arguments),
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    let mut signals = Signals::watch();
    let work = async {
        match arguments.action {
            Action::Show(it) => show::run(it, output).await,
            Action::Diff(it) => diff::run(&it, output).await,
        }
    };
    // what was fetched into temporary folders goes with it
    tokio::select! {
        done = work => done,
        status = signals.asked() => Ok(status),
    }
}

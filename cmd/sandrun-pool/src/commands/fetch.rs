//! `fetch`: downloads the result of a job that was posted earlier, and checks it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use client_sdk::Client;
use sandrun_core::market::Phase;

use super::{finished, place};
use crate::args::{ChainArgs, StoreArgs};
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::progress::Progress;
use crate::remote::{self, RemoteArgs};
use crate::view::{PoolArgs, View, unknown};

/// Arguments of `fetch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool fetch 0x1234…\n  \
    sandrun-pool fetch 0x12345678 --out results     # the first digits are enough where they are unique\n  \
    sandrun-pool fetch 0123456789abcdef --to http://127.0.0.1:8000\n\n\
    It needs no key. On the market a result is checked against what the nodes agreed on, at a service against the receipt\n\
    that the executor has signed. It ends as `submit` does: 5 when the program failed, 6 when nothing was agreed on.")]
pub(crate) struct Arguments {
    /// The job's id; on the market its first digits are enough
    job: String,
    /// Where the result goes; ./results/JOB when not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pool: PoolArgs,
}

/// Fetches the result.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        return remote::fetch(to, &arguments.job, arguments.out.as_deref(), output).await;
    }
    place::check(arguments.out.as_deref())?;
    let store = arguments.store.client()?;
    let view = View::open(&arguments.chain, &arguments.pool, output).await?;
    let job = view.resolve(&arguments.job).await?;
    let Some(entry) = view.job(job).await? else {
        return Err(unknown(&arguments.job));
    };
    if entry.facts.phase != Phase::Closed {
        let text =
            format!("job {job} is not over, and has no result yet: `sandrun-pool job {job} --why` says why");
        return Err(Failure::new(Status::Failure, text));
    }
    let is_usual = arguments.out.is_none();
    let out = place::of(arguments.out, job);
    if is_usual {
        place::check_usual(&out)?;
    }
    place::check(Some(&out))?;
    let client = Client::new(view.reader().clone(), Arc::new(store));
    let progress = Progress::new(output);
    finished::report(&client, &entry, &out, None, &progress, output).await
}

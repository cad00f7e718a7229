//! `cancel`: takes a job back; on the market while nobody has a seat.

use std::sync::Arc;

use clap::Args;
use client_sdk::Client;
use sandrun_chain::MarketReader;
use sandrun_types::JobId;
use serde::Serialize;

use crate::args::{ChainArgs, KeyArgs, StoreArgs};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::remote::{self, RemoteArgs};
use crate::view::View;

/// Arguments of `cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool cancel 0x1234…\n  \
    sandrun-pool cancel 0123456789abcdef --to http://127.0.0.1:8000\n\n\
    On the market all comes back before the lottery's seed is known; after it, while no seat is taken, all but the attempt fee.")]
pub(crate) struct Arguments {
    /// The job's id; on the market its first digits are enough
    job: String,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Cancelled {
    job: JobId,
    transaction: String,
}

impl Report for Cancelled {
    fn human(&self) -> String {
        format!(
            "cancelled {}; `sandrun-pool withdraw` pays the balance out\n",
            self.job
        )
    }
}

/// Cancels the job.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        return remote::cancel(to, &arguments.job, output).await;
    }
    let key = arguments.key.load()?;
    let store = arguments.store.client()?;
    let market = arguments.chain.market().await?;
    let client = Client::new(
        MarketReader::new(market.chain, market.deployment),
        Arc::new(store),
    );
    let job = View::of_chain(client.reader().clone(), output)
        .resolve(&arguments.job)
        .await?;
    let windows = client.windows().await.status(Status::Unreachable)?;
    let entry = client.job(job, windows).await.status(Status::BadInput)?;
    if let Some(outcome) = entry.facts.outcome() {
        let text = format!(
            "job {job} is over ({}): there is nothing to cancel; `sandrun-pool job {job}` says how it ended",
            crate::words::outcome(outcome)
        );
        return Err(Failure::new(Status::Refused, text));
    }
    let transaction = client
        .cancel(&key, &entry.facts.order)
        .await
        .status(Status::Refused)?;
    output.result(&Cancelled {
        job,
        transaction: transaction.hash.to_string(),
    })?;
    Ok(Status::Success)
}

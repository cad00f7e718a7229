//! `jobs`: the market's jobs, newest first.

use clap::Args;
use client_sdk::{JobEntry, Snapshot};
use sandrun_chain::MarketReader;
use sandrun_core::market::{Outcome, Phase};
use sandrun_types::{Address, Amount, JobId, Token};
use serde::Serialize;

use crate::args::ChainArgs;
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report, table};

/// Arguments of `jobs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool jobs\n  \
    sandrun-pool jobs --open --json\n  \
    sandrun-pool jobs --client 0x…")]
pub(crate) struct Arguments {
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only those that are not closed
    #[arg(long)]
    open: bool,
    /// Only those of this client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<Address>,
    #[command(flatten)]
    chain: ChainArgs,
}

#[derive(Debug, Serialize)]
struct Row {
    job: JobId,
    client: Address,
    phase: Phase,
    outcome: Option<Outcome>,
    redundancy: u8,
    seats: usize,
    price: Amount,
    token: Token,
    block: u64,
    posted_at: u64,
}

#[derive(Debug, Serialize)]
struct List {
    jobs: Vec<Row>,
    total: usize,
}

impl Report for List {
    fn human(&self) -> String {
        let heading = ["JOB", "STATE", "SEATS", "PRICE", "CLIENT", "BLOCK"]
            .map(str::to_owned)
            .to_vec();
        let rows = self.jobs.iter().map(|row| {
            let state = row
                .outcome
                .map_or_else(|| format!("{:?}", row.phase), |outcome| format!("{outcome:?}"));
            vec![
                row.job.short(),
                state,
                format!("{}/{}", row.seats, row.redundancy),
                row.price.to_string(),
                row.client.to_string(),
                row.block.to_string(),
            ]
        });
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
    }
}

/// Lists the jobs.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let market = arguments.chain.market().await?;
    let reader = MarketReader::new(market.chain, market.deployment);
    let snapshot = Snapshot::read(&reader).await.status(Status::Unreachable)?;
    let wanted = |entry: &&JobEntry| {
        (!arguments.open || entry.facts.phase != Phase::Closed)
            && arguments
                .client
                .is_none_or(|client| entry.facts.order.client == client)
    };
    let jobs = snapshot
        .jobs
        .iter()
        .rev()
        .filter(wanted)
        .take(arguments.limit)
        .map(|entry| Row {
            job: entry.facts.job,
            client: entry.facts.order.client,
            phase: entry.facts.phase,
            outcome: entry.facts.outcome(),
            redundancy: entry.facts.order.redundancy.replicas(),
            seats: entry.facts.seats.len(),
            price: entry.facts.order.price,
            token: entry.facts.order.token,
            block: entry.posted.block.number,
            posted_at: entry.posted.timestamp.0,
        });
    output.result(&List {
        jobs: jobs.collect(),
        total: snapshot.jobs.len(),
    })?;
    Ok(Status::Success)
}

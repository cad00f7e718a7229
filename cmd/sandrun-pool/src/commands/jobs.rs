//! `jobs`: the market's jobs or a service's, newest first.

use clap::Args;
use client_sdk::{JobEntry, JobsQuery};
use sandrun_core::market::{Outcome, Phase};
use sandrun_types::{Address, JobId, Token};
use serde::Serialize;

use crate::args::ChainArgs;
use crate::coins::{self, Coins};
use crate::exit::{Failure, Status};
use crate::output::{Output, Report, table};
use crate::remote::{self, RemoteArgs};
use crate::view::{PoolArgs, View};
use crate::words;

/// Arguments of `jobs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool jobs\n  \
    sandrun-pool jobs --open --json\n  \
    sandrun-pool jobs --client 0x…\n  \
    sandrun-pool jobs --open --to http://127.0.0.1:8000")]
pub(crate) struct Arguments {
    /// How many, 1 to 1000
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Only those that are not closed
    #[arg(long)]
    open: bool,
    /// Only those of this client: on the market an address, at a service a name
    #[arg(long, value_name = "ADDRESS|NAME")]
    client: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    pool: PoolArgs,
}

#[derive(Debug, Serialize)]
struct Row {
    job: JobId,
    client: Address,
    phase: Phase,
    outcome: Option<Outcome>,
    redundancy: u8,
    seats: usize,
    /// Whole coins or tokens per replica.
    price: String,
    token: Token,
    /// What the token is called.
    symbol: String,
    block: u64,
    posted_at: u64,
}

#[derive(Debug, Serialize)]
struct List {
    jobs: Vec<Row>,
    total: u64,
}

impl Report for List {
    fn human(&self) -> String {
        let heading = ["JOB", "STATE", "SEATS", "PRICE", "CLIENT", "BLOCK"]
            .map(str::to_owned)
            .to_vec();
        let rows = self.jobs.iter().map(|row| {
            let state = row
                .outcome
                .map_or_else(|| words::phase(row.phase), words::outcome)
                .to_owned();
            vec![
                row.job.short(),
                state,
                format!("{}/{}", row.seats, row.redundancy),
                format!("{} {}", row.price, row.symbol),
                coins::short(row.client),
                row.block.to_string(),
            ]
        });
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
    }
}

fn address(text: &str) -> anyhow::Result<Address> {
    text.parse().map_err(|error| {
        let text = format!("--client `{text}` is not an address ({error}); on the market a client is one");
        Failure::new(Status::BadInput, text)
    })
}

/// Lists the jobs.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        return remote::list(
            to,
            arguments.limit,
            arguments.open,
            arguments.client.clone(),
            output,
        )
        .await;
    }
    let client = arguments.client.as_deref().map(address).transpose()?;
    let view = View::open(&arguments.chain, &arguments.pool, output).await?;
    let query = JobsQuery {
        open: arguments.open,
        client,
        prefix: None,
        // one more tells whether there is more
        limit: Some(arguments.limit.saturating_add(1)),
    };
    let mut found = view.jobs(&query).await?;
    let most = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let is_cut = found.jobs.len() > most;
    found.jobs.truncate(most);
    let tokens = found.jobs.iter().map(|it| it.facts.order.token);
    let coins = Coins::of(view.reader(), tokens).await?;
    let row = |entry: &JobEntry| Row {
        job: entry.facts.job,
        client: entry.facts.order.client,
        phase: entry.facts.phase,
        outcome: entry.facts.outcome(),
        redundancy: entry.facts.order.redundancy.replicas(),
        seats: entry.facts.seats.len(),
        price: coins.amount(entry.facts.order.token, entry.facts.order.price),
        token: entry.facts.order.token,
        symbol: coins.name(entry.facts.order.token),
        block: entry.posted.block.number,
        posted_at: entry.posted.timestamp.0,
    };
    let list = List {
        jobs: found.jobs.iter().map(row).collect(),
        total: found.total,
    };
    output.result(&list)?;
    if is_cut && !arguments.open && client.is_none() {
        output.note(&format!("{most} of {}; --limit shows more", list.total));
    } else if is_cut {
        output.note(&format!("the first {most}; --limit shows more"));
    }
    Ok(Status::Success)
}

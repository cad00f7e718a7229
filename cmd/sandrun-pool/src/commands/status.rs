//! `status`: the market, or a service, as a whole.

use clap::Args;
use sandrun_types::{Address, Amount, ChainId};
use serde::Serialize;

use crate::args::ChainArgs;
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::remote::{self, RemoteArgs};
use crate::view::{PoolArgs, View};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sandrun-pool status\n  sandrun-pool status --json\n  \
    sandrun-pool status --to http://127.0.0.1:8000"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    pool: PoolArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    chain: ChainId,
    escrow: Address,
    block: u64,
    nodes: usize,
    /// Coins.
    stake: String,
    /// Coins.
    locked_bonds: String,
    jobs: u64,
    open: u64,
    seats_wanted: u64,
    running: u64,
    revealing: u64,
    closed: u64,
}

impl Report for Shown {
    fn human(&self) -> String {
        format!(
            "chain    {} at block {}\nescrow   {}\nnodes    {} with {} staked, {} in bonds\njobs     {}: {} open \
             ({} wait for seats, {} run, {} reveal), {} closed\n",
            self.chain,
            self.block,
            self.escrow,
            self.nodes,
            self.stake,
            self.locked_bonds,
            self.jobs,
            self.open,
            self.seats_wanted,
            self.running,
            self.revealing,
            self.closed
        )
    }
}

/// Shows the market.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        return remote::overview(to, output).await;
    }
    let view = View::open(&arguments.chain, &arguments.pool, output).await?;
    let nodes = view.reader().nodes().await.status(Status::Unreachable)?;
    let (jobs, block) = view.counts().await?;
    let sum = |of: fn(&sandrun_chain::NodeRecord) -> Amount| {
        nodes
            .iter()
            .map(of)
            .fold(Amount::ZERO, |sum, it| sum.checked_add(it).unwrap_or(sum))
    };
    let deployment = view.reader().deployment();
    output.result(&Shown {
        chain: deployment.chain,
        escrow: deployment.escrow,
        block,
        nodes: nodes.len(),
        stake: sum(|node| node.registry.stake).to_string(),
        locked_bonds: sum(|node| node.escrow.locked).to_string(),
        jobs: jobs.total(),
        open: jobs.open(),
        seats_wanted: jobs.seats,
        running: jobs.run,
        revealing: jobs.reveal,
        closed: jobs.closed,
    })?;
    Ok(Status::Success)
}

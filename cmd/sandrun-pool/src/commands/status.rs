//! `status`: the market as a whole.

use clap::Args;
use client_sdk::Snapshot;
use sandrun_chain::MarketReader;
use sandrun_core::market::Phase;
use sandrun_types::{Address, Amount, ChainId};
use serde::Serialize;

use crate::args::ChainArgs;
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sandrun-pool status\n  sandrun-pool status --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    chain: ChainArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    chain: ChainId,
    escrow: Address,
    block: u64,
    nodes: usize,
    stake: Amount,
    locked_bonds: Amount,
    jobs: usize,
    open: usize,
    seats_wanted: usize,
    running: usize,
    revealing: usize,
    closed: usize,
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
    let market = arguments.chain.market().await?;
    let reader = MarketReader::new(market.chain, market.deployment);
    let snapshot = Snapshot::read(&reader).await.status(Status::Unreachable)?;
    let nodes = reader.nodes().await.status(Status::Unreachable)?;
    let sum = |of: fn(&sandrun_chain::NodeRecord) -> Amount| {
        nodes
            .iter()
            .map(of)
            .fold(Amount::ZERO, |sum, it| sum.checked_add(it).unwrap_or(sum))
    };
    let count = |phase| snapshot.jobs.iter().filter(|it| it.facts.phase == phase).count();
    output.result(&Shown {
        chain: reader.deployment().chain,
        escrow: reader.deployment().escrow,
        block: snapshot.head.block.number,
        nodes: nodes.len(),
        stake: sum(|node| node.escrow.cap),
        locked_bonds: sum(|node| node.escrow.locked),
        jobs: snapshot.jobs.len(),
        open: snapshot.jobs.len() - count(Phase::Closed),
        seats_wanted: count(Phase::Seats),
        running: count(Phase::Run),
        revealing: count(Phase::Reveal),
        closed: count(Phase::Closed),
    })?;
    Ok(Status::Success)
}

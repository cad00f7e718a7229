//! `nodes`: who is there, with what.

use clap::Args;
use sandrun_chain::NodeRecord;
use sandrun_types::{Address, Capabilities, ClassId, NodeIndex};
use serde::Serialize;

use crate::args::ChainArgs;
use crate::exit::{Status, WithStatus as _};
use crate::output::{Output, Report, table};
use crate::remote::{self, RemoteArgs};
use crate::view::{PoolArgs, View};

/// Arguments of `nodes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool nodes\n  \
    sandrun-pool nodes --json\n  \
    sandrun-pool nodes --to http://127.0.0.1:8000")]
pub(crate) struct Arguments {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    pool: PoolArgs,
}

#[derive(Debug, Serialize)]
struct Row {
    node: NodeIndex,
    account: Address,
    worker: Address,
    /// Coins, as all amounts here.
    stake: String,
    /// What may be locked in this escrow.
    cap: String,
    locked: String,
    /// What is not withdrawn.
    earned: String,
    reputation: u16,
    classes: Vec<ClassId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities>,
}

#[derive(Debug, Serialize)]
struct List {
    nodes: Vec<Row>,
}

impl Report for List {
    fn human(&self) -> String {
        let heading = [
            "NODE",
            "ACCOUNT",
            "STAKE",
            "IN BONDS",
            "TO WITHDRAW",
            "REPUTATION",
            "CORES",
            "MEMORY",
        ];
        let rows = self.nodes.iter().map(|row| {
            let machine = row.capabilities.as_ref();
            vec![
                row.node.to_string(),
                crate::coins::short(row.account),
                row.stake.clone(),
                row.locked.clone(),
                row.earned.clone(),
                row.reputation.to_string(),
                machine.map_or_else(String::new, |it| it.cpu.cores.to_string()),
                machine.map_or_else(String::new, |it| format!("{} MiB", it.memory_mib)),
            ]
        });
        table(
            &std::iter::once(heading.map(str::to_owned).to_vec())
                .chain(rows)
                .collect::<Vec<_>>(),
        )
    }
}

/// Lists the nodes.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    if let Some(to) = arguments.remote.address() {
        return remote::nodes(to, output).await;
    }
    let view = View::open(&arguments.chain, &arguments.pool, output).await?;
    let records = view.reader().nodes().await.status(Status::Unreachable)?;
    let capabilities = view.capabilities().await?;
    let row = |it: &NodeRecord| Row {
        node: it.index,
        account: it.registry.account,
        worker: it.registry.worker,
        stake: it.registry.stake.to_string(),
        cap: it.escrow.cap.to_string(),
        locked: it.escrow.locked.to_string(),
        earned: it.escrow.earned.to_string(),
        reputation: it.escrow.reputation,
        classes: it.classes.clone(),
        capabilities: capabilities.get(&it.index).cloned(),
    };
    output.result(&List {
        nodes: records.iter().map(row).collect(),
    })?;
    Ok(Status::Success)
}

//! `nodes`: who is there, with what.

use clap::Args;
use sandrun_chain::NodeRecord;
use sandrun_types::{Address, Amount, Capabilities, ClassId, NodeIndex};
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
    stake: Amount,
    cap: Amount,
    locked: Amount,
    earned: Amount,
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
            "LOCKED",
            "EARNED",
            "REPUTATION",
            "CORES",
            "MEMORY",
            "GPUS",
        ];
        let rows = self.nodes.iter().map(|row| {
            let machine = row.capabilities.as_ref();
            vec![
                row.node.to_string(),
                row.account.to_string(),
                row.cap.to_string(),
                row.locked.to_string(),
                row.earned.to_string(),
                row.reputation.to_string(),
                machine.map_or_else(String::new, |it| it.cpu.cores.to_string()),
                machine.map_or_else(String::new, |it| format!("{} MiB", it.memory_mib)),
                machine.map_or_else(String::new, |it| it.gpus.len().to_string()),
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
        stake: it.registry.stake,
        cap: it.escrow.cap,
        locked: it.escrow.locked,
        earned: it.escrow.earned,
        reputation: it.escrow.reputation,
        classes: it.classes.clone(),
        capabilities: capabilities.get(&it.index).cloned(),
    };
    output.result(&List {
        nodes: records.iter().map(row).collect(),
    })?;
    Ok(Status::Success)
}

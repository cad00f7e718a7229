//! `testnet`: a local market until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sandrun_testnet::{Lines, LocalMarket, Ports, Role, Store, TestnetConfig};

use crate::args::ChainArgs;
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::Output;
use crate::signals::shutdown;

/// Arguments of `testnet`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool testnet\n  \
    sandrun-pool testnet --nodes 5 --liar --silent\n  \
    sandrun-pool testnet --kubo /usr/local/bin/ipfs\n\n\
    The commands find the testnet by themselves; --key is printed.")]
pub(crate) struct Arguments {
    /// Honest nodes; 0 leaves the work to nodes of your own
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// One more node, which reveals a wrong digest, and is shut out of the market when it is slashed for that
    #[arg(long)]
    liar: bool,
    /// One more node, which takes a seat and says nothing
    #[arg(long)]
    silent: bool,
    /// Seconds between blocks
    #[arg(long, default_value_t = 1)]
    block_time: u32,
    /// Any free ports instead of the usual ones
    #[arg(long)]
    free_ports: bool,
    /// A Kubo of this program (`ipfs`), without a network, as the content store in place of the embedded one
    #[arg(long, value_name = "PROGRAM")]
    kubo: Option<PathBuf>,
    /// Directory for state, keys and logs: a new or empty one, or an earlier testnet's, which is emptied
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Nodes of these numbers.
pub(super) fn roles(honest: u8, liar: bool, silent: bool) -> Vec<Role> {
    let mut roles = vec![Role::Honest; usize::from(honest)];
    roles.extend(liar.then_some(Role::Liar));
    roles.extend(silent.then_some(Role::Silent));
    roles
}

/// Starts the market, waits, stops it.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let config = TestnetConfig {
        program: std::env::current_exe().context("the path of this program can't be found")?,
        directory: arguments
            .data_dir
            .clone()
            .unwrap_or_else(|| crate::config::home().join("testnet")),
        publish: Some(ChainArgs::local_deployments()),
        nodes: roles(arguments.nodes, arguments.liar, arguments.silent),
        block_time: Some(arguments.block_time.max(1)),
        ports: if arguments.free_ports {
            Ports::Free
        } else {
            Ports::Usual
        },
        manager: true,
        store: arguments.kubo.clone().map_or(Store::Embedded, Store::Kubo),
        lines: Lines::default(),
        agent_arguments: Vec::new(),
    };
    let logs = config.directory.join("logs");
    let stop = shutdown();
    tokio::pin!(stop);
    let mut market = tokio::select! {
        market = LocalMarket::start(config, |line| output.note(line)) => market.status(Status::Unreachable)?,
        () = &mut stop => return Ok(Status::Success),
    };
    output.note(&format!(
        "client           {} (1000 coin, 1000 TEST)\n\nTry, in another terminal:\n  export SANDRUN_KEY={}\n  \
         export SANDRUN_RPC={} SANDRUN_IPFS_API={} SANDRUN_POOL={}\n  \
         sandrun-pool submit --code testnet/jobs/keeling-curve --payment 0.1 --redundancy 3\n\nThe services' logs are in {}.\n\
         Ctrl-C ends everything.",
        market.client,
        market.client_key.display(),
        market.rpc,
        market.ipfs_api,
        market.pool.as_deref().unwrap_or_default(),
        logs.display(),
    ));
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = look.tick() => {
                let ended = market.ended();
                if !ended.is_empty() {
                    market.stop().await;
                    let text = format!("{} ended; its log says why", ended.join(", "));
                    return Err(Failure::new(Status::Unreachable, text));
                }
            }
        }
    }
    output.note("stopping");
    market.stop().await;
    Ok(Status::Success)
}

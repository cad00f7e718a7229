//! `pool`: a manager as a service.

use std::path::PathBuf;

use clap::Args;
use pool_manager::{Manager, ManagerConfig, ManagerError};
use sandrun_chain::MarketReader;

use crate::args::{ChainArgs, ListenArgs, PasswordArgs};
use crate::exit::{Failure, Status, words};
use crate::output::announce;
use crate::signals::shutdown;

/// Arguments of `pool`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool pool                       # index and queries\n  \
    sandrun-pool pool --key keeper.key      # also does what is due, with this key's coin\n  \
    curl http://127.0.0.1:9545/v1/jobs?open=true")]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: ListenArgs,
    /// Port; 0 takes any free one
    #[arg(long, default_value_t = 9545, env = "SANDRUN_POOL_PORT")]
    port: u16,
    /// Directory of the index
    #[arg(long, value_name = "DIR", env = "SANDRUN_POOL_DIR")]
    data_dir: Option<PathBuf>,
    /// Leave it to others to credit the rest of closed jobs, which tips nobody
    #[arg(long)]
    no_refunds: bool,
    #[command(flatten)]
    chain: ChainArgs,
    /// Key file of the account that pays for doing what is due; nothing is done without. Never taken from SANDRUN_KEY,
    /// which is a client's
    #[arg(long, value_name = "FILE", env = "SANDRUN_KEEPER_KEY")]
    key: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Runs until the process is told to end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let load = |path: &PathBuf| arguments.password.load(path);
    let keeper = arguments.key.as_ref().map(load).transpose()?;
    let market = arguments.chain.market().await?;
    let config = ManagerConfig {
        reader: MarketReader::new(market.chain, market.deployment),
        listen: arguments.listen.at(arguments.port),
        data_dir: arguments
            .data_dir
            .unwrap_or_else(|| crate::config::home().join("pool")),
        keeper,
        refunds: !arguments.no_refunds,
    };
    let manager = Manager::start(config).await.map_err(|error| {
        let status = match error {
            ManagerError::Listen { .. } | ManagerError::Directory { .. } | ManagerError::Index(_) => {
                Status::BadInput
            }
            ManagerError::Read(_)
            | ManagerError::Snapshot(_)
            | ManagerError::Facts(_)
            | ManagerError::Format { .. }
            | ManagerError::Watch(_)
            | ManagerError::Task(_) => Status::Unreachable,
        };
        Failure::new(status, words(&error.into()))
    })?;
    announce(&format!("listening on http://{}", manager.local_addr()));
    manager.run(shutdown()).await?;
    Ok(Status::Success)
}

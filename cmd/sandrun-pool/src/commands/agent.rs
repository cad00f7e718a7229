//! `agent`: a node's agent as a service.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use node_agent::{AgentConfig, AgentError, Misbehaviour, OperatorError, TokenPolicy};
use sandrun_chain::VerifyError;
use sandrun_types::{Address, Amount, ClassRequest};

use crate::args::{ChainArgs, KeyArgs, MetricsArgs, StoreArgs};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::announce;
use crate::signals::shutdown;

/// Arguments of `agent`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool agent --key node.key --stake 1 --sandrun-url http://localhost:8443 \\\n    \
      --blockchain-rpc http://localhost:8545 --ipfs-api http://localhost:5001\n\n\
    The agent registers and stakes by itself at its first start; `stake`, `earnings` and `withdraw` show and move its\n\
    money. The content store is its own: it pins there what its jobs need, and unpins it after them, whoever else wants it.\n\
    It ends within ten seconds of SIGTERM and goes on where it was when started again.")]
pub(crate) struct Arguments {
    /// The node's executor
    #[arg(
        long,
        value_name = "URL",
        env = "SANDRUN_URL",
        default_value = "http://127.0.0.1:8443"
    )]
    sandrun_url: String,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    key: KeyArgs,
    /// A separate hot key that signs claims, commits and reveals
    #[arg(long, value_name = "FILE")]
    hot_key: Option<PathBuf>,
    /// The executor's key file, so that its receipts are bound to this node's account
    #[arg(long, value_name = "FILE", env = "SANDRUN_WORKER_KEY")]
    worker_key: Option<PathBuf>,
    /// Where earnings go, from this start on; when not given as before, at the first start to the account itself
    #[arg(long, value_name = "ADDRESS")]
    payout: Option<Address>,
    /// Directory of the journal and the bundles
    #[arg(long, value_name = "DIR", env = "SANDRUN_AGENT_DIR")]
    data_dir: Option<PathBuf>,
    /// Stake to hold, in coins; what is missing is deposited
    #[arg(long, value_name = "COINS", default_value = "1", value_parser = coins)]
    stake: Amount,
    /// Serve these classes only: native, det, det-soft, or exact class ids; all that the executor offers when not given
    #[arg(long, value_name = "CLASS")]
    class: Vec<ClassRequest>,
    /// Least price per job, in coins
    #[arg(long, value_name = "COINS", default_value = "0.001", value_parser = coins)]
    min_price: Amount,
    /// Largest price per job, in coins
    #[arg(long, value_name = "COINS", default_value = "1", value_parser = coins)]
    value_cap: Amount,
    /// Largest bond to put at risk in one job, in coins; the whole stake when not given
    #[arg(long, value_name = "COINS", value_parser = coins)]
    bond_cap: Option<Amount>,
    /// Withdraw earnings from this sum on, in coins
    #[arg(long, value_name = "COINS", default_value = "0.1", value_parser = coins)]
    withdraw_above: Amount,
    /// Take payment in this ERC-20 too: ADDRESS=MINIMUM in the token's base units; repeatable
    #[arg(long, value_name = "ADDRESS=MINIMUM", value_parser = token)]
    accept_token: Vec<(Address, Amount)>,
    /// Jobs under way at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    max_jobs: u32,
    /// Most memory that the executor gives a job, MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    max_memory: u32,
    /// Take no seats while less than this is free in the data directory, MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    min_free_disk: u32,
    /// Stop taking jobs when another answer won in so many `native` jobs within an hour
    #[arg(long, value_name = "N", default_value_t = 3)]
    max_strikes: u32,
    /// Accept jobs again after a fault that stopped this node; forgives all that happened until now
    #[arg(long)]
    resume_after_fault: bool,
    #[command(flatten)]
    metrics: MetricsArgs,
    /// On a test network only: misbehave
    #[arg(long, value_enum, hide = true)]
    misbehave: Option<Misbehave>,
}

/// How a test network's node misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Misbehave {
    /// Reveals a wrong digest.
    Liar,
    /// Takes seats and says nothing.
    Silent,
    /// Takes seats, and says nothing in about every other job.
    Moody,
}

/// Coins as people write them.
pub(super) fn coins(text: &str) -> Result<Amount, sandrun_types::AmountError> {
    Amount::parse(text, Amount::COIN_DECIMALS)
}

fn token(text: &str) -> Result<(Address, Amount), String> {
    let (address, minimum) = text.split_once('=').ok_or("write ADDRESS=MINIMUM")?;
    let address = address
        .parse()
        .map_err(|_| format!("`{address}` is not an address"))?;
    Ok((
        address,
        Amount::parse(minimum, 0).map_err(|error| error.to_string())?,
    ))
}

/// Runs until the process is told to end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let key = arguments.key.load()?;
    let hot_key = arguments
        .hot_key
        .as_deref()
        .map(|file| arguments.key.password.load(file));
    let hot_key = hot_key.transpose()?;
    let chain = arguments.chain.connect().await?;
    let misbehaviour = match arguments.misbehave {
        None => None,
        Some(_) if chain.id() != sandrun_types::ChainId::LOCAL => {
            return Err(Failure::new(
                Status::BadInput,
                "--misbehave is for the local test network (chain 31337) only",
            ));
        }
        Some(Misbehave::Liar) => Some(Misbehaviour::Liar),
        Some(Misbehave::Silent) => Some(Misbehaviour::Silent),
        Some(Misbehave::Moody) => Some(Misbehaviour::Moody),
    };
    let market = arguments.chain.market_on(chain).await?;
    let folder = || {
        crate::config::home()
            .join("agent")
            .join(key.address().to_string())
    };
    let data_dir = arguments.data_dir.clone().unwrap_or_else(folder);
    let mut config = AgentConfig::new(
        arguments.sandrun_url.clone(),
        arguments.chain.blockchain_rpc.clone(),
        arguments.store.ipfs_api.clone(),
        key,
        data_dir,
    );
    config.chain = Some(market.chain.id());
    config.deployment = Some(market.deployment);
    config.worker_key = hot_key;
    config.executor_key = arguments.worker_key;
    config.payout = arguments.payout;
    config.stake = arguments.stake;
    config.classes = arguments.class;
    config.min_price = arguments.min_price;
    config.value_cap = arguments.value_cap;
    config.bond_cap = arguments.bond_cap;
    config.withdraw_threshold = arguments.withdraw_above;
    config.tokens = arguments
        .accept_token
        .into_iter()
        .map(|(token, min_price)| TokenPolicy {
            token,
            min_price,
            withdraw_threshold: min_price,
        })
        .collect();
    config.max_jobs = arguments.max_jobs;
    config.max_memory_mib = arguments.max_memory;
    config.min_free_disk = u64::from(arguments.min_free_disk) * 1024 * 1024;
    config.strikes.most = arguments.max_strikes;
    config.resume_after_fault = arguments.resume_after_fault;
    config.misbehaviour = misbehaviour;
    config.metrics = arguments.metrics.listen();
    let ready = |node: sandrun_types::NodeIndex| announce(&format!("ready: node {node}"));
    match node_agent::run_with(config, ready, shutdown()).await {
        Ok(()) => Ok(Status::Success),
        Err(error) => {
            let status = status_of(&error);
            Err(error).status(status)
        }
    }
}

/// What an agent's failure means to a script.
fn status_of(error: &AgentError) -> Status {
    use AgentError as E;
    match error {
        E::Deployment(_)
        | E::Metrics(_)
        | E::ClassNotOffered { .. }
        | E::OtherExecutorKey { .. }
        | E::ExecutorKey(_)
        | E::OtherWorker { .. }
        | E::WorkerTaken { .. }
        | E::Twin { .. }
        | E::Capabilities(_)
        | E::Misbehaviour { .. } => Status::BadInput,
        E::NotEnoughCoin { .. } | E::OtherChain { .. } | E::OtherGenesis { .. } => Status::Refused,
        E::Contracts(source) if !matches!(**source, VerifyError::Rpc(_)) => Status::Refused,
        E::Enrol { source, .. } if !matches!(**source, OperatorError::Read(_)) => Status::Refused,
        E::Connect(_)
        | E::Contracts(_)
        | E::Enrol { .. }
        | E::Read(_)
        | E::Rpc(_)
        | E::Content { .. }
        | E::Executor { .. }
        | E::AnonymousExecutor { .. }
        | E::NoClass { .. } => Status::Unreachable,
        E::Folder(_) | E::Journal(_) | E::Task(_) => Status::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_account_is_the_chains_refusal_and_no_unreachable_service() {
        let poor = AgentError::NotEnoughCoin {
            account: Address::ZERO,
            balance: Amount::ZERO,
            needed: Amount::from_gwei(1),
            what: "stake",
        };
        assert_eq!(status_of(&poor).code(), 4);
        let url = || "http://127.0.0.1:1".to_owned();
        assert_eq!(status_of(&AgentError::NoClass { url: url() }).code(), 3);
        let offered = vec![sandrun_types::ClassId([0; 32])];
        assert_eq!(status_of(&AgentError::ClassNotOffered { offered }).code(), 2);
    }
}

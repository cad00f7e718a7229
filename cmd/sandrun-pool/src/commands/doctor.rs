//! `doctor`: looks at what this machine is set up for and says what is wrong. Changes nothing; all checks run at once,
//! each with a bound of its own.

mod chain;
mod clock;
mod finding;
mod keys;
mod machine;
mod services;
mod store;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use clap::Args;
use sandrun_types::Address;

use crate::args::PasswordArgs;
use crate::exit::Status;
use crate::output::Output;
use finding::{Diagnosis, Finding, LeftOut};
use keys::{Account, KeyFile};
use tokio::sync::oneshot;

/// Longest that one check may take.
const PATIENCE: Duration = Duration::from_secs(11);
/// Longest wait for one answer: some checks ask more than once.
const ANSWER: Duration = Duration::from_secs(4);

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool doctor                       # this machine, and what the environment and the configuration file name\n  \
    sandrun-pool doctor --blockchain-rpc http://localhost:8545 --ipfs-api http://localhost:5001 \\\n    \
      --sandrun-url http://localhost:8443 --key node.key\n  \
    sandrun-pool doctor --to http://localhost:8000 --json\n\n\
    Nothing is changed: a block of a few bytes is put into the content store and read again, and a small file is written\n\
    to each data directory and removed. Ends with 0 when nothing failed, and with 1 when something did.")]
pub(crate) struct Arguments {
    /// RPC of the chain
    #[arg(long, value_name = "URL", env = "SANDRUN_RPC", hide_env_values = true)]
    blockchain_rpc: Option<String>,
    /// Chain id that the RPC has to serve
    #[arg(long, value_name = "ID", env = "SANDRUN_CHAIN_ID")]
    chain_id: Option<u64>,
    /// Deployments by chain id (JSON)
    #[arg(long, value_name = "FILE", env = "SANDRUN_DEPLOYMENTS")]
    deployments: Option<PathBuf>,
    /// Escrow contract, where no file knows it; needs --registry
    #[arg(long, value_name = "ADDRESS", value_parser = crate::coins::address, requires = "registry", env = "SANDRUN_ESCROW")]
    escrow: Option<Address>,
    /// Registry contract, where no file knows it
    #[arg(long, value_name = "ADDRESS", value_parser = crate::coins::address, requires = "escrow", env = "SANDRUN_REGISTRY")]
    registry: Option<Address>,
    /// WebSocket of the chain's RPC (ws://), for other programs that use one
    #[arg(long, value_name = "URL", hide_env_values = true)]
    websocket: Option<String>,
    /// RPC of the content store
    #[arg(long, value_name = "URL", env = "SANDRUN_IPFS_API")]
    ipfs_api: Option<String>,
    /// Executor
    #[arg(long, value_name = "URL", env = "SANDRUN_URL")]
    sandrun_url: Option<String>,
    /// Manager of the market
    #[arg(long, value_name = "URL", env = "SANDRUN_POOL")]
    pool: Option<String>,
    /// Broker, coordinator or executor
    #[arg(long, value_name = "URL", env = "SANDRUN_TO", hide_env_values = true)]
    to: Option<String>,
    /// Broker of a node on this machine
    #[arg(long, value_name = "URL", env = "BROKER_URL")]
    broker: Option<String>,
    /// Key file of an account that sends transactions
    #[arg(long, value_name = "FILE", env = "SANDRUN_KEY")]
    key: Option<PathBuf>,
    /// A node's hot key
    #[arg(long, value_name = "FILE")]
    hot_key: Option<PathBuf>,
    /// Key file of the executor
    #[arg(long, value_name = "FILE", env = "SANDRUN_WORKER_KEY")]
    worker_key: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordArgs,
    /// Data directory of a service; repeatable. What services have at their usual places is looked at anyway
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
    /// Do not try the sandbox: on a machine that runs no jobs
    #[arg(long)]
    no_isolation: bool,
}

/// What one check found.
type Findings = Vec<Finding>;
type Check<'a> = Pin<Box<dyn Future<Output = Findings> + 'a>>;

/// Looks, and says what it saw.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<Status> {
    let watch = clock::Watch::start();
    let mut checks: Vec<(&'static str, Check<'_>)> = Vec::new();
    let mut left_out = Vec::new();
    plan(arguments, &mut checks, &mut left_out);
    let bounded = checks.into_iter().map(|(what, check)| async move {
        match tokio::time::timeout(PATIENCE, check).await {
            Ok(found) => found,
            Err(_) => vec![Finding::fail(
                what,
                format!("the check did not end within {} s", PATIENCE.as_secs()),
                "look whether what it asks hangs; run doctor again",
            )],
        }
    });
    let mut findings: Findings = futures::future::join_all(bounded)
        .await
        .into_iter()
        .flatten()
        .collect();
    findings.push(watch.finding());
    let diagnosis = Diagnosis::new(findings, left_out);
    output.result(&diagnosis)?;
    Ok(if diagnosis.failed > 0 {
        Status::Failure
    } else {
        Status::Success
    })
}

/// What is to be checked, and what is not configured.
fn plan<'a>(
    arguments: &'a Arguments,
    checks: &mut Vec<(&'static str, Check<'a>)>,
    left_out: &mut Vec<LeftOut>,
) {
    let mut skip = |what, how| left_out.push(LeftOut { what, how });
    let keys = keys::of(arguments);
    if keys.is_empty() {
        skip(
            "keys",
            "--key, --hot-key (accounts), --worker-key (executor) FILE",
        );
    }
    let (tell, accounts) = oneshot::channel();
    match &arguments.blockchain_rpc {
        Some(rpc) => checks.push(("chain", Box::pin(on_chain(arguments, rpc, accounts)))),
        None => skip("chain and contracts", "--blockchain-rpc URL (SANDRUN_RPC)"),
    }
    match &arguments.websocket {
        Some(url) => checks.push(("websocket", Box::pin(chain::websocket(url)))),
        None => skip("websocket of the chain", "--websocket URL"),
    }
    match &arguments.ipfs_api {
        Some(api) => checks.push(("content store", Box::pin(store::check(api)))),
        None => skip("content store", "--ipfs-api URL (SANDRUN_IPFS_API)"),
    }
    match &arguments.sandrun_url {
        Some(url) => {
            let key = arguments.worker_key.as_deref();
            checks.push(("executor", Box::pin(services::executor(url, key))));
        }
        None => skip("executor", "--sandrun-url URL (SANDRUN_URL)"),
    }
    match &arguments.pool {
        Some(url) => checks.push(("manager", Box::pin(services::manager(url)))),
        None => skip("manager", "--pool URL (SANDRUN_POOL)"),
    }
    let urls = services(arguments);
    if urls.is_empty() {
        let how = "--to URL (SANDRUN_TO), --broker URL (BROKER_URL)";
        skip("broker or coordinator", how);
    }
    for url in urls {
        // under whichever name it is given: one service is one finding
        if !arguments
            .sandrun_url
            .as_deref()
            .is_some_and(|it| is_same(it, url))
        {
            checks.push(("service", Box::pin(services::pool(url))));
        }
    }
    checks.push(("keys", Box::pin(key_files(arguments, keys, tell))));
    checks.push(("clock", Box::pin(clock::services(arguments))));
    let directories = machine::directories(&arguments.data_dir);
    if directories.is_empty() {
        skip("data directories", "--data-dir DIR");
    }
    checks.push(("disk", Box::pin(machine::disks(directories))));
    if arguments.no_isolation {
        skip("isolation", "leave --no-isolation out");
    } else {
        checks.push(("isolation", Box::pin(machine::isolation())));
    }
}

/// The chain, its contracts, and the accounts of the keys on it, as soon as those are known.
async fn on_chain(arguments: &Arguments, rpc: &str, accounts: oneshot::Receiver<Vec<Account>>) -> Findings {
    let (mut found, reached) = chain::check(arguments, rpc).await;
    let accounts = accounts.await.unwrap_or_default();
    found.extend(keys::on_chain(accounts, &reached).await);
    found
}

/// The key files; tells which accounts they are of.
async fn key_files(
    arguments: &Arguments,
    files: Vec<KeyFile>,
    tell: oneshot::Sender<Vec<Account>>,
) -> Findings {
    let (found, accounts) = keys::files(arguments, files).await;
    // without a chain nobody wants to know
    let _ = tell.send(accounts);
    found
}

/// The addresses of brokers and coordinators, each once.
fn services(arguments: &Arguments) -> Vec<&str> {
    let mut urls: Vec<&str> = Vec::new();
    for url in [&arguments.to, &arguments.broker].into_iter().flatten() {
        let url = url.trim();
        if !url.is_empty() && !urls.iter().any(|it| is_same(it, url)) {
            urls.push(url);
        }
    }
    urls
}

/// Whether two addresses are one, written differently.
fn is_same(one: &str, other: &str) -> bool {
    let bare = |url: &str| url.trim().trim_end_matches('/').to_ascii_lowercase();
    bare(one) == bare(other)
}

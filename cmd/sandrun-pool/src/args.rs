//! Groups of arguments that several commands share, and what they become.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sandrun_chain::{Chain, ConnectError, ConnectOptions, Deployment, Key, Password, VerifyError};
use sandrun_environment::EnvironmentList;
use sandrun_types::{Address, ChainId};

use crate::config::home;
use crate::exit::{Failure, Status, WithStatus as _, words};

/// Which chain, and which contracts on it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChainArgs {
    /// RPC of the chain
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SANDRUN_RPC",
        default_value = "http://127.0.0.1:8545"
    )]
    pub(crate) blockchain_rpc: String,
    /// Chain id that the RPC has to serve; any when not given
    #[arg(long, global = true, value_name = "ID", env = "SANDRUN_CHAIN_ID")]
    pub(crate) chain_id: Option<u64>,
    /// Longest wait for an answer of the RPC, in seconds
    #[arg(long, global = true, value_name = "SECONDS", env = "SANDRUN_RPC_TIMEOUT", default_value_t = 8,
        value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) rpc_timeout: u64,
    /// Deployments by chain id (JSON); the local testnet writes its own
    #[arg(long, global = true, value_name = "FILE", env = "SANDRUN_DEPLOYMENTS")]
    pub(crate) deployments: Option<PathBuf>,
    /// Escrow contract, where no file knows it; needs --registry
    #[arg(long, global = true, value_name = "ADDRESS", value_parser = crate::coins::address, requires = "registry", env = "SANDRUN_ESCROW")]
    pub(crate) escrow: Option<Address>,
    /// Registry contract, where no file knows it
    #[arg(long, global = true, value_name = "ADDRESS", value_parser = crate::coins::address, requires = "escrow", env = "SANDRUN_REGISTRY")]
    pub(crate) registry: Option<Address>,
}

/// A chain with a market on it.
#[derive(Debug, Clone)]
pub(crate) struct Market {
    /// The connection.
    pub(crate) chain: Chain,
    /// The contracts.
    pub(crate) deployment: Deployment,
}

impl ChainArgs {
    /// Where the local testnet writes its deployment.
    pub(crate) fn local_deployments() -> PathBuf {
        home().join("deployments.json")
    }

    /// Connects to the chain.
    pub(crate) async fn connect(&self) -> anyhow::Result<Chain> {
        let options = ConnectOptions {
            timeout: Duration::from_secs(self.rpc_timeout),
            ..ConnectOptions::default()
        };
        let chain = Chain::connect_with(&self.blockchain_rpc, self.chain_id.map(ChainId), options).await;
        chain.map_err(|error| {
            let status = match error {
                ConnectError::BadUrl { .. } | ConnectError::Scheme { .. } => Status::BadInput,
                ConnectError::WrongChain { .. } => Status::Refused,
                ConnectError::Client(_) => Status::Failure,
                ConnectError::Rpc(_) => Status::Unreachable,
            };
            Failure::new(status, words(&error.into()))
        })
    }

    /// Which contracts these arguments mean on `chain`.
    pub(crate) fn deployment(&self, chain: ChainId) -> anyhow::Result<Deployment> {
        if let (Some(escrow), Some(registry)) = (self.escrow, self.registry) {
            let tokens = std::collections::BTreeMap::new();
            return Ok(Deployment {
                chain,
                registry,
                escrow,
                deployed_block: 0,
                tokens,
            });
        }
        if self.escrow.is_some() || self.registry.is_some() {
            let text = "--escrow and --registry belong together: give both, or neither";
            return Err(Failure::new(Status::BadInput, text));
        }
        let local = Self::local_deployments();
        let file = self
            .deployments
            .clone()
            .or_else(|| local.exists().then_some(local));
        Deployment::lookup(chain, file.as_deref()).status(Status::BadInput)
    }

    /// Connects and checks that the contracts are what they should be.
    pub(crate) async fn market(&self) -> anyhow::Result<Market> {
        self.market_on(self.connect().await?).await
    }

    /// Checks that the contracts on `chain` are what they should be.
    pub(crate) async fn market_on(&self, chain: Chain) -> anyhow::Result<Market> {
        let deployment = self.deployment(chain.id())?;
        match deployment.verify(&chain).await {
            Ok(()) => Ok(Market { chain, deployment }),
            Err(error @ VerifyError::Rpc(_)) => Err(error).status(Status::Unreachable),
            Err(error) => Err(error).status(Status::Refused),
        }
    }
}

/// The content store.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// RPC of the content store: a Kubo node or `sandrun-pool content`
    #[arg(
        long,
        value_name = "URL",
        env = "SANDRUN_IPFS_API",
        default_value = "http://127.0.0.1:5001"
    )]
    pub(crate) ipfs_api: String,
}

impl StoreArgs {
    /// A client for the store.
    pub(crate) fn client(&self) -> anyhow::Result<sandrun_content::KuboClient> {
        sandrun_content::KuboClient::new(&self.ipfs_api)
            // the error names the address, without a password
            .context("--ipfs-api")
            .status(Status::BadInput)
    }
}

/// Which environments have names.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnvironmentListArgs {
    /// Names of environments beside the built-in ones: {"environments": {"NAME": "CONTENT ID"}}
    #[arg(long, value_name = "FILE", env = "SANDRUN_ENVIRONMENTS_LIST")]
    environments: Option<PathBuf>,
}

impl EnvironmentListArgs {
    /// The list.
    pub(crate) fn list(&self) -> anyhow::Result<EnvironmentList> {
        match &self.environments {
            Some(file) => EnvironmentList::with_file(file).status(Status::BadInput),
            None => Ok(EnvironmentList::built_in()),
        }
    }
}

/// The key that signs transactions.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// Key file, mode 0600: 64 hex digits, or a keystore
    #[arg(long, global = true, value_name = "FILE", env = "SANDRUN_KEY")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

impl KeyArgs {
    /// Loads the key.
    pub(crate) fn load(&self) -> anyhow::Result<Key> {
        let Some(path) = &self.key else {
            return Err(Failure::new(
                Status::BadInput,
                "this needs a key: give --key FILE (or SANDRUN_KEY); `sandrun-pool keys new FILE` makes one",
            ));
        };
        self.password.load(path)
    }
}

/// What opens a keystore.
#[derive(Debug, Clone, Args)]
pub(crate) struct PasswordArgs {
    /// File with a keystore's password, mode 0600
    #[arg(long, global = true, value_name = "FILE", env = "SANDRUN_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Loads a key file, with the password where it is a keystore.
    pub(crate) fn load(&self, path: &Path) -> anyhow::Result<Key> {
        let password = self.password_file.clone().map(Password::File);
        Key::load(path, password.as_ref()).status(Status::BadInput)
    }
}

/// Where a service that serves nothing else shows its numbers.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct MetricsArgs {
    /// Serve GET /metrics (Prometheus) and GET /health on this port; off when not given
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
    /// Address to serve them on; loopback unless told otherwise
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    metrics_host: std::net::IpAddr,
}

impl MetricsArgs {
    /// Where to listen, if at all.
    pub(crate) fn listen(&self) -> Option<SocketAddr> {
        self.metrics_port
            .map(|port| SocketAddr::new(self.metrics_host, port))
    }
}

/// Where a service listens.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ListenArgs {
    /// Address to listen on; loopback unless told otherwise
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) host: std::net::IpAddr,
}

impl ListenArgs {
    /// The socket address with `port`.
    pub(crate) const fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }
}

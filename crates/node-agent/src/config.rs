//! What an agent is started with. Owns the settings and their defaults; never reads a flag, a file or the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sandrun_chain::{Deployment, Key};
use sandrun_core::seat::StrikeRule;
use sandrun_types::{Address, Amount, ChainId, ClassRequest, JobId, Token};

use crate::detect::Detection;

/// Everything that [`crate::run`] needs to know.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Base URL of the node's executor.
    pub sandrun_url: String,
    /// Base URL of a chain RPC.
    pub rpc: String,
    /// The chain that is expected there; `None` takes the one that answers.
    pub chain: Option<ChainId>,
    /// The market's contracts; `None` looks the chain up among the known deployments.
    pub deployment: Option<Deployment>,
    /// Base URL of a content store with Kubo's RPC.
    pub ipfs_api: String,
    /// The key that owns the node's stake.
    pub key: Key,
    /// A separate hot key that signs claims, commits and reveals; `None` uses [`AgentConfig::key`].
    pub worker_key: Option<Key>,
    /// File of the executor's Ed25519 key, which signs that it belongs to this node's account; `None` announces the
    /// executor's key without a proof. Nothing on chain relies on it.
    pub executor_key: Option<PathBuf>,
    /// Where earnings go, changed in the registry at the start where it says another; `None` for the account itself at the
    /// registration, and for what the registry says from then on.
    pub payout: Option<Address>,
    /// Folder for the journal and for bundles; made if it is missing.
    pub data_dir: PathBuf,
    /// Stake to hold in the registry and to opt in with, wei. What is missing is deposited at the start; more is left.
    pub stake: Amount,
    /// Classes to serve, of those that the executor reports; empty for all of them.
    pub classes: Vec<ClassRequest>,
    /// Least price per replica in the native coin, wei.
    pub min_price: Amount,
    /// Largest price per replica of a job in which a majority of one owner would pay, in base units of its token.
    pub value_cap: Amount,
    /// Largest bond to put at risk in one job, wei; `None` for the whole stake.
    pub bond_cap: Option<Amount>,
    /// Earnings in the native coin are withdrawn from this sum on, wei.
    pub withdraw_threshold: Amount,
    /// ERC-20 tokens that are taken as payment; none other is.
    pub tokens: Vec<TokenPolicy>,
    /// Jobs under way at once.
    pub max_jobs: u32,
    /// Blocks on top of a fact's block that make it final; `None` for the chain's usual number.
    pub confirmations: Option<u64>,
    /// Most memory that the executor gives a job, MiB.
    pub max_memory_mib: u32,
    /// Largest bundle that is fetched, bytes.
    pub max_bundle_bytes: u64,
    /// No seat is taken while fewer bytes are free in [`AgentConfig::data_dir`].
    pub min_free_disk: u64,
    /// How long a bundle may take to arrive before the try counts as failed.
    pub fetch_patience: Duration,
    /// How often the node may be outvoted in `native` jobs before it accepts nothing more.
    pub strikes: StrikeRule,
    /// How to look at the machine.
    pub detection: Detection,
    /// Accept jobs again after a fault that stopped the node: its operator has had a look. Forgives whatever stands in
    /// the chain at the start.
    pub resume_after_fault: bool,
    /// Where to serve `/metrics` and `/health`; `None` serves nothing.
    pub metrics: Option<SocketAddr>,
    /// On a test network only: misbehave.
    pub misbehaviour: Option<Misbehaviour>,
}

/// On which terms an ERC-20 is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPolicy {
    /// The token.
    pub token: Address,
    /// Least price per replica, base units.
    pub min_price: Amount,
    /// Earnings are withdrawn from this sum on, base units.
    pub withdraw_threshold: Amount,
}

/// How a node misbehaves, to show on a test network what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// An ordinary agent that commits to a wrong digest and reveals it.
    Liar,
    /// Takes a seat and then says nothing.
    Silent,
    /// The same in about every other job, by the job's id; never closes its own gate for it.
    Moody,
}

impl Misbehaviour {
    /// Whether it says nothing in this job.
    pub(crate) fn is_silent(self, job: JobId) -> bool {
        match self {
            Self::Liar => false,
            Self::Silent => true,
            Self::Moody => job.0.last().is_some_and(|byte| byte % 2 == 1),
        }
    }
}

impl AgentConfig {
    /// The defaults, with what has none.
    pub fn new(sandrun_url: String, rpc: String, ipfs_api: String, key: Key, data_dir: PathBuf) -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            sandrun_url,
            rpc,
            chain: None,
            deployment: None,
            ipfs_api,
            key,
            worker_key: None,
            executor_key: None,
            payout: None,
            data_dir,
            stake: Amount::from_gwei(1_000_000_000),
            classes: Vec::new(),
            min_price: Amount::from_gwei(1_000_000),
            value_cap: Amount::from_gwei(1_000_000_000),
            bond_cap: None,
            withdraw_threshold: Amount::from_gwei(100_000_000),
            tokens: Vec::new(),
            max_jobs: 4,
            confirmations: None,
            max_memory_mib: 2048,
            max_bundle_bytes: 100 * MIB,
            min_free_disk: 256 * MIB,
            fetch_patience: Duration::from_secs(120),
            strikes: StrikeRule::default(),
            detection: Detection::default(),
            resume_after_fault: false,
            metrics: None,
            misbehaviour: None,
        }
    }

    /// Where bundles lie.
    pub(crate) fn bundles_folder(&self) -> PathBuf {
        self.data_dir.join("bundles")
    }

    /// Where it is noted which images jobs need.
    pub(crate) fn images_folder(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// Where results are gathered.
    pub(crate) fn results_folder(&self) -> PathBuf {
        self.data_dir.join("results")
    }

    /// The least prices that the node works for, in every token that it takes.
    pub(crate) fn minimum_prices(&self) -> Vec<(Token, Amount)> {
        let tokens = self
            .tokens
            .iter()
            .map(|policy| (Token::Erc20(policy.token), policy.min_price));
        std::iter::once((Token::Native, self.min_price))
            .chain(tokens)
            .collect()
    }

    /// From which sums on earnings are withdrawn.
    pub(crate) fn withdraw_thresholds(&self) -> Vec<(Token, Amount)> {
        let tokens = self
            .tokens
            .iter()
            .map(|policy| (Token::Erc20(policy.token), policy.withdraw_threshold));
        std::iter::once((Token::Native, self.withdraw_threshold))
            .chain(tokens)
            .collect()
    }
}

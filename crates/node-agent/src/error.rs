//! Why an agent does not start, or stops.

use std::error::Error as StdError;
use std::path::PathBuf;

use sandrun_chain::{BlockHash, ConnectError, DeploymentError, ReadError, RpcError, VerifyError};
use sandrun_content::ContentError;
use sandrun_executor::ClientError;
use sandrun_executor::worker_key::WorkerKeyError;
use sandrun_store::JournalError;
use sandrun_types::{Address, Amount, CapabilityError, ChainId, ClassId, WorkerId};
use thiserror::Error;

use crate::operator::OperatorError;

/// Why an agent does not start, or stops.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The port for metrics is taken.
    #[error(transparent)]
    Metrics(#[from] crate::vitals::MetricsError),
    /// No chain.
    #[error("no chain: {0}")]
    Connect(#[source] Box<ConnectError>),
    /// No contracts are known there.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// Other contracts stand there.
    #[error("the market's contracts cannot be used: {0}")]
    Contracts(#[source] Box<VerifyError>),
    /// A view failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The RPC failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A step of the registration failed.
    #[error("cannot {step}: {source}")]
    Enrol {
        /// What was to be done.
        step: &'static str,
        /// Why.
        source: Box<OperatorError>,
    },
    /// No content store.
    #[error("the content store at {api} cannot be used: {source}")]
    Content {
        /// Its address.
        api: String,
        /// Why.
        source: Box<ContentError>,
    },
    /// No executor.
    #[error("the executor at {url} cannot be used (is --sandrun-url right?): {source}")]
    Executor {
        /// Its address.
        url: String,
        /// Why.
        source: Box<ClientError>,
    },
    /// An executor whose receipts nobody signs.
    #[error(
        "the executor at {url} is anonymous, so that its receipts prove nothing; start it with --worker-key FILE"
    )]
    AnonymousExecutor {
        /// Its address.
        url: String,
    },
    /// An executor that does not say what class it runs.
    #[error(
        "what answers at {url} does not say which class it runs, so it is no executor of this version (is --sandrun-url \
         right?); use `sandrun-pool sandrun`"
    )]
    NoClass {
        /// Its address.
        url: String,
    },
    /// The operator asks for a class that the executor does not run.
    #[error(
        "the executor runs {}, none of the classes that this node is to serve; leave out --class, or name one of those",
        offered.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    ClassNotOffered {
        /// What it runs.
        offered: Vec<ClassId>,
    },
    /// The executor's key file is not the executor's.
    #[error("the key file {} belongs to worker {in_file}, the executor is worker {executor}; name the file that the executor was started with", path.display())]
    OtherExecutorKey {
        /// The file.
        path: PathBuf,
        /// Whose key it is.
        in_file: WorkerId,
        /// Who answers.
        executor: WorkerId,
    },
    /// The executor's key file cannot be used.
    #[error(transparent)]
    ExecutorKey(#[from] WorkerKeyError),
    /// The account is registered with another hot key.
    #[error(
        "account {account} is registered with the worker key {registered}, not with {ours}; start the agent with that key"
    )]
    OtherWorker {
        /// The account.
        account: Address,
        /// The hot key in the registry.
        registered: Address,
        /// The hot key that was given.
        ours: Address,
    },
    /// The hot key belongs to another account's node.
    #[error(
        "the worker key {worker} belongs to the node of another account; a hot key serves one node, take another"
    )]
    WorkerTaken {
        /// The hot key.
        worker: Address,
    },
    /// Another agent of this machine has the key.
    #[error(
        "another agent on this machine works with the key {worker} at this RPC, and would take this one's seats; stop it, or \
         give this one a key of its own"
    )]
    Twin {
        /// The hot key.
        worker: Address,
    },
    /// Too little coin.
    #[error("{account} has {balance} coin and needs {needed} ({what}); send it some")]
    NotEnoughCoin {
        /// Who.
        account: Address,
        /// Had, wei.
        balance: Amount,
        /// Needed, wei.
        needed: Amount,
        /// For what.
        what: &'static str,
    },
    /// The profile does not fit the registry.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
    /// The data folder.
    #[error("cannot clear the data folder: {0}")]
    Folder(#[source] Box<dyn StdError + Send + Sync>),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal is of another chain with the same id.
    #[error("the journal in {} has come to block {noted}, and the chain has only {head}: it was started anew; give --data-dir an empty folder", path.display())]
    OtherChain {
        /// The data folder.
        path: PathBuf,
        /// The block in the journal.
        noted: u64,
        /// The newest block.
        head: u64,
    },
    /// The journal is of another chain with the same id, which has grown past it since.
    #[error("the journal in {} is about a chain that began with block {noted}, and this one begins with {found}: it was started anew; give --data-dir an empty folder", path.display())]
    OtherGenesis {
        /// The data folder.
        path: PathBuf,
        /// The first block's hash in the journal.
        noted: BlockHash,
        /// The first block's hash on the chain.
        found: BlockHash,
    },
    /// Misbehaviour where it is not play.
    #[error("a misbehaving node is for a local test chain (id {local}), not for chain {chain}", local = ChainId::LOCAL)]
    Misbehaviour {
        /// The chain.
        chain: ChainId,
    },
    /// A task of the agent ended as it must not: a defect.
    #[error("a task of the agent broke; please report this")]
    Task(#[source] tokio::task::JoinError),
}

/// An error with everything below it, on one line.
pub(crate) trait Report {
    /// The line.
    fn report(&self) -> String;
}

impl<E: StdError> Report for E {
    fn report(&self) -> String {
        let mut text = self.to_string();
        let mut below = self.source();
        while let Some(error) = below {
            let said = error.to_string();
            // transparent variants repeat what is below them
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            below = error.source();
        }
        text
    }
}

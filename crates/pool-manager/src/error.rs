//! Why a manager does not run.

use std::net::SocketAddr;
use std::path::PathBuf;

use client_sdk::SnapshotError;
use sandrun_chain::{ReadError, WatchError};
use sandrun_core::market::FactsError;
use sandrun_store::IndexError;

/// Why a manager does not start, or has to end.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The market's parameters can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The market can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The data directory can't be used.
    #[error("the data directory {} can't be used: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The index can't be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index holds what this program can't read.
    #[error(
        "the index holds {what} that this program can't read ({source}): delete it, it is built again from the chain"
    )]
    Format {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Events that contradict each other.
    #[error("the RPC's events make no sense ({0}): delete the index and use another RPC")]
    Facts(#[from] FactsError),
    /// The chain left its branch too deep.
    #[error(transparent)]
    Watch(WatchError),
    /// The port is taken.
    #[error("can't listen on {address}: {source}; choose another --port, or stop what uses it")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The index's thread ended.
    #[error("the index's thread ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

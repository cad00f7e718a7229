//! Everything that talks JSON-RPC to a chain: connection, deployments, views, the stream of events with
//! reorganisations, keys, and the sending of transactions.
//!
//! Facts come out in the words of `sandrun-types` and `sandrun-core`; calls go in as [`Call`]s that a [`Deployment`]
//! makes. Never decides what to do: that is the core's.

mod abi;
pub mod anvil;
mod calls;
mod connect;
mod deploy;
mod deployment;
mod event;
mod key;
mod meters;
mod position;
mod reader;
mod revert;
mod rpc;
mod send;
mod settled;
mod transport;
mod watch;

pub use alloy::primitives::Bytes;
pub use calls::{Call, Opening, UNLIMITED};
pub use connect::{Chain, ConnectError, ConnectOptions, Fees};
pub use deploy::{DeployError, MarketTerms, deploy, deploy_test_token};
pub use deployment::{DEPLOYMENTS_ENV, Deployment, DeploymentError};
pub use event::{DecodeError, decode};
pub use key::{Key, KeyError, Password, worker_key_message};
pub use meters::{ChainMeters, coins};
pub use position::{BlockHash, BlockRef, Head, LogPosition, Logged, TxHash};
pub use reader::{
    EscrowNode, JobState, MarketReader, NodeRecord, OptIn, Parameters, RegistryNode, SeatSet, TokenTerms,
    VerifyError,
};
pub use revert::{Refusal, Revert};
pub use rpc::{Endpoint, ReadError, RpcError};
pub use send::{CREATE_GAS_CAP, RecordError, SendError, Sender, SenderConfig, SignedTx, TxOutcome};
pub use settled::SettledSeats;
pub use watch::{ChainUpdate, Confirmations, Confirmed, Cursor, REORG_DEPTH, Watch, WatchError};

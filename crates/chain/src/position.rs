//! Where a fact stands on the chain. Owns block and transaction identities, heads and positions; pure words.

use std::fmt;

use alloy::primitives::B256;
use sandrun_core::market::MarketEvent;
use sandrun_types::UnixSeconds;
use serde::{Deserialize, Serialize};

macro_rules! chain_hash {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub B256);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

chain_hash!(
    /// A block's hash.
    BlockHash
);
chain_hash!(
    /// A transaction's hash.
    TxHash
);

/// A block: its height, and which of the blocks that ever stood at this height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Which one.
    pub hash: BlockHash,
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} ({})", self.number, self.hash)
    }
}

/// The newest block that a reader has seen, or has delivered everything up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// The block.
    pub block: BlockRef,
    /// Its timestamp.
    pub timestamp: UnixSeconds,
    /// Its base fee per gas in wei (EIP-1559); `None` on a chain without.
    pub base_fee: Option<u64>,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// Block that holds it.
    pub block: BlockRef,
    /// Index of the log in its block.
    pub log_index: u64,
    /// Transaction that emitted it.
    pub tx: TxHash,
    /// The block's timestamp.
    pub timestamp: UnixSeconds,
}

/// An event and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// What happened.
    pub event: MarketEvent,
    /// Where.
    pub at: LogPosition,
}

//! Sending transactions. Owns nonces, fees, replacement and the record of what was signed, for one key on one chain.
//!
//! A transaction's life: a [`Call`] is checked by a dry run (a refusal costs nothing), then [`SignedTx`], which the
//! caller may journal before it leaves, then pending, and at last mined, replaced by another of the same nonce, or
//! dropped. While it is pending it is sent again when the node has lost it, and replaced with higher fees when it waits
//! too long; all versions have one nonce, so at most one is ever mined. Never decides what to send.

mod broadcast;
mod fees;
mod nonces;
mod sender;
mod track;

use alloy::primitives::Bytes;
use sandrun_types::{Address, Amount, Attempt};
use serde::{Deserialize, Serialize};

use crate::calls::Call;
use crate::connect::Fees;
use crate::key::KeyError;
use crate::position::{BlockRef, Logged, TxHash};
use crate::revert::Revert;
use crate::rpc::RpcError;

pub use sender::Sender;

/// Limits of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderConfig {
    /// Most gas that one call may take; creating a contract may take [`CREATE_GAS_CAP`].
    pub gas_cap: u64,
    /// Most that is paid per gas, wei.
    pub max_fee_cap: u128,
    /// Blocks that a transaction waits before it is replaced with higher fees.
    pub bump_after: u64,
    /// By how many per cent fees rise with each replacement; nodes ask for at least 10.
    pub bump_percent: u64,
    /// Blocks after which a transaction that was never mined counts as dropped.
    pub give_up_after: u64,
    /// Blocks on top of the one that mined it, until it counts as mined.
    pub confirmations: u64,
}

/// Most gas that creating a contract may take: what one transaction can have (EIP-7825).
pub const CREATE_GAS_CAP: u64 = 16_777_216;

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            gas_cap: 3_000_000,
            max_fee_cap: 500_000_000_000,
            bump_after: 3,
            bump_percent: 25,
            give_up_after: 60,
            confirmations: 0,
        }
    }
}

/// A signed transaction, ready to be journalled and (again) sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTx {
    /// Its hash.
    pub hash: TxHash,
    /// Who signed it.
    pub from: Address,
    /// Its nonce: at most one transaction of an account and nonce is ever mined.
    pub nonce: u64,
    /// Which version of this nonce it is.
    pub attempt: Attempt,
    /// Gas limit.
    pub gas_limit: u64,
    /// Fees.
    pub fees: Fees,
    /// What it does.
    pub call: Call,
    /// The bytes that are sent.
    pub raw: Bytes,
}

/// A transaction that was mined and did what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxOutcome {
    /// Its hash: of the version that was mined.
    pub hash: TxHash,
    /// The block that holds it.
    pub block: BlockRef,
    /// Gas that it took.
    pub gas_used: u64,
    /// What that cost.
    pub fee: Amount,
    /// The market's events in it.
    pub events: Vec<Logged>,
    /// The contract that it created.
    pub created: Option<Address>,
    /// Version that was mined.
    pub attempt: Attempt,
}

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A dry run reverted: nothing was sent.
    #[error("cannot {what}: {revert}")]
    Refused {
        /// What was to be done.
        what: String,
        /// Why.
        revert: Revert,
    },
    /// It was mined and reverted: the gas is gone.
    #[error("{what} failed in transaction {hash}: {revert}")]
    Reverted {
        /// What was to be done.
        what: String,
        /// The transaction.
        hash: TxHash,
        /// Why.
        revert: Revert,
    },
    /// Another transaction with this nonce was mined: the key is used elsewhere, or the journal is older than the chain.
    #[error(
        "{what}: another transaction with nonce {nonce} of {from} was mined instead; use a key in one place only, and \
         look at the chain for what happened"
    )]
    Replaced {
        /// What was to be done.
        what: String,
        /// The account.
        from: Address,
        /// The nonce.
        nonce: u64,
    },
    /// It was not mined in all this time. It may still be.
    #[error(
        "{what}: transaction {hash} (nonce {nonce}) was not mined within {blocks} blocks; it may \
         still be: look at the chain before you try again"
    )]
    Dropped {
        /// What was to be done.
        what: String,
        /// Its last version.
        hash: TxHash,
        /// Its nonce.
        nonce: u64,
        /// How long we waited.
        blocks: u64,
    },
    /// It needs more gas than is allowed.
    #[error("cannot {what}: it needs {needed} gas, the cap is {cap}; raise the gas cap if this is right")]
    GasAboveCap {
        /// What was to be done.
        what: String,
        /// Gas needed.
        needed: u64,
        /// Gas allowed.
        cap: u64,
    },
    /// Gas is dearer than is allowed.
    #[error(
        "cannot {what}: gas costs {needed} wei now, and at most {cap} wei are paid; try again when it is cheaper"
    )]
    FeeAboveCap {
        /// What was to be done.
        what: String,
        /// Wei per gas that it takes.
        needed: u128,
        /// Wei per gas allowed.
        cap: u128,
    },
    /// The account is too poor.
    #[error(
        "cannot {what}: {from} has {balance} coin, which does not cover {value} and the gas; send coin to {from}"
    )]
    NotEnoughCoin {
        /// What was to be done.
        what: String,
        /// The account.
        from: Address,
        /// Its balance.
        balance: Amount,
        /// What the call itself pays.
        value: Amount,
    },
    /// The record of the signed transaction failed, so it was not sent.
    #[error("cannot {what}: the signed transaction could not be recorded: {detail}")]
    Record {
        /// What was to be done.
        what: String,
        /// Why.
        detail: String,
    },
    /// The transaction to resume is not of this sender.
    #[error("a transaction of {found} can't be resumed with the key of {expected}")]
    OtherKey {
        /// Who signed it.
        found: Address,
        /// Whose sender this is.
        expected: Address,
    },
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was sent, and then the RPC gave no usable answer for a long time.
    #[error(
        "{what}: transaction {hash} was sent, and what became of it is not known: {source}; look whether it was mined \
         before you try again"
    )]
    Unsure {
        /// What was to be done.
        what: String,
        /// Its last version.
        hash: TxHash,
        /// Why.
        source: Box<RpcError>,
    },
    /// No usable answer, before anything was sent.
    #[error("cannot {what}: {source}")]
    Rpc {
        /// What was to be done.
        what: String,
        /// Why.
        source: RpcError,
    },
}

impl SendError {
    pub(crate) fn rpc(call: &Call) -> impl Fn(RpcError) -> Self + '_ {
        |source| Self::Rpc {
            what: call.what.clone(),
            source,
        }
    }

    /// The contract's reason, if it is the contract that said no.
    pub const fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Refused { revert, .. } | Self::Reverted { revert, .. } => Some(revert),
            Self::Replaced { .. }
            | Self::Dropped { .. }
            | Self::GasAboveCap { .. }
            | Self::FeeAboveCap { .. }
            | Self::NotEnoughCoin { .. }
            | Self::Record { .. }
            | Self::OtherKey { .. }
            | Self::Key(_)
            | Self::Unsure { .. }
            | Self::Rpc { .. } => None,
        }
    }
}

/// Where a journal lies is its owner's matter; this alias only names the error it may return.
pub type RecordError = Box<dyn std::error::Error + Send + Sync>;

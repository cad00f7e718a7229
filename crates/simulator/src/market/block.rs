//! Blocks and transactions of the simulated chain. Plain data.

use std::collections::BTreeMap;
use std::rc::Rc;

use sandrun_core::market::escrow::{Call, Escrow, Moment};
use sandrun_core::market::{JobFacts, MarketEvent};
use sandrun_core::seat::Position;
use sandrun_types::{Address, Amount, B256, JobId, UnixSeconds};

use super::books::Books;

/// A transaction's hash: each signed version has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TxId(pub(crate) u64);

/// A signed transaction.
#[derive(Debug, Clone)]
pub(crate) struct Tx {
    pub(crate) id: TxId,
    pub(crate) from: Address,
    pub(crate) nonce: u64,
    /// The most that is paid for each gas, gwei.
    pub(crate) max_fee: u64,
    pub(crate) call: Call,
}

/// What the chain knows after a block. Cheap to copy.
#[derive(Debug, Clone)]
pub(crate) struct After {
    pub(crate) escrow: Rc<Escrow>,
    pub(crate) books: Rc<Books>,
    pub(crate) facts: Rc<BTreeMap<JobId, JobFacts>>,
    pub(crate) nonces: Rc<BTreeMap<Address, u64>>,
}

/// A block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) time: UnixSeconds,
    pub(crate) hash: B256,
    /// Gwei for each gas.
    pub(crate) base_fee: u64,
    pub(crate) after: After,
    /// What was mined, and whether it did not revert.
    pub(crate) mined: Vec<(Tx, bool)>,
    pub(crate) logs: Vec<MarketEvent>,
}

impl Block {
    /// The logs with their places.
    pub(crate) fn placed(&self) -> impl DoubleEndedIterator<Item = (&MarketEvent, Position)> {
        let (block, time) = (self.number, self.time);
        self.logs.iter().enumerate().map(move |(index, event)| {
            let log = u64::try_from(index).unwrap_or(u64::MAX);
            (event, Position { block, log, time })
        })
    }
}

/// When and where a call is made; the base fee is in gwei.
pub(crate) fn moment(block: u64, now: UnixSeconds, base_fee: u64) -> Moment {
    Moment {
        now,
        block,
        base_fee: Amount::from_gwei(base_fee),
    }
}

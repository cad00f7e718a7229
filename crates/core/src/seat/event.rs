//! What a seat's machine is told, and what it refuses to hear.

use sandrun_types::{Attempt, JobId, ResultParts, UnixSeconds};

use super::{Objection, StateName, Transaction};
use crate::market::{MarketEvent, Round};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The chain has moved.
    Chain(ChainNews),
    /// What [`super::judge`] said about the job.
    Judged(Result<(), Vec<Objection>>),
    /// The record of the last [`super::Action::Journal`] is on disk.
    Journalled,
    /// The bundle is held and matches its content id, or is not to be had.
    Fetched(Result<(), FetchFailure>),
    /// A unit of the node's stake has a winning ticket in this round.
    Ticket {
        /// The round.
        round: Round,
        /// The unit.
        unit: u32,
    },
    /// A run has ended.
    Ran {
        /// Which one.
        attempt: Attempt,
        /// How.
        end: RunEnd,
    },
    /// A transaction has come to its end.
    Sent {
        /// Which one.
        transaction: Transaction,
        /// Its end.
        end: TransactionEnd,
    },
    /// Time has passed.
    Tick,
}

/// News from the chain about one job. Logs that a reorganisation removes come as `Undone`, newest first, before what
/// replaces them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainNews {
    /// A log is in the chain.
    Applied(MarketEvent, Position),
    /// The same log is no longer in the chain.
    Undone(MarketEvent, Position),
    /// All logs up to this block have been told.
    Head {
        /// Its number.
        number: u64,
        /// Its timestamp.
        time: UnixSeconds,
    },
}

/// Where a log stands on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of its block.
    pub block: u64,
    /// Its index in the block.
    pub log: u64,
    /// Timestamp of its block.
    pub time: UnixSeconds,
}

/// Why a bundle is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FetchFailure {
    /// Nobody has served it so far: worth another try.
    NotFound,
    /// It is held in full and is not what the order says (content, manifest digest or shape): no try will help.
    Mismatch,
}

/// How a run ended, as the executor's client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// The program ended, well or not; its packed result is stored.
    Result(ResultParts),
    /// The order's real time was over first.
    Limit,
    /// The bundle is gone or broken: it has to be fetched again.
    BundleLost,
    /// The executor failed, which says nothing about the program: worth another attempt.
    ExecutorFailed,
}

/// The end of a transaction, as the sender saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// Mined and not reverted.
    Mined {
        /// Number of its block.
        block: u64,
    },
    /// Reverted, dropped, or never sent: it has no effect. It is planned anew after the next block.
    Failed,
}

/// An event that has no place where the machine stands. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The report of a run that is not the one under way.
    #[error("the report of attempt {told} came while {} under way", .current.map_or_else(|| "none was".to_owned(), |it| format!("attempt {it} was")))]
    StaleAttempt {
        /// Attempt that was reported.
        told: Attempt,
        /// Attempt that is under way.
        current: Option<Attempt>,
    },
    /// A report of something that was not under way, or an event with no place in this state.
    #[error("a seat that is {state} has no place for the event `{event}`")]
    Illegal {
        /// Where the machine stands.
        state: StateName,
        /// Name of the event.
        event: &'static str,
    },
    /// News of another job.
    #[error("news of job {0} was sent to the seat of another")]
    OtherJob(JobId),
    /// A log was undone that had never been applied: driver and machine disagree on the chain.
    #[error(
        "a log in block {block}, index {log}, was undone that had not been applied; replay the job's logs"
    )]
    NeverApplied {
        /// Its block.
        block: u64,
        /// Its index.
        log: u64,
    },
}

impl Event {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Chain(ChainNews::Applied(..)) => "log applied",
            Self::Chain(ChainNews::Undone(..)) => "log undone",
            Self::Chain(ChainNews::Head { .. }) => "head",
            Self::Judged(_) => "judged",
            Self::Journalled => "journalled",
            Self::Fetched(_) => "fetched",
            Self::Ticket { .. } => "ticket",
            Self::Ran { .. } => "ran",
            Self::Sent { .. } => "sent",
            Self::Tick => "tick",
        }
    }
}

//! What a seat's machine asks its driver to do.

use std::fmt;

use sandrun_types::{Answer, Attempt, Commitment, ResultParts, SeatIndex, UnixSeconds};

use super::{Record, Salt};
use crate::market::Round;

/// Something to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Put this on disk, then report [`super::Event::Journalled`]. Nothing that follows from it is handed out before.
    Journal(Record),
    /// Have the whole bundle here and check it against content id and manifest digest; report
    /// [`super::Event::Fetched`]. Serve it until [`Action::Retire`].
    FetchBundle,
    /// Take a seat; report [`super::Event::Sent`].
    Claim {
        /// In which round.
        round: Round,
        /// With which unit of stake.
        unit: u32,
    },
    /// Run the job; report [`super::Event::Ran`] with this attempt.
    Run {
        /// Number of the run.
        attempt: Attempt,
        /// A run that has not ended by then has no use any more.
        until: UnixSeconds,
    },
    /// End this run: nobody needs it. Its report is refused from now on.
    StopRun {
        /// Number of the run.
        attempt: Attempt,
    },
    /// Bind to the answer that the journal holds; report [`super::Event::Sent`].
    Commit {
        /// The seat.
        seat: SeatIndex,
        /// What is sent.
        commitment: Commitment,
    },
    /// Open a commit in the short form: a soft answer, or a digest whose result is published; report
    /// [`super::Event::Sent`].
    Reveal {
        /// The seat.
        seat: SeatIndex,
        /// The answer.
        answer: Answer,
        /// What hid it.
        salt: Salt,
    },
    /// Publish the result and open the commit on its digest; report [`super::Event::Sent`].
    RevealResult {
        /// The seat.
        seat: SeatIndex,
        /// The result.
        result: ResultParts,
        /// What hid its digest.
        salt: Salt,
    },
    /// Do what is due on the job, because the bond waits for it and nobody else has; report [`super::Event::Sent`].
    Poke,
    /// Nothing is left to do: the bundle need not be served any more. Given once, unless the chain takes it back.
    Retire,
}

/// Kinds of transaction that a seat sends, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transaction {
    /// [`Action::Claim`].
    Claim,
    /// [`Action::Commit`].
    Commit,
    /// [`Action::Reveal`] or [`Action::RevealResult`].
    Reveal,
    /// [`Action::Poke`].
    Poke,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "claim",
            Self::Commit => "commit",
            Self::Reveal => "reveal",
            Self::Poke => "poke",
        })
    }
}

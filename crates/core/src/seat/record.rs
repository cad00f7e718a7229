//! What a seat journals: enough to go on after a crash at any point, and nothing else.

use sandrun_types::{Answer, Attempt, ResultParts};
use serde::{Deserialize, Serialize};

use super::Salt;
use crate::market::{Round, SeatEnd};

/// One line of a seat's journal, in the order written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A claim is about to be sent: from here on a bond may be locked.
    Claiming {
        /// In which round.
        round: Round,
        /// With which unit of stake.
        unit: u32,
    },
    /// A run is about to start.
    Running {
        /// Its number.
        attempt: Attempt,
    },
    /// The one answer of a round is fixed.
    Answered(SealedAnswer),
    /// The seat is finished on the chain, at the depth that makes it final.
    Ended {
        /// What became of it.
        end: SeatEnd,
    },
    /// The chain took the end back after all.
    Reopened,
}

/// An answer, what hides it, and what it is the digest of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedAnswer {
    /// The round that it belongs to.
    pub round: Round,
    /// The answer.
    pub answer: Answer,
    /// What hides it until the reveal.
    pub salt: Salt,
    /// What a digest is the digest of; `None` for a soft answer.
    pub result: Option<ResultParts>,
}

/// A journal that no run of the machine can have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Two different answers for one round.
    #[error("the journal holds two different answers for round {}; leave this seat alone and look for a second agent that uses the same key", .0.number())]
    TwoAnswers(Round),
    /// An answer that is not the digest of its result.
    #[error("the journal's answer for round {} is not the digest of its result; the journal belongs to another job or is damaged", .0.number())]
    WrongDigest(Round),
}

/// The journal's content, folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Memory {
    pub(super) claimed: Option<(Round, u32)>,
    pub(super) attempt: Option<Attempt>,
    first: Option<SealedAnswer>,
    extra: Option<SealedAnswer>,
    pub(super) ended: Option<SeatEnd>,
}

impl Memory {
    pub(super) const fn answer(&self, round: Round) -> Option<&SealedAnswer> {
        match round {
            Round::First => self.first.as_ref(),
            Round::Extra => self.extra.as_ref(),
        }
    }

    pub(super) fn next_attempt(&self) -> Attempt {
        self.attempt.map_or(Attempt::FIRST, Attempt::next)
    }

    /// Takes in one record. The first answer of a round stays, whatever comes after it.
    pub(super) fn learn(&mut self, record: &Record) -> Result<(), ResumeError> {
        match *record {
            Record::Claiming { round, unit } => self.claimed = Some((round, unit)),
            Record::Running { attempt } => self.attempt = self.attempt.max(Some(attempt)),
            Record::Answered(sealed) => {
                let slot = match sealed.round {
                    Round::First => &mut self.first,
                    Round::Extra => &mut self.extra,
                };
                match slot {
                    None => *slot = Some(sealed),
                    Some(held) if *held == sealed => {}
                    Some(_) => return Err(ResumeError::TwoAnswers(sealed.round)),
                }
            }
            Record::Ended { end } => self.ended = Some(end),
            Record::Reopened => self.ended = None,
        }
        Ok(())
    }
}

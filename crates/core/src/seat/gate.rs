//! The node's own gate: after a fault of its own it accepts nothing more until its operator has had a look.
//! Seats that it holds already are brought to their end. Never decides about a single job, never reads a clock.
//!
//! A slash that an honest node on a sound machine never gets closes the gate at once. Being outvoted in a job of class
//! kind `native` is none: its client can make honest nodes differ. It counts as a strike, and the gate closes when
//! strikes come too often ([`StrikeRule`]).

use std::fmt;

use sandrun_types::{Address, ClassKind, JobId, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::market::SeatEnd;

/// Whether a node takes new jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Gate {
    fault: Option<Fault>,
    /// The last block about which the operator wants to hear no more.
    forgiven_to: Option<u64>,
    strikes: Vec<Strike>,
}

/// How often a node may be outvoted in `native` jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrikeRule {
    /// So many strikes within the window close the gate; 1 or 0 closes it at the first.
    pub most: u32,
    /// For how long a strike counts, seconds.
    pub window: u64,
    /// For how long the client of a strike's job is avoided, seconds; at most the window.
    pub avoid: u64,
}

impl Default for StrikeRule {
    /// Three within an hour; their clients are avoided for ten minutes.
    fn default() -> Self {
        Self {
            most: 3,
            window: 3_600,
            avoid: 600,
        }
    }
}

/// A seat of the node's own that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSeat {
    /// The job.
    pub job: JobId,
    /// What became of the seat.
    pub end: SeatEnd,
    /// Kind of the job's class; `None` where it is not known.
    pub kind: Option<ClassKind>,
    /// Whose job it is; `None` where it is not known.
    pub client: Option<Address>,
    /// The block that says so.
    pub block: u64,
    /// Its timestamp.
    pub time: UnixSeconds,
}

/// What an ended seat means to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Nothing, or nothing new.
    Nothing,
    /// A strike; the gate stays open.
    Strike {
        /// How many count now.
        count: u32,
    },
    /// The gate has closed just now.
    Closed,
}

/// Being outvoted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Strike {
    job: JobId,
    client: Option<Address>,
    time: UnixSeconds,
}

/// What a node did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// A seat of its own was slashed.
    #[error("its seat in job {job} was slashed ({}); find out why, then resume the node", end_name(*.end))]
    Slashed {
        /// The job.
        job: JobId,
        /// How.
        end: SeatEnd,
    },
    /// It was outvoted in native jobs too often.
    #[error(
        "another answer won in {count} native jobs within {window} s, the last of them {job}; find out whether this machine computes what others do, then resume the node"
    )]
    Outvoted {
        /// The last job.
        job: JobId,
        /// How often.
        count: u32,
        /// Within how many seconds.
        window: u64,
    },
    /// Its journal contradicts itself or the chain.
    #[error(
        "its journal and the chain disagree about job {job}; see that no second agent uses the same key, then resume the node"
    )]
    Journal {
        /// The job.
        job: JobId,
    },
}

struct Name(SeatEnd);

fn end_name(end: SeatEnd) -> Name {
    Name(end)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SeatEnd::Released => "released",
            SeatEnd::Paid => "paid",
            SeatEnd::AttemptFee => "attempt fee",
            SeatEnd::Shared => "shared",
            SeatEnd::Unpaid => "unpaid",
            SeatEnd::SlashedWrong => "another answer won",
            SeatEnd::SlashedLate => "it revealed too late",
            SeatEnd::SlashedUnrevealed => "it never revealed",
            SeatEnd::SlashedUncommitted => "it never committed",
        })
    }
}

impl Gate {
    /// Why nothing is accepted, if so.
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Takes note of how a seat ended; the chain may say it again. The first fault stays until [`Gate::resume`].
    pub fn seat_ended(&mut self, ended: &EndedSeat, rule: StrikeRule) -> Notice {
        if !ended.end.is_slash() || self.is_forgiven(ended.block) {
            return Notice::Nothing;
        }
        let (job, end) = (ended.job, ended.end);
        if end == SeatEnd::SlashedWrong && ended.kind == Some(ClassKind::Native) {
            self.strike(ended, rule)
        } else {
            self.close(Fault::Slashed { job, end })
        }
    }

    /// Takes note of a journal that can't be used for a job that was posted in block `posted`. Returns whether the gate
    /// has closed just now.
    pub fn journal_broken(&mut self, job: JobId, posted: u64) -> bool {
        !self.is_forgiven(posted) && self.close(Fault::Journal { job }) == Notice::Closed
    }

    /// The operator has had a look: the node accepts again, and whatever stands in the chain up to block `head` is
    /// forgiven, read already or not.
    pub fn resume(&mut self, head: u64) {
        self.fault = None;
        self.strikes.clear();
        self.forgiven_to = self.forgiven_to.max(Some(head));
    }

    /// Whose native jobs the node has been outvoted in, a short while before `now`: their next ones are better left to others.
    pub fn clients_to_avoid(&self, rule: StrikeRule, now: UnixSeconds) -> Vec<Address> {
        let recent = self.strikes.iter().filter(|it| now < it.time.plus(rule.avoid));
        recent.filter_map(|it| it.client).collect()
    }

    fn is_forgiven(&self, block: u64) -> bool {
        self.forgiven_to.is_some_and(|to| block <= to)
    }

    fn strike(&mut self, ended: &EndedSeat, rule: StrikeRule) -> Notice {
        let (job, client, time) = (ended.job, ended.client, ended.time);
        let newest = self.strikes.iter().map(|it| it.time).fold(time, UnixSeconds::max);
        self.strikes.retain(|it| newest < it.time.plus(rule.window));
        let is_known = self.strikes.iter().any(|it| it.job == job);
        // an old one comes when the chain is read again
        let is_over = newest >= time.plus(rule.window) && newest != time;
        if is_known || is_over {
            return Notice::Nothing;
        }
        self.strikes.push(Strike { job, client, time });
        let count = u32::try_from(self.strikes.len()).unwrap_or(u32::MAX);
        if count < rule.most {
            return Notice::Strike { count };
        }
        let window = rule.window;
        self.close(Fault::Outvoted { job, count, window })
    }

    fn close(&mut self, fault: Fault) -> Notice {
        if self.fault.is_some() {
            return Notice::Nothing;
        }
        self.fault = Some(fault);
        Notice::Closed
    }
}

//! The node's own gate: after a fault of its own it accepts nothing more until its operator has had a look.
//! Seats that it holds already are brought to their end. Never decides about a single job.

use std::collections::BTreeSet;
use std::fmt;

use sandrun_types::JobId;
use serde::{Deserialize, Serialize};

use crate::market::SeatEnd;

/// Whether a node takes new jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gate {
    fault: Option<Fault>,
    forgiven: BTreeSet<JobId>,
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

    /// Takes note of how a seat ended. The first fault stays until [`Gate::resume`]; a fault that was looked at does
    /// not come back when the chain is read again. Returns whether the gate has closed just now.
    pub fn seat_ended(&mut self, job: JobId, end: SeatEnd) -> bool {
        end.is_slash() && self.close(job, Fault::Slashed { job, end })
    }

    /// Takes note of a journal that can't be used. Returns whether the gate has closed just now.
    pub fn journal_broken(&mut self, job: JobId) -> bool {
        self.close(job, Fault::Journal { job })
    }

    /// The operator has had a look: the node accepts again.
    pub fn resume(&mut self) {
        if let Some(Fault::Slashed { job, .. } | Fault::Journal { job }) = self.fault.take() {
            self.forgiven.insert(job);
        }
    }

    fn close(&mut self, job: JobId, fault: Fault) -> bool {
        let news = self.fault.is_none() && !self.forgiven.contains(&job);
        if news {
            self.fault = Some(fault);
        }
        news
    }
}

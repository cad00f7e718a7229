//! What is fixed for a seat's whole life: whose it is, the job's terms, the deployment's windows, and the salts.

use std::fmt;

use sandrun_types::{
    Answer, B256, EscrowRef, JobId, NodeIndex, Order, Redundancy, ResultDigest, ResultParts, UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::market::Round;
use crate::market::rules::Windows;

/// What is fixed from the posting on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The escrow that holds the job.
    pub escrow: EscrowRef,
    /// The job.
    pub job: JobId,
    /// The node that this machine works for.
    pub node: NodeIndex,
    /// n and q.
    pub redundancy: Redundancy,
    /// Real time that a run may take, seconds.
    pub wall_limit: u32,
    /// The deployment's windows.
    pub windows: Windows,
    /// d: blocks on top of a fact's block that make it final.
    pub confirmations: u64,
}

impl Terms {
    /// The terms of `order` for `node`.
    pub fn of(
        order: &Order,
        escrow: EscrowRef,
        node: NodeIndex,
        windows: Windows,
        confirmations: u64,
    ) -> Self {
        Self {
            escrow,
            job: order.job_id(escrow),
            node,
            redundancy: order.redundancy,
            wall_limit: order.wall_limit,
            windows,
            confirmations,
        }
    }

    /// The digest of a result of this job.
    pub fn digest(&self, result: &ResultParts) -> ResultDigest {
        result.digest(self.escrow, self.job)
    }

    pub(super) fn answer(&self, result: &ResultParts) -> Answer {
        Answer::Digest(self.digest(result))
    }

    /// Seconds of the run window.
    pub fn run_window(&self) -> u64 {
        self.windows.run(self.wall_limit)
    }

    /// From when on this node commits to `limit`, given the run window's deadline: strictly after this. The contract
    /// allows it two wall limits after the start. A commit waits for half of the run slack more: a reorganisation may
    /// mine it again on a branch where the run began later, and it can't be made anew there.
    pub fn limit_after(&self, run_deadline: UnixSeconds) -> UnixSeconds {
        let start = UnixSeconds(run_deadline.0.saturating_sub(self.run_window()));
        start.plus(2 * u64::from(self.wall_limit) + self.windows.run_slack / 2)
    }

    /// When a seat without an answer falls back to a soft one: half of the run slack before the deadline, so that the
    /// commit is still mined.
    pub fn fall_back_at(&self, run_deadline: UnixSeconds) -> UnixSeconds {
        UnixSeconds(run_deadline.0.saturating_sub(self.windows.run_slack / 2))
    }

    /// Seconds to rest after a run that failed or lost its bundle, `before` others having failed in a row: 1, 2, 4, … up
    /// to a tenth of the run window, a minute at most.
    pub fn pause_after(&self, before: u32) -> u64 {
        let longest = (self.run_window() / 10).clamp(1, 60);
        1u64.checked_shl(before).unwrap_or(longest).min(longest)
    }

    /// From when on a reveal waits for no confirmations any more: half of the window before its deadline.
    pub fn reveal_anyway_at(&self, reveal_deadline: UnixSeconds) -> UnixSeconds {
        UnixSeconds(reveal_deadline.0.saturating_sub(self.windows.reveal / 2))
    }
}

/// What hides an answer until its reveal. Prints nothing.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt(pub B256);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(hidden)")
    }
}

/// Fresh random salts, one for each round: a salt that one round has revealed hides nothing in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salts {
    /// For an answer in the first round.
    pub first: Salt,
    /// For an answer in the extra round.
    pub extra: Salt,
}

impl Salts {
    pub(super) const fn of(&self, round: Round) -> Salt {
        match round {
            Round::First => self.first,
            Round::Extra => self.extra,
        }
    }
}

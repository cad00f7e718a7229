//! The end of a batch: whose fate is known by now, on whichever thread that is. Answers those who wait, tells the carrier
//! and the followers, counts. Never touches the machine: that has gone on meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use sandrun_core::pool::{Counts, JobNumber};

use super::batch::Tally;
use super::command::{Outcome, Requests, Staged};
use super::error::QueueError;
use super::follow::Followers;
use super::push::{Push, Pushes};
use super::stats::Board;

/// All that is left to do of a batch.
pub(super) struct Ending {
    pub(super) began: Instant,
    /// How the machine stood after it.
    pub(super) counts: Option<Counts>,
    pub(super) waiters: u64,
    pub(super) commands: u64,
    pub(super) tally: Tally,
    /// Requests of the jobs that were leased in it.
    pub(super) requests: Requests,
    /// The highest number of a job after it.
    pub(super) last_job: u64,
    /// The highest that is on the disk.
    pub(super) durable: Arc<AtomicU64>,
    /// Whether the batch before it was not written.
    pub(super) is_troubled: Arc<AtomicBool>,
    /// Answers that wait.
    pub(super) staged: Vec<Staged>,
    /// Jobs whose followers are to be told.
    pub(super) told: BTreeSet<JobNumber>,
    /// What the carrier is to be told.
    pub(super) pushed: Vec<Push>,
    pub(super) pushes: Pushes,
    pub(super) board: Arc<Board>,
    pub(super) followers: Followers,
}

impl Ending {
    /// Whether anybody waits for it.
    pub(super) const fn holds_somebody_up(&self) -> bool {
        !self.staged.is_empty() || !self.pushed.is_empty()
    }

    /// Ends it: it is on the disk, or nothing of it was written.
    pub(super) fn end(self, written: Result<(), QueueError>) {
        let is_written = written.is_ok();
        let took = self.began.elapsed();
        if is_written {
            self.durable.fetch_max(self.last_job, Ordering::AcqRel);
        }
        self.board.write(|stats| {
            if let Some(counts) = self.counts {
                stats.counts = counts;
            }
            stats.waiters = self.waiters;
            stats.is_failing = !is_written;
            if is_written {
                stats.ever = stats.ever.max(self.last_job);
                stats.add(&self.tally);
                stats.commands += self.commands;
                stats.committed(took);
            } else {
                stats.failed_commits += 1;
            }
        });
        let was_troubled = self.is_troubled.swap(!is_written, Ordering::AcqRel);
        match &written {
            Ok(()) => {
                if was_troubled {
                    tracing::info!("batches are written again");
                }
                self.pushes.hand_out(self.pushed);
            }
            // one line as long as it lasts
            Err(error) if was_troubled => {
                tracing::debug!(%error, commands = self.commands, "another batch was not written");
            }
            Err(error) => {
                tracing::error!(%error, commands = self.commands, "batches are not written");
            }
        }
        answer(self.staged, written.map(|()| self.requests));
        if is_written {
            self.followers.tell(self.told);
        }
    }
}

/// Answers: with what was staged and the requests of the jobs that were leased, or with the reason why not.
pub(super) fn answer(staged: Vec<Staged>, requests: Result<Requests, QueueError>) {
    let outcome = match requests {
        Ok(requests) => Outcome::Committed(requests),
        Err(error) => Outcome::Lost(error),
    };
    for answer in staged {
        answer(&outcome);
    }
}

//! Numbers about the queue that anybody may read at any time.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sandrun_core::pool::Counts;

use super::batch::Tally;

/// Upper bounds of the histogram of commit times, in seconds.
pub const COMMIT_BOUNDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// How the queue stands and what it has done since the service started.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct QueueStats {
    /// Jobs and nodes by how they stand.
    pub counts: Counts,
    /// Claims that wait.
    pub waiters: u64,
    /// Jobs accepted.
    pub submitted: u64,
    /// Jobs given to nodes.
    pub leased: u64,
    /// Claims that found nothing.
    pub empty_claims: u64,
    /// Jobs that ended with exit code 0.
    pub completed: u64,
    /// Jobs that ended otherwise.
    pub failed: u64,
    /// Attempts that were lost and made again.
    pub retries: u64,
    /// Nodes that were lost.
    pub nodes_lost: u64,
    /// Batches that were written.
    pub commits: u64,
    /// Batches that failed.
    pub failed_commits: u64,
    /// Commands of all batches.
    pub commands: u64,
    /// Seconds that commits took, all together.
    pub commit_seconds: f64,
    /// How many took at most as long as [`COMMIT_BOUNDS`] says, each counted once.
    pub commit_buckets: [u64; COMMIT_BOUNDS.len()],
}

/// What the engine publishes.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<QueueStats>);

impl Board {
    pub(super) fn read(&self) -> QueueStats {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, change: impl FnOnce(&mut QueueStats)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl QueueStats {
    pub(super) fn add(&mut self, tally: &Tally) {
        self.submitted += tally.submitted;
        self.leased += tally.leased;
        self.empty_claims += tally.empty_claims;
        self.completed += tally.completed;
        self.failed += tally.failed;
        self.retries += tally.retries;
        self.nodes_lost += tally.nodes_lost;
    }

    pub(super) fn committed(&mut self, took: Duration) {
        self.commits += 1;
        let seconds = took.as_secs_f64();
        self.commit_seconds += seconds;
        if let Some(at) = COMMIT_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.commit_buckets[at] += 1;
        }
    }
}

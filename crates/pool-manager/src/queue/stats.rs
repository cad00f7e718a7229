//! Numbers about the queue that anybody may read at any time.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sandrun_core::pool::{Counts, FailReason};

use super::batch::Tally;
use sandrun_metrics::Histogram;

/// Bounds of commit times, in seconds.
const COMMIT_BOUNDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];
/// Bounds of the times that jobs run, in seconds.
const RUN_BOUNDS: [f64; 13] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0,
];

/// How the queue stands and what it has done since the service started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueStats {
    /// Jobs and nodes by how they stand.
    pub counts: Counts,
    /// Claims that wait.
    pub waiters: u64,
    /// Jobs that were ever accepted, also by a former process.
    pub ever: u64,
    /// Jobs accepted.
    pub submitted: u64,
    /// Jobs given to nodes.
    pub leased: u64,
    /// Claims that found nothing.
    pub empty_claims: u64,
    /// Jobs that ended with exit code 0.
    pub completed: u64,
    /// Jobs that ended otherwise, those that were taken back among them.
    pub failed: u64,
    /// Jobs that their clients took back.
    pub cancelled: u64,
    /// Attempts that were lost and made again.
    pub retries: Retries,
    /// Nodes that were lost.
    pub nodes_lost: u64,
    /// Batches that failed.
    pub failed_commits: u64,
    /// Whether the last batch failed.
    pub is_failing: bool,
    /// Commands of all batches.
    pub commands: u64,
    /// How long batches took that were written.
    pub commits: Histogram<{ COMMIT_BOUNDS.len() }>,
    /// How long jobs took that have a result: from their latest attempt's lease to its answer.
    pub runs: Histogram<{ RUN_BOUNDS.len() }>,
}

impl Default for QueueStats {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            waiters: 0,
            ever: 0,
            submitted: 0,
            leased: 0,
            empty_claims: 0,
            completed: 0,
            failed: 0,
            cancelled: 0,
            retries: Retries::default(),
            nodes_lost: 0,
            failed_commits: 0,
            is_failing: false,
            commands: 0,
            commits: Histogram::new(COMMIT_BOUNDS),
            runs: Histogram::new(RUN_BOUNDS),
        }
    }
}

/// Attempts that were made again, by why they came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retries([u64; Self::WORDS.len()]);

impl Retries {
    /// The words for each reason that there is.
    const WORDS: [&str; 7] = [
        "failed_at_node",
        "refused",
        "lease_over",
        "node_lost",
        "bad_signature",
        "not_held",
        "other",
    ];

    /// Counts one.
    pub(super) const fn count(&mut self, reason: FailReason) {
        self.0[match reason {
            FailReason::Attempt => 0,
            FailReason::Refused => 1,
            FailReason::LeaseOver => 2,
            FailReason::NodeLost => 3,
            FailReason::BadSignature => 4,
            FailReason::NotHeld => 5,
            FailReason::NoAgreement | FailReason::Parent(_) => 6,
        }] += 1;
    }

    /// Each reason's word, and how many.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::WORDS.into_iter().zip(self.0)
    }

    /// How many, for whatever reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
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
        self.cancelled += tally.cancelled;
        self.retries.add(&tally.retries);
        self.nodes_lost += tally.nodes_lost;
        for took in &tally.runs {
            self.runs.observe(*took);
        }
    }

    pub(super) fn committed(&mut self, took: Duration) {
        self.commits.observe(took);
    }
}

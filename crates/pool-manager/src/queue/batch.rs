//! One batch: what it writes, whose answers wait for its commit, and what there is to tell afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use sandrun_core::pool::{ClientNumber, JobNumber};
use sandrun_store::queue::{BlobHash, UnixMillis, Writes};
use sandrun_types::UnixSeconds;

use super::command::{Reply, Staged, stage};
use super::error::QueueError;
use super::stats::Retries;

/// What a batch gathers before it is written.
#[derive(Default)]
pub(super) struct Batch {
    /// When it happens.
    pub(super) now: UnixMillis,
    /// Jobs up to this one are on the disk.
    pub(super) durable: u64,
    /// How many commands it does.
    pub(super) commands: u64,
    pub(super) writes: Writes,
    /// Bodies that it writes.
    pub(super) bodies: HashSet<BlobHash>,
    /// Answers that wait until it is on the disk.
    pub(super) staged: Vec<Staged>,
    /// Whether work is among those answers.
    pub(super) gives_late: bool,
    /// Answers that the end of this process must not take back; should the machine stop and a lease be forgotten, then
    /// it is as if that had run out.
    pub(super) early: Vec<Staged>,
    /// Jobs whose requests are needed after the commit.
    pub(super) leased: BTreeSet<JobNumber>,
    /// Clients of this batch that are not in memory, as the store knows them.
    pub(super) clients: HashMap<String, ClientNumber>,
    /// Clients whose names are written.
    pub(super) named: BTreeSet<ClientNumber>,
    /// Jobs by their clients' own keys: from earlier batches, from elsewhere and from this one.
    pub(super) keys: HashMap<(ClientNumber, String), JobNumber>,
    /// Jobs whose followers are to be told.
    pub(super) told: BTreeSet<JobNumber>,
    /// Nodes' own words about attempts that came to nothing in this batch.
    pub(super) words: HashMap<JobNumber, String>,
    pub(super) tally: Tally,
}

/// What happened in a batch, for the statistics.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) submitted: u64,
    pub(super) leased: u64,
    pub(super) empty_claims: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) retries: Retries,
    pub(super) nodes_lost: u64,
    /// How long jobs took that have a result.
    pub(super) runs: Vec<Duration>,
}

impl Tally {
    /// What is to be counted of claims, which are answered first.
    pub(super) fn take_claims(&mut self) -> Self {
        Self {
            leased: std::mem::take(&mut self.leased),
            empty_claims: std::mem::take(&mut self.empty_claims),
            ..Self::default()
        }
    }
}

impl Batch {
    /// An empty batch at this time.
    pub(super) fn at(now: UnixMillis) -> Self {
        Self {
            now,
            ..Self::default()
        }
    }

    /// The machine's time.
    pub(super) const fn seconds(&self) -> UnixSeconds {
        UnixSeconds(self.now / 1_000)
    }

    /// Answers after the commit.
    pub(super) fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T, QueueError>) {
        self.staged.push(stage(reply, answer));
    }
}

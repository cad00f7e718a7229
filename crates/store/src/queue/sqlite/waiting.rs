//! Batches on their way to the tables: what waits, what of it is known, and who waits for it. Plain state, no thread.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sandrun_core::pool::JobNumber;

use super::latest::Latest;
use super::recent::Recent;
use crate::queue::{BlobHash, QueueStoreError, Writes};

/// Rows after which batches wait no longer, and that one transaction takes.
const ROWS: usize = 16_384;
/// Bytes of their records after which they wait no longer.
const LOT: usize = 4 << 20;
/// Room for rows that is kept after a burst.
const KEPT: usize = 512;

/// A batch that is acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) writes: Arc<Writes>,
    pub(super) bytes: usize,
    pub(super) at: Instant,
}

/// What waits, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) waiting: VecDeque<Batch>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// The last batch that changes a job.
    pub(super) jobs: Latest<JobNumber>,
    /// Requests of jobs that the tables do not have.
    pub(super) requests: HashMap<JobNumber, (Arc<Writes>, usize)>,
    /// The last batch with a client's own key.
    pub(super) keys: Latest<String>,
    /// The last batch with a client's name.
    pub(super) clients: Latest<String>,
    /// The last batch with a body.
    pub(super) bodies: Latest<BlobHash>,
    /// Jobs as the acknowledged batches have left them.
    pub(super) recent: Recent,
    /// Batches that are of no use any more, to be freed by whoever has nobody waiting.
    pub(super) gone: Vec<Arc<Writes>>,
    /// The last batch that was decided and not refused: its callers may have their answers.
    pub(super) noted: u64,
    pub(super) acknowledged: u64,
    pub(super) settled: u64,
    /// All up to here is in the tables on the disk.
    pub(super) durable: u64,
    /// Somebody waits for all up to here.
    pub(super) wanted: u64,
    /// Somebody waits for all up to here to be on the disk.
    pub(super) wanted_durable: u64,
    pub(super) trouble: Option<Trouble>,
    /// Why nothing more of the tables gets to the disk.
    pub(super) unsyncable: Option<Arc<QueueStoreError>>,
    pub(super) is_stopping: bool,
    pub(super) has_ended: bool,
}

/// Why batches can't be brought to the tables.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) full: bool,
}

impl State {
    /// Whether batches wait no longer for others.
    pub(super) const fn are_enough(&self) -> bool {
        self.rows >= ROWS || self.bytes >= LOT
    }

    /// The first batches, as many as one transaction takes. They stay.
    pub(super) fn some(&self) -> Vec<Batch> {
        let mut rows = 0;
        let fits = |batch: &&Batch| {
            let has_room = rows < ROWS;
            rows += batch.writes.rows();
            has_room
        };
        self.waiting.iter().take_while(fits).cloned().collect()
    }

    /// A batch is in the tables.
    pub(super) fn settled(&mut self, batch: &Batch) {
        self.waiting.pop_front();
        self.rows -= batch.writes.rows();
        self.bytes -= batch.bytes;
        self.settled = batch.id;
        let id = batch.id;
        for job in jobs_of(&batch.writes) {
            self.jobs.remove_if(&job, id);
        }
        for client in &batch.writes.clients {
            self.clients.remove_if(&client.name, id);
        }
        for body in &batch.writes.bodies {
            self.bodies.remove_if(&body.blob, id);
        }
        for new in &batch.writes.new_jobs {
            self.requests.remove(&new.number);
            if let Some(key) = &new.idempotency {
                self.keys.remove_if(key, id);
            }
        }
        if self.waiting.is_empty() {
            // a burst's room is given back
            self.jobs.tidy(id);
            self.clients.tidy(id);
            self.keys.tidy(id);
            self.bodies.tidy(id);
            self.requests.shrink_to(KEPT);
            self.waiting.shrink_to(KEPT);
        }
    }

    /// A batch was noted and will not be written: what it would have changed is as the acknowledged ones have left it.
    pub(super) fn refuse(&mut self, id: u64, writes: &Writes) {
        let last = self.acknowledged;
        self.noted = last;
        for job in jobs_of(writes) {
            self.jobs.lower(&job, id, last);
        }
        for client in &writes.clients {
            self.clients.lower(&client.name, id, last);
        }
        for body in &writes.bodies {
            self.bodies.lower(&body.blob, id, last);
        }
        for new in &writes.new_jobs {
            self.requests.remove(&new.number);
            if let Some(key) = &new.idempotency {
                self.keys.lower(key, id, last);
            }
        }
    }
}

/// Jobs that a batch changes.
pub(super) fn jobs_of(writes: &Writes) -> impl Iterator<Item = JobNumber> + '_ {
    let touched = writes.jobs.iter().map(|row| row.number);
    let answered = writes.answers.iter().map(|answer| answer.job);
    let printed = writes.logs.iter().map(|piece| piece.job);
    touched.chain(answered).chain(printed)
}

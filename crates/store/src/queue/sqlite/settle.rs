//! Bringing acknowledged batches to the tables: many at a time, by a thread of its own, a moment after they were
//! acknowledged. Whoever reads what is not there yet has it brought there first.
//!
//! A batch that can't be brought there (a full disk) stays in the journal and is tried again every second; meanwhile
//! reads of what it changes fail, and when too much has gathered, so do new batches.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use sandrun_core::pool::JobNumber;

use super::Shared;
use super::later::Later;
use super::waiting::{Batch, State, Trouble, jobs_of};
use super::write::{Merged, write};
use crate::queue::{Answer, BlobHash, Doing, JobRow, QueueStoreError, Writes};

/// How long a batch may wait for others: rows of a large table share pages the more of them come at once.
const DELAY: Duration = Duration::from_millis(500);
/// Batches that are counted as settled at once; deciding the next ones waits meanwhile.
const COUNTED: usize = 32;
/// Bytes that may wait; more have to wait for the disk.
const BYTES: usize = 8 << 20;
/// How often the tables are brought to the disk, so that the journal can forget.
const SYNC: Duration = Duration::from_secs(1);
/// Bytes after which it is time for that, too.
const SYNC_BYTES: usize = 4 << 20;
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The state, shared by the writer, the readers and the thread.
#[derive(Debug, Default)]
pub(super) struct Settling {
    state: Mutex<State>,
    /// There is something to do for the thread.
    work: Condvar,
    /// Something was done, or could not be.
    done: Condvar,
}

/// What the thread does next.
enum Task {
    Settle(Vec<Batch>),
    Sync,
    End,
}

impl Settling {
    /// All up to `settled` is in the tables on the disk.
    pub(super) fn new(settled: u64) -> Self {
        let state = State {
            noted: settled,
            acknowledged: settled,
            settled,
            durable: settled,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // every change is made whole under one lock
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch was decided: whoever wants what it changes has to wait for it.
    pub(super) fn note(&self, id: u64, writes: &Arc<Writes>) {
        let mut state = self.state();
        state.noted = id;
        for job in jobs_of(writes) {
            state.jobs.note(job, id);
        }
        for (at, new) in writes.new_jobs.iter().enumerate() {
            state.requests.insert(new.number, (Arc::clone(writes), at));
            if let Some(key) = &new.idempotency {
                state.keys.note(key.clone(), id);
            }
        }
        for client in &writes.clients {
            state.clients.note(client.name.clone(), id);
        }
        for body in &writes.bodies {
            state.bodies.note(body.blob, id);
        }
    }

    /// A batch that was noted is not written: nobody has to wait for it.
    pub(super) fn refuse(&self, id: u64, writes: &Writes) {
        let mut state = self.state();
        state.refuse(id, writes);
        self.done.notify_all();
    }

    /// A batch that was noted is on the disk.
    pub(super) fn acknowledge(&self, id: u64, writes: Arc<Writes>, bytes: usize) {
        let mut guard = self.state();
        let state = &mut *guard;
        let was_idle = state.waiting.is_empty();
        let rows = writes.rows();
        let was_enough = state.are_enough();
        state.rows += rows;
        state.bytes += bytes;
        state.acknowledged = id;
        state.recent.take_in(&writes, bytes, &mut state.gone);
        state.waiting.push_back(Batch {
            id,
            writes,
            bytes,
            at: Instant::now(),
        });
        if was_idle || (!was_enough && state.are_enough()) {
            self.work.notify_one();
        }
    }

    /// Waits until there is room for one more batch.
    ///
    /// # Errors
    /// [`QueueStoreError::Unsettled`] where there will be none soon.
    pub(super) fn room(&self, doing: Doing) -> Result<(), QueueStoreError> {
        let mut state = self.state();
        while state.bytes > BYTES {
            state = self.wait(state, doing)?;
        }
        Ok(())
    }

    /// Waits until all up to a batch is in the tables on the disk.
    ///
    /// # Errors
    /// As [`Self::room`]; or no sync of the tables counts any more.
    pub(super) fn durable(&self, id: u64, doing: Doing) -> Result<(), QueueStoreError> {
        let mut state = self.state();
        while state.durable < id {
            if let Some(error) = &state.unsyncable {
                return Err(QueueStoreError::Undone(Arc::clone(error)));
            }
            if state.wanted_durable < id {
                state.wanted_durable = id;
                self.work.notify_one();
            }
            state = self.wait(state, doing)?;
        }
        Ok(())
    }

    /// Brings everything to the tables that anybody may have been told of.
    ///
    /// # Errors
    /// [`QueueStoreError::Unsettled`] where that fails.
    pub(super) fn settle_all(&self, doing: Doing) -> Result<(), QueueStoreError> {
        self.settle(doing, |state| Some(state.noted))
    }

    /// Brings everything there that was decided of a job.
    ///
    /// # Errors
    /// As [`Self::settle_all`].
    pub(super) fn settle_job(&self, job: JobNumber, doing: Doing) -> Result<(), QueueStoreError> {
        self.settle(doing, |state| state.jobs.get(&job))
    }

    /// Brings jobs there that were submitted under a client's own key.
    ///
    /// # Errors
    /// As [`Self::settle_all`].
    pub(super) fn settle_key(&self, key: &str, doing: Doing) -> Result<(), QueueStoreError> {
        self.settle(doing, |state| state.keys.get(key))
    }

    /// Brings the client of this name there.
    ///
    /// # Errors
    /// As [`Self::settle_all`].
    pub(super) fn settle_client(&self, name: &str, doing: Doing) -> Result<(), QueueStoreError> {
        self.settle(doing, |state| state.clients.get(name))
    }

    /// Brings a body there that comes with a batch.
    ///
    /// # Errors
    /// As [`Self::settle_all`].
    pub(super) fn settle_body(&self, blob: BlobHash, doing: Doing) -> Result<(), QueueStoreError> {
        self.settle(doing, |state| state.bodies.get(&blob))
    }

    /// A job with its answers, if all that was decided of it is acknowledged and still in memory.
    pub(super) fn recent(&self, job: JobNumber) -> Option<(JobRow, Vec<Answer>)> {
        let state = self.state();
        let is_whole = state.jobs.get(&job).is_none_or(|id| id <= state.acknowledged);
        is_whole.then(|| state.recent.find(job))?
    }

    /// The batches that may say more of a job than the tables, which are to be read after this. Where the tables don't have
    /// the job at all, or what was decided of it is not acknowledged, that is brought there.
    ///
    /// # Errors
    /// As [`Self::settle_all`].
    pub(super) fn later(&self, job: JobNumber, doing: Doing) -> Result<Later, QueueStoreError> {
        let state = self.state();
        let Some(last) = state.jobs.get(&job) else {
            return Ok(Later::new());
        };
        if last <= state.acknowledged && !state.requests.contains_key(&job) {
            return Ok(state
                .waiting
                .iter()
                .map(|batch| Arc::clone(&batch.writes))
                .collect());
        }
        drop(state);
        self.settle_job(job, doing)?;
        Ok(Later::new())
    }

    /// Something else than a batch has changed the tables.
    pub(super) fn forget_recent(&self) {
        self.state().recent.forget();
    }

    /// The requests of those jobs that the tables do not have yet.
    pub(super) fn requests(&self, jobs: &[JobNumber]) -> Vec<Option<Vec<u8>>> {
        let state = self.state();
        let request = |job| {
            let (writes, at) = state.requests.get(job)?;
            writes.new_jobs.get(*at).map(|new| new.request.clone())
        };
        jobs.iter().map(request).collect()
    }

    /// Waits until the tables have the batch that is `needed` now, or, should that one be refused, the one before it.
    fn settle(&self, doing: Doing, needed: impl Fn(&State) -> Option<u64>) -> Result<(), QueueStoreError> {
        let mut state = self.state();
        let mut latest = u64::MAX;
        while let Some(id) = needed(&state)
            .map(|id| id.min(latest))
            .filter(|id| state.settled < *id)
        {
            latest = id;
            if state.wanted < id {
                state.wanted = id;
                self.work.notify_one();
            }
            state = self.wait(state, doing)?;
        }
        Ok(())
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        doing: Doing,
    ) -> Result<MutexGuard<'a, State>, QueueStoreError> {
        if let Some(Trouble { why, full }) = state.trouble.clone() {
            return Err(QueueStoreError::Unsettled { doing, why, full });
        }
        if state.has_ended {
            return Err(QueueStoreError::Ending(doing));
        }
        Ok(self.done.wait(state).unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the thread to bring the rest to the tables and end.
    pub(super) fn stop(&self) {
        self.state().is_stopping = true;
        self.work.notify_one();
    }

    fn next(&self, unsynced: Option<Instant>) -> Task {
        let mut state = self.state();
        loop {
            let due = match state.waiting.front() {
                None if state.is_stopping => return Task::End,
                None => match unsynced {
                    Some(since) => since + SYNC,
                    None => {
                        state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                        continue;
                    }
                },
                Some(first) => first.at + DELAY,
            };
            let now = Instant::now();
            let is_urgent = state.is_stopping
                || state.are_enough()
                || state.wanted.max(state.wanted_durable) > state.settled;
            let is_wanted = state.wanted_durable > state.durable;
            let is_due = now >= due || is_wanted || (is_urgent && !state.waiting.is_empty());
            if is_due && state.waiting.is_empty() {
                return Task::Sync;
            }
            if is_due {
                return Task::Settle(state.some());
            }
            let waited = self.work.wait_timeout(state, due - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn settled(&self, batches: &[Batch]) {
        for some in batches.chunks(COUNTED) {
            let mut state = self.state();
            for batch in some {
                state.settled(batch);
            }
            self.over(&mut state);
            let gone = std::mem::take(&mut state.gone);
            drop(state);
            drop(gone);
        }
    }

    fn synced(&self, id: u64) {
        let mut state = self.state();
        state.durable = id;
        self.over(&mut state);
    }

    /// Something was done: if there was trouble, it is over.
    fn over(&self, state: &mut State) {
        if state.trouble.take().is_some() {
            tracing::info!("acknowledged batches get to the tables again");
        }
        self.done.notify_all();
    }

    /// A sync has failed, and so will all others. What is acknowledged goes on getting to the tables.
    fn unsyncable(&self, error: QueueStoreError) {
        let mut state = self.state();
        state.wanted_durable = state.durable;
        if state.unsyncable.is_none() {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let source = source.unwrap_or_default();
            tracing::error!(%error, source, "the journal keeps what is acknowledged, until it is full");
            state.unsyncable = Some(Arc::new(error));
        }
        self.done.notify_all();
    }

    fn wants_sync(&self) -> bool {
        let state = self.state();
        state.durable < state.wanted_durable && state.wanted_durable <= state.settled
    }

    /// Notes a failure, and pauses.
    fn failed(&self, error: &QueueStoreError) {
        let mut state = self.state();
        let source = std::error::Error::source(error).map(|source| format!(": {source}"));
        let trouble = Trouble {
            why: format!("{error}{}", source.unwrap_or_default()),
            full: error.is_full(),
        };
        let is_new = state.trouble.as_ref().is_none_or(|it| it.why != trouble.why);
        if is_new {
            tracing::error!(%error, "acknowledged batches can't be brought to the tables; it is tried every second");
        }
        state.trouble = Some(trouble);
        self.done.notify_all();
        let until = Instant::now() + RETRY;
        while !state.is_stopping {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return;
            };
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end(&self) {
        self.state().has_ended = true;
        self.done.notify_all();
    }
}

/// The thread: works until it is told to stop and nothing is left, or nothing can be written.
pub(super) fn run(shared: &Shared, mut tables: Connection) {
    let settling = &shared.settling;
    let _ended = Ended(settling);
    let mut last = settling.state().settled;
    // since when something is in the tables and not on the disk, and how much
    let mut unsynced: Option<(Instant, usize)> = None;
    loop {
        match settling.next(unsynced.map(|(since, _)| since)) {
            Task::End => break,
            Task::Sync => {}
            Task::Settle(batches) => match settle(shared, &mut tables, &batches) {
                Ok(()) => {
                    settling.settled(&batches);
                    last = batches.last().map_or(last, |batch| batch.id);
                    let bytes: usize = batches.iter().map(|batch| batch.bytes).sum();
                    let (since, before) = unsynced.unwrap_or_else(|| (Instant::now(), 0));
                    unsynced = Some((since, before + bytes));
                }
                Err(error) => {
                    settling.failed(&error);
                    if settling.state().is_stopping {
                        break;
                    }
                }
            },
        }
        if let Some((since, bytes)) = unsynced
            && (since.elapsed() >= SYNC || bytes >= SYNC_BYTES || settling.wants_sync())
        {
            match shared.sync_tables() {
                Ok(()) => settling.synced(last),
                Err(error) => settling.unsyncable(error),
            }
            unsynced = None;
        }
    }
}

/// Tells that the thread has ended, however it does.
struct Ended<'a>(&'a Settling);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn settle(shared: &Shared, tables: &mut Connection, batches: &[Batch]) -> Result<(), QueueStoreError> {
    let Some(last) = batches.last() else { return Ok(()) };
    settle_writes(
        shared,
        tables,
        batches.iter().map(|batch| &*batch.writes),
        last.id,
    )
}

/// Brings batches up to the one with this number to the tables, in one transaction.
///
/// # Errors
/// [`QueueStoreError`]; nothing was written then.
pub(super) fn settle_writes<'a>(
    shared: &Shared,
    tables: &mut Connection,
    batches: impl Iterator<Item = &'a Writes>,
    last: u64,
) -> Result<(), QueueStoreError> {
    let sql = QueueStoreError::sqlite("bring batches to the tables");
    let merged = Merged::of(batches);
    let _turn = shared.gate();
    let transaction = tables
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql)?;
    write(&transaction, &merged, last)?;
    transaction.commit().map_err(sql)
}

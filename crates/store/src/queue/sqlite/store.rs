//! The writing side in SQLite.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::Attempt;

use super::Shared;
use super::commit::{Committer, Decided, Waiting};
use super::journal::{Journal, Record};
use super::select::requests;
use super::settle;
use crate::queue::codec::{clean, narrow, signed, unsigned, word_of};
use crate::queue::{
    AtHand, ClientRow, Doing, Done, Foreign, JobState, NodeRow, QueueStore, QueueStoreError, Writes,
};

const LOAD: Doing = "load the queue";
const WRITE: Doing = "write a batch";

/// The columns of [`job_state`], in its order.
pub(super) const STATE: &str =
    "job.number, job.open, job.word, job.reason, job.node, job.attempt, job.started, job.ended, job.snapshot";
/// How many those are.
pub(super) const STATE_COLUMNS: usize = 9;

/// Jobs that have not ended. Their words come before those of ended ones, so that the index of words has them: one of
/// their own would be one more place to write to for each job.
pub(super) const OPEN: &str = "word < 3 AND open = 1";

/// A job's changing part without its word, and the word's code.
pub(super) fn job_state(row: &Row<'_>) -> rusqlite::Result<(JobState, i64)> {
    let state = JobState {
        number: JobNumber(unsigned(row.get(0)?)),
        open: row.get(1)?,
        word: crate::queue::JobWord::Pending,
        reason: row.get(3)?,
        node: row.get::<_, Option<i64>>(4)?.map(|node| NodeNumber(narrow(node))),
        attempt: row
            .get::<_, Option<i64>>(5)?
            .map(|attempt| Attempt(narrow(attempt))),
        started: row.get::<_, Option<i64>>(6)?.map(unsigned),
        ended: row.get::<_, Option<i64>>(7)?.map(unsigned),
        snapshot: row.get(8)?,
    };
    Ok((state, row.get(2)?))
}

/// Puts the word to its state.
pub(super) fn with_word((state, code): (JobState, i64), doing: Doing) -> Result<JobState, QueueStoreError> {
    Ok(JobState {
        word: word_of(code, doing)?,
        ..state
    })
}

/// All nodes, in the order of numbers.
pub(super) fn nodes(connection: &Connection) -> rusqlite::Result<Vec<NodeRow>> {
    connection
        .prepare_cached(
            "SELECT number, id, endpoint, announced, heard, completed, failed, snapshot FROM node ORDER BY number",
        )?
        .query_map([], |row| {
            Ok(NodeRow {
                number: NodeNumber(narrow(row.get(0)?)),
                id: row.get(1)?,
                endpoint: row.get(2)?,
                announced: row.get(3)?,
                heard: unsigned(row.get(4)?),
                completed: unsigned(row.get(5)?),
                failed: unsigned(row.get(6)?),
                snapshot: row.get(7)?,
            })
        })?
        .collect()
}

/// The one writer of a queue.
#[derive(Debug)]
pub(super) struct SqliteStore {
    /// For reads of the tables, which another thread writes.
    tables: Connection,
    pub(super) committer: Committer,
    /// The number of the next batch.
    next: u64,
    /// A batch that was decided and is not on its way yet.
    decided: Option<Decided>,
    shared: Arc<Shared>,
    /// Highest numbers given out, and nothing else.
    highest: Foreign,
    settler: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Starts the thread that brings batches to the tables, over `writer`.
    pub(super) fn start(
        shared: Arc<Shared>,
        journal: Journal,
        writer: Connection,
    ) -> Result<Self, QueueStoreError> {
        let tables = shared.connect()?;
        let highest = counters(&tables).map_err(QueueStoreError::sqlite(LOAD))?;
        let next = journal.last() + 1;
        let committer = Committer::start(Arc::clone(&shared), journal)?;
        let of_thread = Arc::clone(&shared);
        let settler = std::thread::Builder::new()
            .name("queue-tables".to_owned())
            .spawn(move || settle::run(&of_thread, writer))
            .map_err(|_| QueueStoreError::Ending("start the thread of the tables"))?;
        Ok(Self {
            tables,
            committer,
            next,
            decided: None,
            shared,
            highest,
            settler: Some(settler),
        })
    }

    /// Refuses what the tables would refuse after it was acknowledged.
    fn check(&self, writes: &Writes) -> Result<(), QueueStoreError> {
        let states: BTreeSet<JobNumber> = writes.jobs.iter().map(|state| state.number).collect();
        let mut last = self.highest.last_job;
        for new in &writes.new_jobs {
            if !states.contains(&new.number) {
                return Err(QueueStoreError::Stateless(new.number));
            }
            if new.number.0 <= last {
                return Err(QueueStoreError::Repeated(new.number));
            }
            last = new.number.0;
        }
        Ok(())
    }

    /// Leaves out what is about jobs that are not there, and that a later batch could make.
    fn leave_out(&self, writes: &mut Writes) {
        let new = writes.new_jobs.last().map_or(0, |new| new.number.0);
        let last = self.highest.last_job.max(new);
        writes.jobs.retain(|row| row.number.0 <= last);
        writes.answers.retain(|answer| answer.job.0 <= last);
        writes.logs.retain(|piece| piece.job.0 <= last);
    }

    fn count(&mut self, writes: &Writes) {
        let highest = &mut self.highest;
        let jobs = writes.new_jobs.iter().map(|new| new.number.0);
        highest.last_job = jobs.fold(highest.last_job, u64::max);
        let nodes = writes.nodes.iter().map(|node| node.number.0);
        highest.last_node = nodes.fold(highest.last_node, u32::max);
        let clients = writes.clients.iter().map(|client| client.number.0);
        highest.last_client = clients.fold(highest.last_client, u32::max);
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // its last batches are for the tables, too
        self.committer.stop();
        self.shared.settling.stop();
        if let Some(settler) = self.settler.take()
            && settler.join().is_err()
        {
            tracing::error!("the thread of the queue's tables died; the journal has what it had not written");
        }
    }
}

impl QueueStore for SqliteStore {
    fn load(&mut self) -> Result<Foreign, QueueStoreError> {
        self.next = self.committer.resume()?;
        self.shared.settling.settle_all(LOAD)?;
        let sql = QueueStoreError::sqlite(LOAD);
        let mut all = counters(&self.tables).map_err(sql)?;
        self.highest = all.clone();
        let mut found: Vec<_> = self
            .tables
            .prepare_cached(&format!("SELECT {STATE} FROM job WHERE {OPEN}"))
            .and_then(|mut statement| statement.query_map([], job_state)?.collect())
            .map_err(sql)?;
        found.sort_by_key(|(state, _)| state.number);
        let words = found.into_iter().map(|found| with_word(found, LOAD));
        all.jobs = words.collect::<Result<_, _>>()?;
        all.nodes = nodes(&self.tables).map_err(sql)?;
        all.clients = self
            .tables
            .prepare_cached("SELECT number, name FROM client ORDER BY number")
            .and_then(|mut statement| {
                let rows = statement.query_map([], |row| {
                    Ok(ClientRow {
                        number: ClientNumber(narrow(row.get(0)?)),
                        name: row.get(1)?,
                    })
                })?;
                rows.collect()
            })
            .map_err(sql)?;
        Ok(all)
    }

    fn transact(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        self.decide(work)?;
        let (sender, written) = mpsc::sync_channel(1);
        // who asks waits right below
        self.when_durable(Box::new(|_| {}), Box::new(move |how| drop(sender.send(how))));
        written.recv().map_err(|_| QueueStoreError::Ending(WRITE))?
    }

    fn decide(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        self.shared.settling.room(WRITE)?;
        let mut writes = work(self.highest.clone());
        self.check(&writes)?;
        self.leave_out(&mut writes);
        if writes.is_empty() {
            return Ok(());
        }
        self.shared.place.check_now_and_then()?;
        let id = self.next;
        let record = Record::of(&writes)?;
        self.count(&writes);
        let writes = Arc::new(writes);
        self.shared.settling.note(id, &writes);
        self.next += 1;
        self.decided = Some(Decided { id, record, writes });
        Ok(())
    }

    fn when_durable(&mut self, written: Done, durable: Done) {
        let waiting = Waiting {
            written,
            durable,
            is_urgent: true,
        };
        self.committer.commit(self.decided.take(), waiting);
    }

    fn when_durable_at_leisure(&mut self, written: Done, durable: Done) {
        let waiting = Waiting {
            written,
            durable,
            is_urgent: false,
        };
        self.committer.commit(self.decided.take(), waiting);
    }

    fn is_behind(&self) -> bool {
        self.committer.is_behind()
    }

    fn is_lame(&self) -> bool {
        // neither ends by itself
        self.committer.has_ended() || self.settler.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError> {
        const DOING: Doing = "read a job";
        self.shared.settling.settle_job(number, DOING)?;
        let found = self
            .tables
            .prepare_cached(&format!("SELECT {STATE} FROM job WHERE number = ?1"))
            .and_then(|mut statement| statement.query_row([signed(number.0)], job_state).optional())
            .map_err(QueueStoreError::sqlite(DOING))?;
        found.map(|found| with_word(found, DOING)).transpose()
    }

    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        let at_hand = self.requests_at_hand(numbers)?;
        let missing: Vec<JobNumber> = at_hand
            .iter()
            .filter_map(|(number, request)| request.is_none().then_some(*number))
            .collect();
        let mut of_tables = requests(&self.tables, &missing, "read requests")?
            .into_iter()
            .peekable();
        let found = at_hand.into_iter().filter_map(|(number, request)| match request {
            Some(request) => Some((number, request)),
            None => of_tables.next_if(|(found, _)| *found == number),
        });
        Ok(found.collect())
    }

    fn requests_at_hand(&mut self, numbers: &[JobNumber]) -> Result<AtHand, QueueStoreError> {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let waiting = self.shared.settling.requests(&sorted);
        Ok(sorted.into_iter().zip(waiting).collect())
    }

    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError> {
        const DOING: Doing = "look an idempotency key up";
        self.shared.settling.settle_key(key, DOING)?;
        let found: Option<i64> = self
            .tables
            .prepare_cached(
                "SELECT MIN(number) FROM job WHERE client = (SELECT number FROM client WHERE name = ?1) AND key = ?2",
            )
            .and_then(|mut statement| {
                statement.query_row(params![clean(client), clean(key)], |row| row.get(0))
            })
            .map_err(QueueStoreError::sqlite(DOING))?;
        Ok(found.map(|number| JobNumber(unsigned(number))))
    }

    fn client(&mut self, name: &str) -> Result<Option<ClientNumber>, QueueStoreError> {
        const DOING: Doing = "look a client up";
        self.shared.settling.settle_client(name, DOING)?;
        let found: Option<i64> = self
            .tables
            .prepare_cached("SELECT number FROM client WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([clean(name)], |row| row.get(0)).optional())
            .map_err(QueueStoreError::sqlite(DOING))?;
        Ok(found.map(|number| ClientNumber(narrow(number))))
    }

    fn keep(&mut self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, QueueStoreError> {
        let keep = || {
            let _turn = self.shared.gate();
            let insert = "INSERT INTO kept (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            self.tables.execute(insert, params![clean(name), fresh])?;
            let select = "SELECT value FROM kept WHERE name = ?1";
            self.tables.query_row(select, [clean(name)], |row| row.get(0))
        };
        let kept = keep().map_err(QueueStoreError::sqlite("keep a value"))?;
        self.shared.sync_tables()?;
        Ok(kept)
    }
}

fn counters(connection: &Connection) -> rusqlite::Result<Foreign> {
    connection
        .prepare_cached("SELECT last_job, last_node, last_client FROM counter")?
        .query_row([], |row| {
            Ok(Foreign {
                last_job: unsigned(row.get(0)?),
                last_node: narrow(row.get(1)?),
                last_client: narrow(row.get(2)?),
                ..Foreign::default()
            })
        })
}

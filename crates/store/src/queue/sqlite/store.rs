//! The writing side in SQLite.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::Attempt;

use super::Shared;
use crate::queue::codec::{
    clean, narrow, pack_blobs, pack_outputs, pack_parents, signed, stream_code, unsigned, word_code, word_of,
};
use crate::queue::{
    Answer, BlobHash, ClientRow, Doing, Foreign, JobState, LogPiece, NewJob, NodeRow, QueueStore,
    QueueStoreError, Writes,
};

const LOAD: Doing = "load the queue";
const WRITE: Doing = "write a batch";

/// The columns of [`job_state`], in its order.
pub(super) const STATE: &str =
    "job.number, job.open, job.word, job.reason, job.node, job.attempt, job.started, job.ended, job.snapshot";
/// How many those are.
pub(super) const STATE_COLUMNS: usize = 9;

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

/// The one writer of a file.
#[derive(Debug)]
pub(super) struct SqliteStore {
    pub(super) connection: Connection,
    shared: Arc<Shared>,
}

impl SqliteStore {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, QueueStoreError> {
        Ok(Self {
            connection: shared.connect(true)?,
            shared,
        })
    }
}

impl QueueStore for SqliteStore {
    fn load(&mut self) -> Result<Foreign, QueueStoreError> {
        let sql = QueueStoreError::sqlite(LOAD);
        let mut all = counters(&self.connection).map_err(sql)?;
        let found: Vec<_> = self
            .connection
            .prepare_cached(&format!("SELECT {STATE} FROM job WHERE open = 1 ORDER BY number"))
            .and_then(|mut statement| statement.query_map([], job_state)?.collect())
            .map_err(sql)?;
        let words = found.into_iter().map(|found| with_word(found, LOAD));
        all.jobs = words.collect::<Result<_, _>>()?;
        all.nodes = nodes(&self.connection).map_err(sql)?;
        all.clients = self
            .connection
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
        let sql = QueueStoreError::sqlite(WRITE);
        let _turn = self.shared.gate();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sql)?;
        let writes = work(counters(&transaction).map_err(sql)?);
        if writes.is_empty() {
            return Ok(());
        }
        write(&transaction, &writes)?;
        transaction.commit().map_err(sql)
    }

    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError> {
        const DOING: Doing = "read a job";
        let found = self
            .connection
            .prepare_cached(&format!("SELECT {STATE} FROM job WHERE number = ?1"))
            .and_then(|mut statement| statement.query_row([signed(number.0)], job_state).optional())
            .map_err(QueueStoreError::sqlite(DOING))?;
        found.map(|found| with_word(found, DOING)).transpose()
    }

    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        let sql = QueueStoreError::sqlite("read requests");
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM request WHERE job = ?1")
            .map_err(sql)?;
        let mut found = Vec::with_capacity(sorted.len());
        for number in sorted {
            let body = statement.query_row([signed(number.0)], |row| row.get(0));
            found.extend(body.optional().map_err(sql)?.map(|body| (number, body)));
        }
        Ok(found)
    }

    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError> {
        let found: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT MIN(number) FROM job WHERE client = (SELECT number FROM client WHERE name = ?1) AND key = ?2",
            )
            .and_then(|mut statement| {
                statement.query_row(params![clean(client), clean(key)], |row| row.get(0))
            })
            .map_err(QueueStoreError::sqlite("look an idempotency key up"))?;
        Ok(found.map(|number| JobNumber(unsigned(number))))
    }

    fn client(&mut self, name: &str) -> Result<Option<ClientNumber>, QueueStoreError> {
        let found: Option<i64> = self
            .connection
            .prepare_cached("SELECT number FROM client WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([clean(name)], |row| row.get(0)).optional())
            .map_err(QueueStoreError::sqlite("look a client up"))?;
        Ok(found.map(|number| ClientNumber(narrow(number))))
    }

    fn keep(&mut self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, QueueStoreError> {
        let _turn = self.shared.gate();
        let keep = || {
            let insert = "INSERT INTO kept (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            self.connection.execute(insert, params![clean(name), fresh])?;
            let select = "SELECT value FROM kept WHERE name = ?1";
            self.connection.query_row(select, [clean(name)], |row| row.get(0))
        };
        keep().map_err(QueueStoreError::sqlite("keep a value"))
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

/// Writes a batch into the open transaction.
fn write(connection: &Connection, writes: &Writes) -> Result<(), QueueStoreError> {
    let sql = QueueStoreError::sqlite(WRITE);
    write_clients(connection, &writes.clients).map_err(sql)?;
    let mut states: BTreeMap<JobNumber, &JobState> =
        writes.jobs.iter().map(|state| (state.number, state)).collect();
    for new in &writes.new_jobs {
        let state = states
            .remove(&new.number)
            .ok_or(QueueStoreError::Stateless(new.number))?;
        write_new(connection, new, state).map_err(sql)?;
    }
    for state in states.into_values() {
        write_state(connection, state).map_err(sql)?;
    }
    for node in &writes.nodes {
        write_node(connection, node).map_err(sql)?;
    }
    for answer in &writes.answers {
        let outputs = pack_outputs(&answer.outputs, WRITE)?;
        write_answer(connection, answer, &outputs).map_err(sql)?;
    }
    for piece in writes.logs.iter().filter(|piece| !piece.bytes.is_empty()) {
        write_piece(connection, piece).map_err(sql)?;
    }
    let last_job = writes.new_jobs.iter().map(|new| new.number.0).max();
    let last_node = writes.nodes.iter().map(|node| node.number.0).max();
    let last_client = writes.clients.iter().map(|client| client.number.0).max();
    connection
        .prepare_cached(
            "UPDATE counter SET last_job = MAX(last_job, ?1), last_node = MAX(last_node, ?2),
                 last_client = MAX(last_client, ?3)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                signed(last_job.unwrap_or_default()),
                last_node.unwrap_or_default(),
                last_client.unwrap_or_default()
            ])
        })
        .map_err(sql)?;
    Ok(())
}

fn write_clients(connection: &Connection, clients: &[ClientRow]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO client (number, name) VALUES (?1, ?2) ON CONFLICT (number) DO NOTHING",
    )?;
    for client in clients {
        statement.execute(params![client.number.0, clean(&client.name)])?;
    }
    Ok(())
}

fn write_new(connection: &Connection, new: &NewJob, state: &JobState) -> rusqlite::Result<()> {
    let number = signed(new.number.0);
    connection
        .prepare_cached(
            "INSERT INTO job (number, client, created, priority, blobs, parents, key, open, word, reason, node, attempt,
                 started, ended, snapshot)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            number,
            new.client.0,
            signed(new.created),
            new.priority,
            pack_blobs(&new.blobs),
            pack_parents(&new.parents),
            new.idempotency.as_deref().map(clean),
            state.open,
            word_code(state.word),
            state.reason.as_deref().map(clean),
            state.node.map(|node| node.0),
            state.attempt.map(|attempt| attempt.0),
            state.started.map(signed),
            state.ended.map(signed),
            state.snapshot,
        ])?;
    connection
        .prepare_cached("INSERT INTO request (job, body) VALUES (?1, ?2)")?
        .execute(params![number, new.request])?;
    let mut parent = connection
        .prepare_cached("INSERT INTO parent (parent, job) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for number_of_parent in &new.parents {
        parent.execute(params![signed(number_of_parent.0), number])?;
    }
    use_blobs(connection, number, new.blobs.iter())
}

fn write_state(connection: &Connection, state: &JobState) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE job SET open = ?2, word = ?3, reason = ?4, node = ?5, attempt = ?6, started = ?7, ended = ?8,
                 snapshot = ?9 WHERE number = ?1",
        )?
        .execute(params![
            signed(state.number.0),
            state.open,
            word_code(state.word),
            state.reason.as_deref().map(clean),
            state.node.map(|node| node.0),
            state.attempt.map(|attempt| attempt.0),
            state.started.map(signed),
            state.ended.map(signed),
            state.snapshot,
        ])?;
    Ok(())
}

fn write_node(connection: &Connection, node: &NodeRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO node (number, id, endpoint, announced, heard, completed, failed, snapshot)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (number) DO UPDATE SET id = ?2, endpoint = ?3, announced = ?4, heard = ?5, completed = ?6,
                 failed = ?7, snapshot = ?8",
        )?
        .execute(params![
            node.number.0,
            clean(&node.id),
            clean(&node.endpoint),
            node.announced,
            signed(node.heard),
            signed(node.completed),
            signed(node.failed),
            node.snapshot,
        ])?;
    Ok(())
}

fn write_answer(connection: &Connection, answer: &Answer, outputs: &[u8]) -> rusqlite::Result<()> {
    let job = signed(answer.job.0);
    let written = connection
        .prepare_cached(
            "INSERT INTO answer (job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details,
                 output_root)
             SELECT number, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM job WHERE number = ?1
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            job,
            answer.attempt.0,
            answer.node.0,
            answer.exit_code,
            answer.stdout,
            answer.stderr,
            outputs,
            answer.receipt,
            answer.signature,
            answer.details,
            answer.output_root.map(|root| root.0),
        ])?;
    if written == 0 {
        return Ok(());
    }
    use_blobs(connection, job, answer.outputs.iter().map(|output| &output.blob))
}

/// Notes that a job refers to those of the bodies that are there.
fn use_blobs<'a>(
    connection: &Connection,
    job: i64,
    blobs: impl Iterator<Item = &'a BlobHash>,
) -> rusqlite::Result<()> {
    let mut note = connection.prepare_cached(
        "INSERT INTO blob_use (job, hash) SELECT ?1, hash FROM blob WHERE hash = ?2 ON CONFLICT DO NOTHING",
    )?;
    let mut count = connection.prepare_cached("UPDATE blob SET refs = refs + 1 WHERE hash = ?1")?;
    for blob in blobs {
        if note.execute(params![job, blob.0])? == 1 {
            count.execute([blob.0])?;
        }
    }
    Ok(())
}

fn write_piece(connection: &Connection, piece: &LogPiece) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO log (job, stream, attempt, start, bytes)
             SELECT number, ?2, ?3, ?4, ?5 FROM job WHERE number = ?1
             ON CONFLICT DO UPDATE SET bytes = excluded.bytes WHERE LENGTH(excluded.bytes) > LENGTH(log.bytes)",
        )?
        .execute(params![
            signed(piece.job.0),
            stream_code(piece.stream),
            piece.attempt.0,
            signed(piece.from),
            piece.bytes,
        ])?;
    Ok(())
}

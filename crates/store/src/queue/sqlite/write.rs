//! Writing batches into the tables.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use sandrun_core::pool::{JobNumber, NodeNumber};

use super::blobs;
use crate::queue::codec::{clean, pack_blobs, pack_outputs, pack_parents, signed, stream_code, word_code};
use crate::queue::{
    Answer, BlobHash, Body, ClientRow, Doing, JobState, LogPiece, NewJob, NodeRow, QueueStoreError, Writes,
};

const WRITE: Doing = "bring batches to the tables";

/// Several batches as one: of what changed more than once, the last state alone.
#[derive(Debug, Default)]
pub(super) struct Merged<'a> {
    clients: Vec<&'a ClientRow>,
    new_jobs: Vec<&'a NewJob>,
    jobs: BTreeMap<JobNumber, &'a JobState>,
    nodes: BTreeMap<NodeNumber, &'a NodeRow>,
    answers: Vec<&'a Answer>,
    logs: Vec<&'a LogPiece>,
    bodies: BTreeMap<BlobHash, &'a Body>,
}

impl<'a> Merged<'a> {
    /// Batches in their order.
    pub(super) fn of(batches: impl Iterator<Item = &'a Writes>) -> Self {
        let mut merged = Self::default();
        for batch in batches {
            merged.clients.extend(&batch.clients);
            merged.new_jobs.extend(&batch.new_jobs);
            merged.jobs.extend(batch.jobs.iter().map(|row| (row.number, row)));
            merged
                .nodes
                .extend(batch.nodes.iter().map(|row| (row.number, row)));
            merged.answers.extend(&batch.answers);
            merged.logs.extend(&batch.logs);
            merged
                .bodies
                .extend(batch.bodies.iter().map(|body| (body.blob, body)));
        }
        merged
    }
}

/// Writes into the open transaction, and notes that the tables hold every batch up to `last`.
///
/// # Errors
/// What the database says.
pub(super) fn write(connection: &Connection, merged: &Merged<'_>, last: u64) -> Result<(), QueueStoreError> {
    let sql = QueueStoreError::sqlite(WRITE);
    write_clients(connection, &merged.clients).map_err(sql)?;
    for body in merged.bodies.values() {
        blobs::put_whole(connection, body.blob, &body.data, body.put).map_err(sql)?;
    }
    let mut states = merged.jobs.clone();
    for new in &merged.new_jobs {
        let state = states
            .remove(&new.number)
            .ok_or(QueueStoreError::Stateless(new.number))?;
        write_new(connection, new, state).map_err(sql)?;
    }
    for state in states.into_values() {
        write_state(connection, state).map_err(sql)?;
    }
    for node in merged.nodes.values() {
        write_node(connection, node).map_err(sql)?;
    }
    for answer in &merged.answers {
        let outputs = pack_outputs(&answer.outputs, WRITE)?;
        write_answer(connection, answer, &outputs).map_err(sql)?;
    }
    for piece in merged.logs.iter().filter(|piece| !piece.bytes.is_empty()) {
        write_piece(connection, piece).map_err(sql)?;
    }
    write_counters(connection, merged, last).map_err(sql)
}

fn write_counters(connection: &Connection, merged: &Merged<'_>, last: u64) -> rusqlite::Result<()> {
    let last_job = merged.new_jobs.iter().map(|new| new.number.0).max();
    let last_node = merged.nodes.keys().map(|number| number.0).max();
    let last_client = merged.clients.iter().map(|client| client.number.0).max();
    connection
        .prepare_cached(
            "UPDATE counter SET last_job = MAX(last_job, ?1), last_node = MAX(last_node, ?2),
                 last_client = MAX(last_client, ?3), settled = ?4",
        )?
        .execute(params![
            signed(last_job.unwrap_or_default()),
            last_node.unwrap_or_default(),
            last_client.unwrap_or_default(),
            signed(last),
        ])?;
    Ok(())
}

fn write_clients(connection: &Connection, clients: &[&ClientRow]) -> rusqlite::Result<()> {
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

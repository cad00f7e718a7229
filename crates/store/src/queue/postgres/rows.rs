//! Rows of PostgreSQL to ours.

use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::{Attempt, OutputRoot};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::queue::codec::{narrow, unpack_blobs, unpack_outputs, unpack_parents, unsigned, word_of};
use crate::queue::{Answer, ClientRow, Doing, JobRow, JobState, NewJob, NodeRow, QueueStoreError};

/// The columns of [`job_state`].
macro_rules! state_columns {
    () => {
        "j.number, j.open, j.word, j.reason, j.node, j.attempt, j.started, j.ended, j.snapshot"
    };
}
pub(super) use state_columns;

/// A column of a row.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize, doing: Doing) -> Result<T, QueueStoreError> {
    row.try_get(at).map_err(|_| QueueStoreError::Unreadable {
        doing,
        what: "a column",
    })
}

/// As [`get`], for a number that may be missing.
pub(super) fn optional<T>(
    row: &Row,
    at: usize,
    doing: Doing,
    make: impl FnOnce(i64) -> T,
) -> Result<Option<T>, QueueStoreError> {
    Ok(get::<Option<i64>>(row, at, doing)?.map(make))
}

/// A job's changing part, from the first nine columns.
pub(super) fn job_state(row: &Row, doing: Doing) -> Result<JobState, QueueStoreError> {
    Ok(JobState {
        number: JobNumber(unsigned(get(row, 0, doing)?)),
        open: get(row, 1, doing)?,
        word: word_of(get(row, 2, doing)?, doing)?,
        reason: get(row, 3, doing)?,
        node: optional(row, 4, doing, |node| NodeNumber(narrow(node)))?,
        attempt: optional(row, 5, doing, |attempt| Attempt(narrow(attempt)))?,
        started: optional(row, 6, doing, unsigned)?,
        ended: optional(row, 7, doing, unsigned)?,
        snapshot: get(row, 8, doing)?,
    })
}

/// A whole job: its state, then client, created, priority, request, blobs, parents, key, client's name, exit code.
pub(super) fn job_row(row: &Row, doing: Doing) -> Result<JobRow, QueueStoreError> {
    let state = job_state(row, doing)?;
    let new = NewJob {
        number: state.number,
        client: ClientNumber(narrow(get(row, 9, doing)?)),
        created: unsigned(get(row, 10, doing)?),
        priority: u8::try_from(get::<i64>(row, 11, doing)?).unwrap_or_default(),
        request: get::<Option<Vec<u8>>>(row, 12, doing)?.unwrap_or_default(),
        blobs: unpack_blobs(get(row, 13, doing)?),
        parents: unpack_parents(get(row, 14, doing)?),
        idempotency: get(row, 15, doing)?,
    };
    Ok(JobRow {
        new,
        client_name: get::<Option<String>>(row, 16, doing)?.unwrap_or_default(),
        state,
        exit_code: get(row, 17, doing)?,
    })
}

/// A client: number, name.
pub(super) fn client_row(row: &Row, doing: Doing) -> Result<ClientRow, QueueStoreError> {
    Ok(ClientRow {
        number: ClientNumber(narrow(get(row, 0, doing)?)),
        name: get(row, 1, doing)?,
    })
}

/// A node: number, id, endpoint, announced, heard, completed, failed, snapshot.
pub(super) fn node_row(row: &Row, doing: Doing) -> Result<NodeRow, QueueStoreError> {
    Ok(NodeRow {
        number: NodeNumber(narrow(get(row, 0, doing)?)),
        id: get(row, 1, doing)?,
        endpoint: get(row, 2, doing)?,
        announced: get(row, 3, doing)?,
        heard: unsigned(get(row, 4, doing)?),
        completed: unsigned(get(row, 5, doing)?),
        failed: unsigned(get(row, 6, doing)?),
        snapshot: get(row, 7, doing)?,
    })
}

/// An answer: job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details, output_root.
pub(super) fn answer_row(row: &Row, doing: Doing) -> Result<Answer, QueueStoreError> {
    Ok(Answer {
        job: JobNumber(unsigned(get(row, 0, doing)?)),
        attempt: Attempt(narrow(get(row, 1, doing)?)),
        node: NodeNumber(narrow(get(row, 2, doing)?)),
        exit_code: get(row, 3, doing)?,
        stdout: get(row, 4, doing)?,
        stderr: get(row, 5, doing)?,
        outputs: unpack_outputs(get(row, 6, doing)?, doing)?,
        receipt: get(row, 7, doing)?,
        signature: get(row, 8, doing)?,
        details: get(row, 9, doing)?,
        output_root: get::<Option<Vec<u8>>>(row, 10, doing)?
            .and_then(|root| root.try_into().ok())
            .map(OutputRoot),
    })
}

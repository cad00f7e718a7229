//! What is read of the tables, by statements. Each function works on the caller's connection.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row};
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::{Attempt, OutputRoot};

use super::later::{Later, renew_answers, renew_state};
use super::store::{STATE, STATE_COLUMNS, job_state, with_word};
use crate::queue::codec::{
    LogJoin, clean, narrow, signed, stream_code, unpack_blobs, unpack_outputs, unpack_parents, unsigned,
    word_code,
};
use crate::queue::{
    Answer, Doing, JobFilter, JobRow, JobState, LogPiece, LogStream, NewJob, QueueStoreError,
};

/// Longest page of a list.
const PAGE: u32 = 1000;

/// What the program of an ended job ended with, by the answer that counts.
pub(super) fn exit_code(state: &JobState, answers: &[Answer]) -> Option<i32> {
    let attempt = state.attempt.filter(|_| !state.open)?;
    let answer = answers.iter().find(|it| it.attempt == attempt)?;
    answer.exit_code
}

/// The columns of [`job_row`], but for those of [`STATE`], which come first.
const FIXED: &str = "job.client, job.created, job.priority, request.body, job.blobs, job.parents, job.key, client.name, answer.exit_code";
const FROM: &str =
    "job LEFT JOIN request ON request.job = job.number LEFT JOIN client ON client.number = job.client
     LEFT JOIN answer ON answer.job = job.number AND answer.attempt = job.attempt AND job.open = 0";

/// A job without its word, and the word's code.
fn job_row(row: &Row<'_>) -> rusqlite::Result<(JobRow, i64)> {
    let (state, word) = job_state(row)?;
    let at = |column: usize| STATE_COLUMNS + column;
    let new = NewJob {
        number: state.number,
        client: ClientNumber(narrow(row.get(at(0))?)),
        created: unsigned(row.get(at(1))?),
        priority: row.get(at(2))?,
        request: row.get::<_, Option<Vec<u8>>>(at(3))?.unwrap_or_default(),
        blobs: unpack_blobs(&row.get::<_, Vec<u8>>(at(4))?),
        parents: unpack_parents(&row.get::<_, Vec<u8>>(at(5))?),
        idempotency: row.get(at(6))?,
    };
    let row = JobRow {
        new,
        client_name: row.get::<_, Option<String>>(at(7))?.unwrap_or_default(),
        state,
        exit_code: row.get(at(8))?,
    };
    Ok((row, word))
}

/// The jobs that `rest` of a statement picks.
pub(super) fn jobs(
    connection: &Connection,
    rest: &str,
    values: &[Value],
    doing: Doing,
) -> Result<Vec<JobRow>, QueueStoreError> {
    let found: Vec<_> = connection
        .prepare_cached(&format!("SELECT {STATE}, {FIXED} FROM {FROM} WHERE {rest}"))
        .and_then(|mut statement| {
            let rows = statement.query_map(rusqlite::params_from_iter(values), job_row)?;
            rows.collect()
        })
        .map_err(QueueStoreError::sqlite(doing))?;
    let rows = found.into_iter().map(|(row, word)| {
        let state = with_word((row.state, word), doing)?;
        Ok(JobRow { state, ..row })
    });
    rows.collect()
}

/// What follows WHERE, and its values.
pub(super) fn picked(filter: &JobFilter) -> (String, Vec<Value>) {
    let below = filter.below.map_or(i64::MAX, |below| signed(below.0));
    let mut rest = "job.number < ?1".to_owned();
    let mut values = vec![Value::from(below), Value::from(i64::from(filter.limit.min(PAGE)))];
    if let Some(word) = filter.word {
        values.push(Value::from(word_code(word)));
        rest.push_str(&format!(" AND job.word = ?{}", values.len()));
    }
    if let Some(client) = &filter.client {
        values.push(Value::from(clean(client).into_owned()));
        let at = values.len();
        rest.push_str(&format!(
            " AND job.client = (SELECT number FROM client WHERE name = ?{at})"
        ));
    }
    rest.push_str(" ORDER BY job.number DESC LIMIT ?2");
    (rest, values)
}

/// A job as it stands with what the tables don't have yet.
pub(super) fn job(
    connection: &Connection,
    number: JobNumber,
    later: &Later,
    doing: Doing,
) -> Result<Option<JobRow>, QueueStoreError> {
    let values = [Value::from(signed(number.0))];
    let mut row = jobs(connection, "job.number = ?1", &values, doing)?.pop();
    let mut answered = later.iter().flat_map(|writes| &writes.answers);
    let is_answered = answered.any(|answer| answer.job == number);
    if let Some(row) = &mut row
        && (renew_state(&mut row.state, later) || is_answered)
    {
        let state = &row.state;
        let answers = if state.open {
            Vec::new()
        } else {
            answers(connection, number, later, doing)?
        };
        row.exit_code = exit_code(state, &answers);
    }
    Ok(row)
}

/// Requests that the tables have, in this order.
pub(super) fn requests(
    connection: &Connection,
    numbers: &[JobNumber],
    doing: Doing,
) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
    let read = || {
        // each statement by itself would lock the file anew
        let view = (numbers.len() > 1).then(|| connection.unchecked_transaction());
        let _view = view.transpose()?;
        let mut statement = connection.prepare_cached("SELECT body FROM request WHERE job = ?1")?;
        let mut found = Vec::with_capacity(numbers.len());
        for number in numbers {
            let body = statement.query_row([signed(number.0)], |row| row.get(0));
            found.extend(body.optional()?.map(|body| (*number, body)));
        }
        Ok(found)
    };
    read().map_err(QueueStoreError::sqlite(doing))
}

pub(super) fn answers(
    connection: &Connection,
    job: JobNumber,
    later: &Later,
    doing: Doing,
) -> Result<Vec<Answer>, QueueStoreError> {
    let found: Vec<(Answer, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details, output_root
             FROM answer WHERE job = ?1 ORDER BY attempt",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map([signed(job.0)], |row| {
                let answer = Answer {
                    job,
                    attempt: Attempt(narrow(row.get(0)?)),
                    node: NodeNumber(narrow(row.get(1)?)),
                    exit_code: row.get(2)?,
                    stdout: row.get(3)?,
                    stderr: row.get(4)?,
                    outputs: Vec::new(),
                    receipt: row.get(6)?,
                    signature: row.get(7)?,
                    details: row.get(8)?,
                    output_root: row.get::<_, Option<[u8; 32]>>(9)?.map(OutputRoot),
                };
                Ok((answer, row.get(5)?))
            })?;
            rows.collect()
        })
        .map_err(QueueStoreError::sqlite(doing))?;
    let whole = found.into_iter().map(|(answer, outputs)| {
        let outputs = unpack_outputs(&outputs, doing)?;
        Ok(Answer { outputs, ..answer })
    });
    let mut whole = whole.collect::<Result<Vec<_>, QueueStoreError>>()?;
    renew_answers(job, &mut whole, later);
    Ok(whole)
}

pub(super) fn log(
    connection: &mut Connection,
    job: JobNumber,
    stream: LogStream,
    from: u64,
    most: usize,
) -> rusqlite::Result<Option<LogPiece>> {
    // one view of the table over all three statements
    let view = connection.transaction()?;
    let (number, code) = (signed(job.0), stream_code(stream));
    let attempt: Option<i64> = view
        .prepare_cached(
            "SELECT MAX(latest) FROM (
                 SELECT MAX(attempt) AS latest FROM log WHERE job = ?1 AND stream = 0
                 UNION ALL SELECT MAX(attempt) FROM log WHERE job = ?1 AND stream = 1)",
        )?
        .query_row([number], |row| row.get(0))?;
    let Some(attempt) = attempt else { return Ok(None) };
    // pieces may overlap: what covers `from` can begin a few pieces before it
    let first: Option<i64> = view
        .prepare_cached(
            "SELECT MIN(start) FROM (SELECT start FROM log WHERE job = ?1 AND stream = ?2 AND attempt = ?3 AND start <= ?4
                 ORDER BY start DESC LIMIT 8)",
        )?
        .query_row([number, code, attempt, signed(from)], |row| row.get(0))?;
    let mut join = LogJoin::new(job, Attempt(narrow(attempt)), stream, from, most);
    let mut statement = view.prepare_cached(
        "SELECT start, bytes FROM log WHERE job = ?1 AND stream = ?2 AND attempt = ?3 AND start >= ?4 ORDER BY start",
    )?;
    let mut rows = statement.query([number, code, attempt, first.unwrap_or_else(|| signed(from))])?;
    while let Some(row) = rows.next()? {
        if !join.add(unsigned(row.get(0)?), row.get_ref(1)?.as_blob()?) {
            break;
        }
    }
    Ok(Some(join.end()))
}

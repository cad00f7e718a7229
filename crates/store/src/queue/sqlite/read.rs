//! The reading side in SQLite: a few connections, used on the runtime's threads for blocking work.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::{Attempt, OutputRoot};
use tokio::sync::{Semaphore, watch};

use super::Shared;
use super::store::{STATE, STATE_COLUMNS, job_state, nodes, with_word};
use crate::queue::codec::{
    LogJoin, clean, narrow, signed, stream_code, unpack_blobs, unpack_outputs, unpack_parents, unsigned,
    word_code,
};
use crate::queue::reader::{ReadSide, StoredBlob};
use crate::queue::{
    Answer, BlobHash, Doing, JobFilter, JobRow, JobState, JobWord, LogPiece, LogStream, NewJob, NodeRow,
    QueueStoreError, UnixMillis,
};

use super::{blobs, sweep};

/// Reads at once; more wait.
const CONNECTIONS: usize = 8;
/// Most bytes of a body that comes with a batch.
const WITH_BATCH: usize = 64 << 10;
/// Longest page of a list.
const PAGE: u32 = 1000;

#[derive(Debug)]
struct Pool {
    shared: Arc<Shared>,
    idle: Mutex<Vec<Connection>>,
}

/// The reading side of one file.
#[derive(Debug)]
pub(super) struct SqliteReader {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
}

impl SqliteReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            pool: Arc::new(Pool {
                shared,
                idle: Mutex::new(Vec::new()),
            }),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Runs `work` on one of the connections, on a thread for blocking work.
    async fn run<T: Send + 'static>(
        &self,
        doing: Doing,
        work: impl FnOnce(&mut Connection) -> Result<T, QueueStoreError> + Send + 'static,
    ) -> Result<T, QueueStoreError> {
        let ending = QueueStoreError::Ending(doing);
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Err(ending);
        };
        let pool = Arc::clone(&self.pool);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => pool.shared.connect()?,
            };
            let result = work(&mut connection);
            pool.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
            result
        });
        done.await.map_err(|_| ending)?
    }

    /// As [`Self::write`], after everything that was acknowledged has got to the tables: what is open there, and which
    /// jobs wait for which, decides about what may be removed.
    async fn sweep<T: Send + 'static>(
        &self,
        doing: Doing,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueStoreError> {
        let shared = Arc::clone(&self.pool.shared);
        self.run(doing, move |_| shared.settling.settle_all(doing))
            .await?;
        let done = self.write(doing, work).await;
        self.pool.shared.settling.forget_recent();
        done
    }

    /// As [`Self::run`], one transaction that writes, in turn with this process's other writers.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        doing: Doing,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueStoreError> {
        let shared = Arc::clone(&self.pool.shared);
        self.run(doing, move |connection| {
            let _turn = shared.gate();
            let write = || {
                let transaction =
                    connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            };
            write().map_err(QueueStoreError::sqlite(doing))
        })
        .await
    }
}

/// The columns of [`job_row`], but for those of [`STATE`], which come first.
const FIXED: &str =
    "job.client, job.created, job.priority, request.body, job.blobs, job.parents, job.key, client.name";
const FROM: &str =
    "job LEFT JOIN request ON request.job = job.number LEFT JOIN client ON client.number = job.client";

fn job_row(row: &Row<'_>) -> rusqlite::Result<(NewJob, String, (JobState, i64))> {
    let state = job_state(row)?;
    let at = |column: usize| STATE_COLUMNS + column;
    let new = NewJob {
        number: state.0.number,
        client: ClientNumber(narrow(row.get(at(0))?)),
        created: unsigned(row.get(at(1))?),
        priority: row.get(at(2))?,
        request: row.get::<_, Option<Vec<u8>>>(at(3))?.unwrap_or_default(),
        blobs: unpack_blobs(&row.get::<_, Vec<u8>>(at(4))?),
        parents: unpack_parents(&row.get::<_, Vec<u8>>(at(5))?),
        idempotency: row.get(at(6))?,
    };
    let client = row.get::<_, Option<String>>(at(7))?.unwrap_or_default();
    Ok((new, client, state))
}

/// The jobs that `rest` of a statement picks.
fn jobs(
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
    let rows = found.into_iter().map(|(new, client_name, state)| {
        let state = with_word(state, doing)?;
        Ok(JobRow {
            new,
            client_name,
            state,
        })
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

fn answers(connection: &Connection, job: JobNumber, doing: Doing) -> Result<Vec<Answer>, QueueStoreError> {
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
    whole.collect()
}

fn log(
    connection: &mut Connection,
    job: JobNumber,
    stream: LogStream,
    from: u64,
) -> rusqlite::Result<Option<LogPiece>> {
    // one view of the table over all three statements
    let view = connection.transaction()?;
    let (number, code) = (signed(job.0), stream_code(stream));
    let attempt: Option<i64> = view
        .prepare_cached("SELECT MAX(attempt) FROM log WHERE job = ?1 AND stream = ?2")?
        .query_row([number, code], |row| row.get(0))?;
    let Some(attempt) = attempt else { return Ok(None) };
    // pieces may overlap: what covers `from` can begin a few pieces before it
    let first: Option<i64> = view
        .prepare_cached(
            "SELECT MIN(start) FROM (SELECT start FROM log WHERE job = ?1 AND stream = ?2 AND attempt = ?3 AND start <= ?4
                 ORDER BY start DESC LIMIT 8)",
        )?
        .query_row([number, code, attempt, signed(from)], |row| row.get(0))?;
    let mut join = LogJoin::new(job, Attempt(narrow(attempt)), stream, from);
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

#[async_trait]
impl ReadSide for SqliteReader {
    async fn job(&self, number: JobNumber) -> Result<Option<JobRow>, QueueStoreError> {
        const DOING: Doing = "read a job";
        let shared = Arc::clone(&self.pool.shared);
        if let Some((row, _)) = shared.settling.recent(number) {
            return Ok(Some(row));
        }
        self.run(DOING, move |connection| {
            shared.settling.settle_job(number, DOING)?;
            let values = [Value::from(signed(number.0))];
            Ok(jobs(connection, "job.number = ?1", &values, DOING)?.pop())
        })
        .await
    }

    async fn job_with_answers(
        &self,
        number: JobNumber,
    ) -> Result<Option<(JobRow, Vec<Answer>)>, QueueStoreError> {
        const DOING: Doing = "read a job";
        let shared = Arc::clone(&self.pool.shared);
        if let Some(found) = shared.settling.recent(number) {
            return Ok(Some(found));
        }
        self.run(DOING, move |connection| {
            shared.settling.settle_job(number, DOING)?;
            let values = [Value::from(signed(number.0))];
            let Some(row) = jobs(connection, "job.number = ?1", &values, DOING)?.pop() else {
                return Ok(None);
            };
            let answers = if row.state.open {
                Vec::new()
            } else {
                answers(connection, number, DOING)?
            };
            Ok(Some((row, answers)))
        })
        .await
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobRow>, QueueStoreError> {
        const DOING: Doing = "list jobs";
        let (rest, values) = picked(filter);
        let shared = Arc::clone(&self.pool.shared);
        self.run(DOING, move |connection| {
            shared.settling.settle_all(DOING)?;
            jobs(connection, &rest, &values, DOING)
        })
        .await
    }

    async fn oldest_pending(&self) -> Result<Option<UnixMillis>, QueueStoreError> {
        const DOING: Doing = "look the oldest job up";
        self.run(DOING, |connection| {
            let oldest = "SELECT created FROM job WHERE word = ?1 ORDER BY number LIMIT 1";
            let found = connection.prepare_cached(oldest).and_then(|mut statement| {
                let row = statement.query_row([word_code(JobWord::Pending)], |row| row.get(0));
                row.optional()
            });
            Ok(found.map_err(QueueStoreError::sqlite(DOING))?.map(unsigned))
        })
        .await
    }

    async fn answers(&self, job: JobNumber) -> Result<Vec<Answer>, QueueStoreError> {
        const DOING: Doing = "read a job's answers";
        let shared = Arc::clone(&self.pool.shared);
        self.run(DOING, move |connection| {
            shared.settling.settle_job(job, DOING)?;
            answers(connection, job, DOING)
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, QueueStoreError> {
        const DOING: Doing = "list nodes";
        let shared = Arc::clone(&self.pool.shared);
        self.run(DOING, move |connection| {
            shared.settling.settle_all(DOING)?;
            nodes(connection).map_err(QueueStoreError::sqlite(DOING))
        })
        .await
    }

    async fn log(
        &self,
        job: JobNumber,
        stream: LogStream,
        from: u64,
    ) -> Result<Option<LogPiece>, QueueStoreError> {
        const DOING: Doing = "read a job's log";
        let shared = Arc::clone(&self.pool.shared);
        self.run(DOING, move |connection| {
            shared.settling.settle_job(job, DOING)?;
            log(connection, job, stream, from).map_err(QueueStoreError::sqlite(DOING))
        })
        .await
    }

    async fn find_blob(&self, hash: BlobHash) -> Result<Option<StoredBlob>, QueueStoreError> {
        const DOING: Doing = "look a body up";
        let shared = Arc::clone(&self.pool.shared);
        self.run(DOING, move |connection| {
            shared.settling.settle_body(hash, DOING)?;
            connection
                .prepare_cached("SELECT id, size FROM blob WHERE hash = ?1")
                .and_then(|mut statement| {
                    let found = statement.query_row([hash.0], |row| {
                        Ok(StoredBlob {
                            id: row.get(0)?,
                            size: unsigned(row.get(1)?),
                        })
                    });
                    found.optional()
                })
                .map_err(QueueStoreError::sqlite(DOING))
        })
        .await
    }

    async fn chunk(&self, blob: i64, number: u32) -> Result<Option<Vec<u8>>, QueueStoreError> {
        const DOING: Doing = "read a body";
        self.run(DOING, move |connection| {
            connection
                .prepare_cached("SELECT data FROM chunk WHERE blob = ?1 AND number = ?2")
                .and_then(|mut statement| {
                    statement
                        .query_row(params![blob, number], |row| row.get(0))
                        .optional()
                })
                .map_err(QueueStoreError::sqlite(DOING))
        })
        .await
    }

    async fn put_whole(&self, hash: BlobHash, body: Bytes, now: UnixMillis) -> Result<(), QueueStoreError> {
        self.write("store a body", move |connection| {
            blobs::put_whole(connection, hash, &body, now)
        })
        .await
    }

    fn takes_with_batch(&self) -> usize {
        WITH_BATCH
    }

    async fn begin_upload(&self, now: UnixMillis) -> Result<i64, QueueStoreError> {
        self.write("store a body", move |connection| {
            blobs::insert(connection, None, 0, now)
        })
        .await
    }

    async fn put_chunk(&self, blob: i64, number: u32, data: Bytes) -> Result<(), QueueStoreError> {
        self.write("store a body", move |connection| {
            blobs::put_chunk(connection, blob, number, &data)
        })
        .await
    }

    async fn end_upload(
        &self,
        blob: StoredBlob,
        hash: BlobHash,
        now: UnixMillis,
    ) -> Result<(), QueueStoreError> {
        let named = self
            .write("store a body", move |connection| {
                blobs::name(connection, blob, hash, now)
            })
            .await?;
        if named { Ok(()) } else { Err(QueueStoreError::Late) }
    }

    async fn by_output_root(&self, root: OutputRoot) -> Result<Option<JobNumber>, QueueStoreError> {
        const DOING: Doing = "look an output root up";
        let text = "SELECT job.number FROM answer JOIN job ON job.number = answer.job AND job.attempt = answer.attempt
             WHERE answer.output_root = ?1 AND job.open = 0 AND job.word = ?2 ORDER BY answer.job DESC LIMIT 1";
        let shared = Arc::clone(&self.pool.shared);
        self.run(DOING, move |connection| {
            shared.settling.settle_all(DOING)?;
            let found = connection.prepare_cached(text).and_then(|mut statement| {
                let row =
                    statement.query_row(params![root.0, word_code(JobWord::Completed)], |row| row.get(0));
                row.optional()
            });
            let found = found.map_err(QueueStoreError::sqlite(DOING))?;
            Ok(found.map(|number| JobNumber(unsigned(number))))
        })
        .await
    }

    async fn sweep_clients(&self) -> Result<u64, QueueStoreError> {
        self.sweep("remove clients", sweep::clients).await
    }

    async fn sweep_nodes(&self, before: UnixMillis) -> Result<u64, QueueStoreError> {
        self.sweep("remove nodes", move |connection| sweep::nodes(connection, before))
            .await
    }

    async fn sweep_jobs(
        &self,
        before: UnixMillis,
        now: UnixMillis,
        limit: u32,
    ) -> Result<u64, QueueStoreError> {
        self.sweep("remove ended jobs", move |connection| {
            sweep::jobs(connection, before, now, limit)
        })
        .await
    }

    async fn disown_blobs(&self, before: UnixMillis) -> Result<u64, QueueStoreError> {
        self.sweep("remove bodies", move |connection| {
            sweep::disown(connection, before)
        })
        .await
    }

    async fn sweep_chunks(&self, before: UnixMillis) -> Result<bool, QueueStoreError> {
        self.sweep("remove bodies", move |connection| {
            sweep::chunks(connection, before)
        })
        .await
    }

    fn commits(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

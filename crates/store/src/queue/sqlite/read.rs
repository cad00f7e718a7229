//! The reading side in SQLite: a few connections, used on the runtime's threads for blocking work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use sandrun_core::pool::JobNumber;
use sandrun_types::OutputRoot;
use tokio::sync::{Semaphore, watch};

use super::Shared;
use super::select::{answers, job, jobs, log, picked, requests};
use super::store::nodes;
use crate::queue::codec::{signed, unsigned, word_code};
use crate::queue::reader::{ReadSide, StoredBlob};
use crate::queue::{
    Answer, BlobHash, Doing, JobFilter, JobRow, JobWord, LogPiece, LogStream, NodeRow, QueueStoreError,
    UnixMillis,
};

use super::{blobs, sweep};

/// Reads at once; more wait.
const CONNECTIONS: usize = 8;
/// Most bytes of a body that comes with a batch.
const WITH_BATCH: usize = 64 << 10;

/// Longer than a request takes that is in memory, and shorter than a disk.
const FROM_MEMORY: Duration = Duration::from_micros(60);
/// How many jobs' requests are read ahead.
const AHEAD: i64 = 200;
/// Longer than these take that are in memory, and the pause that is made then before more are read.
const AHEAD_FROM_MEMORY: Duration = Duration::from_micros(500);
const AHEAD_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Pool {
    // dropped first: connections end before the file does
    idle: Mutex<Vec<Connection>>,
    shared: Arc<Shared>,
}

/// The reading side of one file.
#[derive(Debug, Clone)]
pub(super) struct SqliteReader {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    /// For who reads ahead.
    ahead: Arc<Semaphore>,
}

impl SqliteReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            pool: Arc::new(Pool {
                shared,
                idle: Mutex::new(Vec::new()),
            }),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            ahead: Arc::new(Semaphore::new(1)),
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

    /// Runs `work` on this thread, where a connection is at hand: for what takes a page or two, which another thread would
    /// take several times as long to be woken for.
    fn run_here<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, QueueStoreError>,
    ) -> Option<Result<T, QueueStoreError>> {
        let _permit = self.permits.try_acquire().ok()?;
        let idle = || self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = idle().pop()?;
        let result = work(&connection);
        idle().push(connection);
        Some(result)
    }

    /// Has the requests behind these read from the disk, which will be asked for next: a client's jobs are given out in
    /// their order. One such reading at a time.
    fn read_ahead(&self, numbers: &[JobNumber]) {
        const DOING: Doing = "read ahead";
        let (Some(last), Ok(turn)) = (numbers.last(), Arc::clone(&self.ahead).try_acquire_owned()) else {
            return;
        };
        let (reader, last) = (self.clone(), signed(last.0));
        tokio::spawn(async move {
            let _turn = turn;
            let read = reader.run(DOING, move |connection| {
                let pages = "SELECT TOTAL(LENGTH(body)) FROM request WHERE job > ?1 AND job <= ?1 + ?2";
                connection
                    .prepare_cached(pages)
                    .and_then(|mut statement| statement.query_row([last, AHEAD], |row| row.get::<_, f64>(0)))
                    .map_err(QueueStoreError::sqlite(DOING))
            });
            let began = Instant::now();
            if let Err(error) = read.await {
                tracing::debug!(%error, "whoever needs a request reads it");
            }
            if began.elapsed() < AHEAD_FROM_MEMORY {
                // the disk was not what took long
                tokio::time::sleep(AHEAD_PAUSE).await;
            }
        });
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
            shared.place.check()?;
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

#[async_trait]
impl ReadSide for SqliteReader {
    async fn job(&self, number: JobNumber) -> Result<Option<JobRow>, QueueStoreError> {
        const DOING: Doing = "read a job";
        let shared = Arc::clone(&self.pool.shared);
        if let Some((row, _)) = shared.settling.recent(number) {
            return Ok(Some(row));
        }
        self.run(DOING, move |connection| {
            let later = shared.settling.later(number, DOING)?;
            job(connection, number, &later, DOING)
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
            let later = shared.settling.later(number, DOING)?;
            let Some(row) = job(connection, number, &later, DOING)? else {
                return Ok(None);
            };
            let answers = if row.state.open {
                Vec::new()
            } else {
                answers(connection, number, &later, DOING)?
            };
            Ok(Some((row, answers)))
        })
        .await
    }

    async fn requests(&self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        const DOING: Doing = "read requests";
        let began = Instant::now();
        if let Some(found) = self.run_here(|connection| requests(connection, numbers, DOING)) {
            if began.elapsed() > FROM_MEMORY {
                self.read_ahead(numbers);
            }
            return found;
        }
        let numbers = numbers.to_vec();
        self.run(DOING, move |connection| requests(connection, &numbers, DOING))
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
            let later = shared.settling.later(job, DOING)?;
            answers(connection, job, &later, DOING)
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
        most: usize,
    ) -> Result<Option<LogPiece>, QueueStoreError> {
        const DOING: Doing = "read a job's log";
        let shared = Arc::clone(&self.pool.shared);
        self.run(DOING, move |connection| {
            shared.settling.settle_job(job, DOING)?;
            log(connection, job, stream, from, most).map_err(QueueStoreError::sqlite(DOING))
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

    fn in_place(&self) -> Result<(), QueueStoreError> {
        self.pool.shared.place.check()
    }

    fn commits(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

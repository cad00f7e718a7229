//! The reading side in PostgreSQL: a few connections that many calls share, each call one statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::try_join;
use sandrun_core::pool::JobNumber;
use sandrun_types::{Attempt, OutputRoot};
use tokio::sync::{Mutex, watch};
use tokio_postgres::{Config, Row};

use super::listen::Listener;
use super::merger::Merger;
use super::rows::{answer_row, get, job_row, node_row, state_columns};
use super::session::{ANSWER, Role, Session, Value, limited};
use super::sql::{FLUSH, IS_UNMERGED};
use super::sweep::Sweeper;
use crate::queue::codec::{LogJoin, clean, narrow, signed, stream_code, unsigned, word_code};
use crate::queue::reader::{ReadSide, StoredBlob};
use crate::queue::{
    Answer, BlobHash, Doing, JobFilter, JobRow, JobWord, LogPiece, LogStream, NodeRow, QueueStoreError,
    UnixMillis,
};

/// Connections.
const SESSIONS: usize = 6;
/// Longest page of a list.
const PAGE: u32 = 1000;
const STORE_BODY: Doing = "store a body";

/// The jobs that the rest of the statement picks.
macro_rules! jobs_where {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            state_columns!(),
            ", j.client, j.created, j.priority, r.body, j.blobs, j.parents, j.key, c.name, a.exit_code FROM queue_job j \
             LEFT JOIN queue_request r ON r.job = j.number LEFT JOIN queue_client c ON c.number = j.client \
             LEFT JOIN queue_answer a ON a.job = j.number AND a.attempt = j.attempt AND NOT j.open WHERE ",
            $rest
        )
    };
}

const JOB: &str = jobs_where!("j.number = $1");
const LIST: &str = jobs_where!("j.number < $1 ORDER BY j.number DESC LIMIT $2");
const LIST_WORD: &str = jobs_where!("j.number < $1 AND j.word = $3 ORDER BY j.number DESC LIMIT $2");
const OLDEST: &str = "SELECT created FROM queue_job WHERE word = $1 ORDER BY number LIMIT 1";
const LIST_CLIENT: &str = jobs_where!(
    "j.number < $1 AND j.client = (SELECT number FROM queue_client WHERE name = $3) ORDER BY j.number DESC LIMIT $2"
);
const LIST_BOTH: &str = jobs_where!(
    "j.number < $1 AND j.word = $3 AND j.client = (SELECT number FROM queue_client WHERE name = $4) \
     ORDER BY j.number DESC LIMIT $2"
);
const ANSWERS: &str =
    "SELECT job, attempt, node, exit_code, stdout, stderr, outputs, receipt, signature, details, output_root
    FROM queue_answer WHERE job = $1 ORDER BY attempt";
const BY_OUTPUT_ROOT: &str = "SELECT a.job FROM queue_answer a
    JOIN queue_job j ON j.number = a.job AND j.attempt = a.attempt
    WHERE a.output_root = $1 AND NOT j.open AND j.word = $2 ORDER BY a.job DESC LIMIT 1";
const NODES: &str = "SELECT number, id, endpoint, announced, heard, completed, failed, snapshot FROM queue_node ORDER BY number";
/// Pieces may overlap: what covers the offset can begin a few pieces before it.
const LOG: &str = "WITH latest AS (
        SELECT GREATEST((SELECT MAX(attempt) FROM queue_log WHERE job = $1 AND stream = 0),
            (SELECT MAX(attempt) FROM queue_log WHERE job = $1 AND stream = 1)) AS attempt),
    first AS (
        SELECT COALESCE(MIN(start), $3) AS start FROM (
            SELECT l.start FROM queue_log l, latest
            WHERE l.job = $1 AND l.stream = $2 AND l.attempt = latest.attempt AND l.start <= $3
            ORDER BY l.start DESC LIMIT 8) AS near)
    SELECT latest.attempt, l.start, l.bytes FROM latest CROSS JOIN first LEFT JOIN queue_log l
        ON l.job = $1 AND l.stream = $2 AND l.attempt = latest.attempt AND l.start >= first.start
    WHERE latest.attempt IS NOT NULL
    ORDER BY l.start LIMIT 64";
const FIND_BLOB: &str = "SELECT id, size FROM queue_blob WHERE hash = $1";
const CHUNK: &str = "SELECT data FROM queue_chunk WHERE blob = $1 AND number = $2";
/// The row is a new one exactly where no transaction has changed it (`xmax`).
const PUT_WHOLE: &str = "WITH body AS (
        INSERT INTO queue_blob (hash, size, touched) VALUES ($1, $2, $3)
        ON CONFLICT (hash) DO UPDATE SET touched = GREATEST(queue_blob.touched, excluded.touched)
        RETURNING id, xmax = 0 AS fresh)
    INSERT INTO queue_chunk (blob, number, data) SELECT id, 0, $4::BYTEA FROM body WHERE fresh AND LENGTH($4) > 0";
const BEGIN_UPLOAD: &str = "INSERT INTO queue_blob (size, touched) VALUES (0, $1) RETURNING id";
const PUT_CHUNK: &str = "INSERT INTO queue_chunk (blob, number, data) VALUES ($1, $2, $3)";
/// An upload of a body that is there already is given up: the next sweep takes it.
const END_UPLOAD: &str = "WITH there AS (
        UPDATE queue_blob SET touched = GREATEST(touched, $4) WHERE hash = $2 RETURNING id)
    UPDATE queue_blob SET size = $3,
        hash = CASE WHEN EXISTS (SELECT 1 FROM there) THEN NULL ELSE $2 END,
        touched = CASE WHEN EXISTS (SELECT 1 FROM there) THEN 0 ELSE $4 END
    WHERE id = $1 AND hash IS NULL AND touched > 0";

/// Whether something that can be seen may not be on the disk yet.
const IS_AHEAD: &str = "SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()";

const STATEMENTS: &[&str] = &[
    IS_AHEAD,
    IS_UNMERGED,
    FLUSH,
    JOB,
    LIST,
    LIST_WORD,
    OLDEST,
    LIST_CLIENT,
    LIST_BOTH,
    ANSWERS,
    BY_OUTPUT_ROOT,
    NODES,
    LOG,
    FIND_BLOB,
    CHUNK,
    PUT_WHOLE,
    BEGIN_UPLOAD,
    PUT_CHUNK,
    END_UPLOAD,
];

/// The reading side of one replica.
#[derive(Debug)]
pub(super) struct PostgresReader {
    config: Config,
    sessions: [Mutex<Option<Arc<Session>>>; SESSIONS],
    next: AtomicUsize,
    merger: Merger,
    sweeper: Sweeper,
    listener: Listener,
}

impl PostgresReader {
    /// Connects when it is asked something, but for the listener, which starts at once.
    pub(super) async fn new(
        config: Config,
        written: watch::Receiver<i64>,
        merger: Merger,
    ) -> Result<Self, QueueStoreError> {
        Ok(Self {
            sessions: std::array::from_fn(|_| Mutex::new(None)),
            next: AtomicUsize::new(0),
            sweeper: Sweeper::new(config.clone(), merger.clone()),
            merger,
            listener: Listener::start(config.clone(), written).await?,
            config,
        })
    }

    async fn session(&self, doing: Doing) -> Result<Arc<Session>, QueueStoreError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % SESSIONS;
        let mut slot = self.sessions[turn].lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let session = Session::connect(&self.config, Role::Reader(STATEMENTS), doing).await?;
        Ok(Arc::clone(slot.insert(Arc::new(session))))
    }

    /// What the tables of bodies have.
    async fn query(
        &self,
        text: &'static str,
        values: &[Value<'_>],
        doing: Doing,
    ) -> Result<Vec<Row>, QueueStoreError> {
        limited(ANSWER, doing, async {
            let session = self.session(doing).await?;
            flushed(&session, text, values, doing).await
        })
        .await
    }

    /// What the tables have that batches write: those that were written before are in them.
    async fn query_settled(
        &self,
        text: &'static str,
        values: &[Value<'_>],
        doing: Doing,
    ) -> Result<Vec<Row>, QueueStoreError> {
        limited(ANSWER, doing, async {
            let session = self.session(doing).await?;
            let (unmerged, rows) = try_join!(
                session.query(IS_UNMERGED, &[], doing),
                flushed(&session, text, values, doing)
            )?;
            let is_unmerged = unmerged.first().map_or(Ok(true), |row| get(row, 0, doing))?;
            if !is_unmerged {
                return Ok(rows);
            }
            self.merger.settle().await?;
            flushed(&session, text, values, doing).await
        })
        .await
    }

    async fn execute(&self, text: &'static str, values: &[Value<'_>]) -> Result<u64, QueueStoreError> {
        limited(ANSWER, STORE_BODY, async {
            let session = self.session(STORE_BODY).await?;
            session.execute(text, values, STORE_BODY).await
        })
        .await
    }

    /// As [`Self::execute`], and brings it to the disk with all before it: between a body's end and the batch that refers
    /// to it the server may crash and be back.
    async fn execute_durably(
        &self,
        text: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, QueueStoreError> {
        limited(ANSWER, STORE_BODY, async {
            let session = self.session(STORE_BODY).await?;
            let (done, _) = try_join!(
                session.execute(text, values, STORE_BODY),
                session.execute(FLUSH, &[], STORE_BODY)
            )?;
            Ok(done)
        })
        .await
    }
}

/// Rows of which a crash takes none back: a batch is seen a moment before it is on the disk.
async fn flushed(
    session: &Session,
    text: &'static str,
    values: &[Value<'_>],
    doing: Doing,
) -> Result<Vec<Row>, QueueStoreError> {
    let (rows, ahead) = try_join!(
        session.query(text, values, doing),
        session.query(IS_AHEAD, &[], doing)
    )?;
    let is_ahead = ahead.first().map(|row| get(row, 0, doing)).transpose()?;
    if is_ahead.unwrap_or(true) {
        session.execute(FLUSH, &[], doing).await?;
    }
    Ok(rows)
}

fn hash(hash: BlobHash) -> Vec<u8> {
    hash.0.to_vec()
}

#[async_trait]
impl ReadSide for PostgresReader {
    async fn job(&self, number: JobNumber) -> Result<Option<JobRow>, QueueStoreError> {
        const DOING: Doing = "read a job";
        let rows = self.query_settled(JOB, &[&signed(number.0)], DOING).await?;
        rows.first().map(|row| job_row(row, DOING)).transpose()
    }

    async fn list(&self, filter: &JobFilter) -> Result<Vec<JobRow>, QueueStoreError> {
        const DOING: Doing = "list jobs";
        let below = filter.below.map_or(i64::MAX, |below| signed(below.0));
        let limit = i64::from(filter.limit.min(PAGE));
        let word = filter.word.map(word_code);
        let client = filter.client.as_deref().map(clean);
        let rows = match (&word, &client) {
            (None, None) => self.query_settled(LIST, &[&below, &limit], DOING).await?,
            (Some(word), None) => {
                self.query_settled(LIST_WORD, &[&below, &limit, word], DOING)
                    .await?
            }
            (None, Some(client)) => {
                self.query_settled(LIST_CLIENT, &[&below, &limit, client], DOING)
                    .await?
            }
            (Some(word), Some(client)) => {
                self.query_settled(LIST_BOTH, &[&below, &limit, word, client], DOING)
                    .await?
            }
        };
        rows.iter().map(|row| job_row(row, DOING)).collect()
    }

    async fn oldest_pending(&self) -> Result<Option<UnixMillis>, QueueStoreError> {
        const DOING: Doing = "look the oldest job up";
        let rows = self
            .query_settled(OLDEST, &[&word_code(JobWord::Pending)], DOING)
            .await?;
        rows.first()
            .map(|row| get(row, 0, DOING).map(unsigned))
            .transpose()
    }

    async fn answers(&self, job: JobNumber) -> Result<Vec<Answer>, QueueStoreError> {
        const DOING: Doing = "read a job's answers";
        let rows = self.query_settled(ANSWERS, &[&signed(job.0)], DOING).await?;
        rows.iter().map(|row| answer_row(row, DOING)).collect()
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, QueueStoreError> {
        const DOING: Doing = "list nodes";
        let rows = self.query_settled(NODES, &[], DOING).await?;
        rows.iter().map(|row| node_row(row, DOING)).collect()
    }

    async fn log(
        &self,
        job: JobNumber,
        stream: LogStream,
        from: u64,
        most: usize,
    ) -> Result<Option<LogPiece>, QueueStoreError> {
        const DOING: Doing = "read a job's log";
        let values: [Value<'_>; 3] = [&signed(job.0), &stream_code(stream), &signed(from)];
        let rows = self.query_settled(LOG, &values, DOING).await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let attempt = Attempt(narrow(get(first, 0, DOING)?));
        let mut join = LogJoin::new(job, attempt, stream, from, most);
        for row in &rows {
            // none where it has printed on the other stream alone
            let Some(start) = get::<Option<i64>>(row, 1, DOING)? else {
                break;
            };
            if !join.add(unsigned(start), get(row, 2, DOING)?) {
                break;
            }
        }
        Ok(Some(join.end()))
    }

    async fn find_blob(&self, blob: BlobHash) -> Result<Option<StoredBlob>, QueueStoreError> {
        const DOING: Doing = "look a body up";
        let rows = self.query(FIND_BLOB, &[&hash(blob)], DOING).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(StoredBlob {
            id: get(row, 0, DOING)?,
            size: unsigned(get(row, 1, DOING)?),
        }))
    }

    async fn chunk(&self, blob: i64, number: u32) -> Result<Option<Vec<u8>>, QueueStoreError> {
        const DOING: Doing = "read a body";
        let rows = self.query(CHUNK, &[&blob, &i64::from(number)], DOING).await?;
        rows.first().map(|row| get(row, 0, DOING)).transpose()
    }

    async fn put_whole(&self, name: BlobHash, body: Bytes, now: UnixMillis) -> Result<(), QueueStoreError> {
        let size = signed(body.len() as u64);
        let values: [Value<'_>; 4] = [&hash(name), &size, &signed(now), &body.as_ref()];
        self.execute_durably(PUT_WHOLE, &values).await?;
        Ok(())
    }

    async fn begin_upload(&self, now: UnixMillis) -> Result<i64, QueueStoreError> {
        let rows = limited(ANSWER, STORE_BODY, async {
            let session = self.session(STORE_BODY).await?;
            session.query(BEGIN_UPLOAD, &[&signed(now)], STORE_BODY).await
        });
        let rows = rows.await?;
        let missing = QueueStoreError::Unreadable {
            doing: STORE_BODY,
            what: "the number of an upload",
        };
        get(rows.first().ok_or(missing)?, 0, STORE_BODY)
    }

    async fn put_chunk(&self, blob: i64, number: u32, data: Bytes) -> Result<(), QueueStoreError> {
        let values: [Value<'_>; 3] = [&blob, &i64::from(number), &data.as_ref()];
        self.execute(PUT_CHUNK, &values).await?;
        Ok(())
    }

    async fn end_upload(
        &self,
        blob: StoredBlob,
        name: BlobHash,
        now: UnixMillis,
    ) -> Result<(), QueueStoreError> {
        let (name, size, now) = (hash(name), signed(blob.size), signed(now));
        let values: [Value<'_>; 4] = [&blob.id, &name, &size, &now];
        let mut done = self.execute_durably(END_UPLOAD, &values).await;
        if matches!(&done, Err(QueueStoreError::Refused { .. })) {
            // somebody else gave the same body its name at the same moment: now it is there
            done = self.execute_durably(END_UPLOAD, &values).await;
        }
        match done? {
            0 => Err(QueueStoreError::Late),
            _ => Ok(()),
        }
    }

    async fn by_output_root(&self, root: OutputRoot) -> Result<Option<JobNumber>, QueueStoreError> {
        const DOING: Doing = "look an output root up";
        let (root, word) = (root.0.as_slice(), word_code(JobWord::Completed));
        let rows = self.query_settled(BY_OUTPUT_ROOT, &[&root, &word], DOING).await?;
        let job = rows.first().map(|row| get(row, 0, DOING)).transpose()?;
        Ok(job.map(|job: i64| JobNumber(unsigned(job))))
    }

    async fn sweep_clients(&self) -> Result<u64, QueueStoreError> {
        self.sweeper.clients().await
    }

    async fn sweep_nodes(&self, before: UnixMillis) -> Result<u64, QueueStoreError> {
        self.sweeper.nodes(signed(before)).await
    }

    async fn sweep_jobs(
        &self,
        before: UnixMillis,
        now: UnixMillis,
        limit: u32,
    ) -> Result<u64, QueueStoreError> {
        self.sweeper
            .jobs(signed(before), signed(now), i64::from(limit))
            .await
    }

    async fn disown_blobs(&self, before: UnixMillis) -> Result<u64, QueueStoreError> {
        self.sweeper.disown(signed(before)).await
    }

    async fn sweep_chunks(&self, before: UnixMillis) -> Result<bool, QueueStoreError> {
        self.sweeper.chunks(signed(before)).await
    }

    fn commits(&self) -> Option<watch::Receiver<u64>> {
        Some(self.listener.commits())
    }
}

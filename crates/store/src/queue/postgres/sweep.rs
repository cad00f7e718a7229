//! Removing what nobody asks for any more, in PostgreSQL: each step one transaction under the writers' lock, with tables
//! that hold all batches.

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Config;

use super::begin::NOTE_SWEPT;
use super::merge::{self, bring};
use super::merger::Merger;
use super::rows::get;
use super::session::{LONG, Role, Session, Value, limited};
use super::sql::EMPTY_ALL;
use super::{MERGE_LOCK, WRITER_LOCK};
use crate::queue::{Doing, QueueStoreError};

const DISOWN: &str = "UPDATE queue_blob SET hash = NULL, touched = 0 WHERE id IN (
    SELECT id FROM queue_blob WHERE refs = 0 AND hash IS NOT NULL AND touched < $1 ORDER BY touched LIMIT 64)";
const CHUNKS: &str = "DELETE FROM queue_chunk WHERE (blob, number) IN (
    SELECT blob, number FROM queue_chunk WHERE blob IN (
        SELECT id FROM queue_blob WHERE hash IS NULL AND touched < $1 ORDER BY id LIMIT 64)
    ORDER BY blob, number LIMIT 64)";
const BLOBS: &str = "DELETE FROM queue_blob b WHERE b.id IN (
        SELECT id FROM queue_blob WHERE hash IS NULL AND touched < $1 ORDER BY id LIMIT 64)
    AND NOT EXISTS (SELECT 1 FROM queue_chunk c WHERE c.blob = b.id)";
const ENDED: &str = "SELECT number FROM queue_job j WHERE NOT j.open AND j.ended < $1 AND NOT EXISTS (
        SELECT 1 FROM queue_parent p JOIN queue_job child ON child.number = p.job
        WHERE p.parent = j.number AND child.open)
    ORDER BY j.ended LIMIT $2";
const UNUSE: &str = "WITH gone AS (DELETE FROM queue_use WHERE job = ANY($1) RETURNING hash)
    UPDATE queue_blob b SET refs = b.refs - n.times, touched = GREATEST(b.touched, $2)
    FROM (SELECT hash, COUNT(*) AS times FROM gone GROUP BY hash) AS n WHERE b.hash = n.hash";
const LOGS: &str = "DELETE FROM queue_log WHERE job = ANY($1)";
const ANSWERS: &str = "DELETE FROM queue_answer WHERE job = ANY($1)";
const PARENTS: &str = "DELETE FROM queue_parent WHERE job = ANY($1)";
const REQUESTS: &str = "DELETE FROM queue_request WHERE job = ANY($1)";
const CLIENTS: &str =
    "DELETE FROM queue_client c WHERE NOT EXISTS (SELECT 1 FROM queue_job j WHERE j.client = c.number)";
const NODES: &str = "DELETE FROM queue_node WHERE heard < $1";
const JOBS: &str = "DELETE FROM queue_job WHERE number = ANY($1)";

const STATEMENTS: &[&str] = &[
    DISOWN, CHUNKS, BLOBS, ENDED, UNUSE, LOGS, ANSWERS, PARENTS, REQUESTS, JOBS, NODES, CLIENTS, EMPTY_ALL,
    NOTE_SWEPT,
];

fn statements() -> Vec<&'static str> {
    [STATEMENTS, merge::STATEMENTS].concat()
}

/// A connection for sweeps, one at a time.
#[derive(Debug)]
pub(super) struct Sweeper {
    config: Config,
    merger: Merger,
    idle: Mutex<Option<Session>>,
}

impl Sweeper {
    pub(super) fn new(config: Config, merger: Merger) -> Self {
        Self {
            config,
            merger,
            idle: Mutex::new(None),
        }
    }

    /// Begins a transaction under the lock. Dropped without a commit, it ends with its connection.
    async fn begin(&self, doing: Doing) -> Result<Turn<'_>, QueueStoreError> {
        let mut idle = self.idle.lock().await;
        let session = match idle.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => Session::connect(&self.config, Role::Writer(&statements()), doing).await?,
        };
        // most of it before the writers have to wait
        self.merger.settle().await?;
        // each lock in a statement of its own: the next ones see what its former holder wrote
        for (begin, lock) in [("BEGIN;", MERGE_LOCK), ("", WRITER_LOCK)] {
            let lock = format!("{begin} SELECT pg_advisory_xact_lock({lock})");
            session.simple(&lock, doing).await?;
            while bring(&session, doing).await? {}
        }
        Ok(Turn { idle, session, doing })
    }

    /// Removes up to `limit` jobs that ended before `before` and are no open job's parents; how many.
    pub(super) async fn jobs(&self, before: i64, now: i64, limit: i64) -> Result<u64, QueueStoreError> {
        const DOING: Doing = "remove ended jobs";
        limited(LONG, DOING, async {
            let turn = self.begin(DOING).await?;
            let rows = turn.session.query(ENDED, &[&before, &limit], DOING).await?;
            let gone = rows.iter().map(|row| get(row, 0, DOING));
            let gone: Vec<i64> = gone.collect::<Result<_, _>>()?;
            turn.run(UNUSE, &[&gone, &now]).await?;
            for text in [LOGS, ANSWERS, PARENTS, REQUESTS, JOBS] {
                turn.run(text, &[&gone]).await?;
            }
            if !gone.is_empty() {
                turn.run(EMPTY_ALL, &[]).await?;
                turn.run(NOTE_SWEPT, &[]).await?;
            }
            turn.commit().await?;
            Ok(gone.len() as u64)
        })
        .await
    }

    /// Removes clients that no job is of; how many.
    pub(super) async fn clients(&self) -> Result<u64, QueueStoreError> {
        const DOING: Doing = "remove clients";
        limited(LONG, DOING, async {
            let turn = self.begin(DOING).await?;
            let gone = turn.run(CLIENTS, &[]).await?;
            turn.commit().await?;
            Ok(gone)
        })
        .await
    }

    /// Removes nodes that were last heard of before `before`; how many.
    pub(super) async fn nodes(&self, before: i64) -> Result<u64, QueueStoreError> {
        const DOING: Doing = "remove nodes";
        limited(LONG, DOING, async {
            let turn = self.begin(DOING).await?;
            let gone = turn.run(NODES, &[&before]).await?;
            turn.commit().await?;
            Ok(gone)
        })
        .await
    }

    /// Takes the names off some bodies that nobody refers to; their chunks go later, a few at a time.
    pub(super) async fn disown(&self, before: i64) -> Result<u64, QueueStoreError> {
        const DOING: Doing = "remove bodies";
        limited(LONG, DOING, async {
            let turn = self.begin(DOING).await?;
            let disowned = turn.run(DISOWN, &[&before]).await?;
            turn.commit().await?;
            Ok(disowned)
        })
        .await
    }

    /// Removes some chunks of bodies without a name; whether there was anything to remove.
    pub(super) async fn chunks(&self, before: i64) -> Result<bool, QueueStoreError> {
        const DOING: Doing = "remove bodies";
        limited(LONG, DOING, async {
            let turn = self.begin(DOING).await?;
            let chunks = turn.run(CHUNKS, &[&before]).await?;
            let blobs = turn.run(BLOBS, &[&before]).await?;
            turn.commit().await?;
            Ok(chunks + blobs > 0)
        })
        .await
    }
}

/// A transaction under the lock.
struct Turn<'a> {
    idle: MutexGuard<'a, Option<Session>>,
    session: Session,
    doing: Doing,
}

impl Turn<'_> {
    async fn run(&self, text: &'static str, values: &[Value<'_>]) -> Result<u64, QueueStoreError> {
        self.session.execute(text, values, self.doing).await
    }

    async fn commit(mut self) -> Result<(), QueueStoreError> {
        self.session.simple("COMMIT", self.doing).await?;
        *self.idle = Some(self.session);
        Ok(())
    }
}

//! The writing side in PostgreSQL: one connection, on a small runtime of its own.

use futures::try_join;
use sandrun_core::pool::{ClientNumber, JobNumber};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_postgres::Config;

use super::news::NEWS;
use super::rows::{client_row, get, job_state, node_row, state_columns};
use super::session::{Role, Session, Value, limited};
use super::{WRITER_LOCK, news, sql, write};
use crate::queue::codec::{clean, narrow, signed, unsigned};
use crate::queue::error::DatabaseError;
use crate::queue::{Doing, Foreign, JobState, QueueStore, QueueStoreError, Writes};

const LOAD: Doing = "load the queue";
const WRITE: Doing = "write a batch";

const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
const COUNTERS: &str = "SELECT seq, last_job, last_node, last_client FROM queue_counter WHERE id = 1";
const OPEN_JOBS: &str = concat!(
    "SELECT ",
    state_columns!(),
    " FROM queue_job j WHERE j.open ORDER BY j.number"
);
const CLIENT: &str = "SELECT number FROM queue_client WHERE name = $1";
const ALL_CLIENTS: &str = "SELECT number, name FROM queue_client ORDER BY number";
const ALL_NODES: &str = "SELECT number, id, endpoint, announced, heard, completed, failed, snapshot FROM queue_node ORDER BY number";
const JOB: &str = concat!(
    "SELECT ",
    state_columns!(),
    " FROM queue_job j WHERE j.number = $1"
);
const BY_KEY: &str = "SELECT MIN(number) FROM queue_job
    WHERE client = (SELECT number FROM queue_client WHERE name = $1) AND key = $2";
const KEEP: &str = "INSERT INTO queue_kept (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const KEPT: &str = "SELECT value FROM queue_kept WHERE name = $1";

const STATEMENTS: &[&str] = &[
    LOCK,
    COUNTERS,
    OPEN_JOBS,
    ALL_CLIENTS,
    ALL_NODES,
    NEWS,
    JOB,
    sql::REQUESTS_OF,
    BY_KEY,
    CLIENT,
    KEEP,
    KEPT,
    sql::CLIENTS,
    sql::NEW_JOBS,
    sql::REQUESTS,
    sql::PARENTS,
    sql::USES,
    sql::STATES,
    sql::NODES,
    sql::BARE_ANSWERS,
    sql::ANSWERS,
    sql::LOGS,
    sql::COUNT,
    sql::PLAIN,
    sql::FLUSH,
];

/// One replica's writer.
#[derive(Debug)]
pub(super) struct PostgresStore {
    /// Only ever missing while it is dropped.
    runtime: Option<Runtime>,
    config: Config,
    /// Missing before the first load and after an error.
    session: Option<Session>,
    /// Up to where others' writes are known.
    seen: i64,
    /// Up to which batch all is known to be on the disk: others' are seen before.
    durable: i64,
    /// Requests of the jobs that nodes got by the latest batch.
    leased: Vec<(JobNumber, Vec<u8>)>,
    /// Number of the latest batch of our own, for those who tell others of it.
    wrote: watch::Sender<i64>,
}

impl PostgresStore {
    pub(super) fn new(config: Config, wrote: watch::Sender<i64>) -> Result<Self, QueueStoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: Some(runtime.map_err(|_| QueueStoreError::Ending(super::OPEN))?),
            config,
            session: None,
            seen: 0,
            durable: -1,
            leased: Vec::new(),
            wrote,
        })
    }

    /// Does something with the connection; where that fails, the connection and what it had begun are ended.
    fn with<T>(
        &mut self,
        doing: Doing,
        work: impl AsyncFnOnce(&Session, &mut i64) -> Result<T, QueueStoreError>,
    ) -> Result<T, QueueStoreError> {
        let (Some(session), Some(runtime)) = (self.session.take(), &self.runtime) else {
            return Err(QueueStoreError::Lost {
                doing,
                source: DatabaseError::Closed,
            });
        };
        let seen = &mut self.seen;
        let done = runtime.block_on(async {
            match limited(doing, work(&session, seen)).await {
                Ok(value) => Ok((session, value)),
                Err(error) => {
                    session.close().await;
                    Err(error)
                }
            }
        });
        let (session, value) = done?;
        self.session = Some(session);
        Ok(value)
    }

    fn connect(&mut self) -> Result<(), QueueStoreError> {
        if self.session.as_ref().is_some_and(|session| !session.is_closed()) {
            return Ok(());
        }
        let Some(runtime) = &self.runtime else {
            return Err(QueueStoreError::Ending(LOAD));
        };
        let connecting = Session::connect(&self.config, Role::Writer(STATEMENTS), LOAD);
        self.session = Some(runtime.block_on(limited(LOAD, connecting))?);
        Ok(())
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.session = None;
        // also in an async context, where a runtime may not wait for its end
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl QueueStore for PostgresStore {
    fn load(&mut self) -> Result<Foreign, QueueStoreError> {
        self.durable = -1;
        self.connect()?;
        self.with(LOAD, async |session, seen| {
            // behind the lock: a batch of our own, whose connection broke, has come to its end then
            let (.., counters, jobs, nodes, clients, ()) = try_join!(
                session.simple("BEGIN", LOAD),
                session.query(LOCK, &[&WRITER_LOCK], LOAD),
                session.query(COUNTERS, &[], LOAD),
                session.query(OPEN_JOBS, &[], LOAD),
                session.query(ALL_NODES, &[], LOAD),
                session.query(ALL_CLIENTS, &[], LOAD),
                session.simple("COMMIT", LOAD),
            )?;
            let (mut all, seq) = counted(&counters, LOAD)?;
            all.jobs = jobs
                .iter()
                .map(|row| job_state(row, LOAD))
                .collect::<Result<_, _>>()?;
            all.nodes = nodes
                .iter()
                .map(|row| node_row(row, LOAD))
                .collect::<Result<_, _>>()?;
            all.clients = clients
                .iter()
                .map(|row| client_row(row, LOAD))
                .collect::<Result<_, _>>()?;
            *seen = seq;
            Ok(all)
        })
    }

    fn transact(&mut self, work: &mut dyn FnMut(Foreign) -> Writes) -> Result<(), QueueStoreError> {
        self.leased = Vec::new();
        let (wrote, durable) = (self.wrote.clone(), self.durable);
        self.leased = self.with(WRITE, async |session, seen| {
            let (foreign, seq) = begin(session, *seen).await?;
            let writes = work(foreign);
            if writes.is_empty() {
                // what is answered may rest on what others have not brought to the disk yet
                try_join!(session.simple("COMMIT", WRITE), async {
                    match seq > durable {
                        true => session.execute(sql::FLUSH, &[], WRITE).await,
                        false => Ok(0),
                    }
                })?;
                *seen = seq;
                return Ok(Vec::new());
            }
            let leased = write::write(session, &writes, seq + 1, WRITE).await?;
            *seen = seq + 1;
            wrote.send_replace(seq + 1);
            Ok(leased)
        })?;
        self.durable = self.seen;
        Ok(())
    }

    fn job(&mut self, number: JobNumber) -> Result<Option<JobState>, QueueStoreError> {
        const DOING: Doing = "read a job";
        self.with(DOING, async |session, _| {
            let rows = session.query(JOB, &[&signed(number.0)], DOING).await?;
            rows.first().map(|row| job_state(row, DOING)).transpose()
        })
    }

    fn requests(&mut self, numbers: &[JobNumber]) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
        const DOING: Doing = "read requests";
        let mut found = std::mem::take(&mut self.leased);
        found.retain(|(job, _)| numbers.contains(job));
        let is_found = |number: &JobNumber| found.binary_search_by_key(number, |(job, _)| *job).is_ok();
        let missing = numbers.iter().filter(|number| !is_found(number));
        let missing: Vec<i64> = missing.map(|number| signed(number.0)).collect();
        if !missing.is_empty() {
            found.extend(self.with(DOING, async |session, _| {
                write::requests(session, &missing, DOING).await
            })?);
            found.sort_unstable_by_key(|(job, _)| *job);
        }
        Ok(found)
    }

    fn by_idempotency(&mut self, client: &str, key: &str) -> Result<Option<JobNumber>, QueueStoreError> {
        const DOING: Doing = "look an idempotency key up";
        self.with(DOING, async |session, _| {
            let rows = session
                .query(BY_KEY, &[&clean(client), &clean(key)], DOING)
                .await?;
            let found: Option<i64> = rows.first().map(|row| get(row, 0, DOING)).transpose()?.flatten();
            Ok(found.map(|number| JobNumber(unsigned(number))))
        })
    }

    fn client(&mut self, name: &str) -> Result<Option<ClientNumber>, QueueStoreError> {
        const DOING: Doing = "look a client up";
        self.with(DOING, async |session, _| {
            let rows = session.query(CLIENT, &[&clean(name)], DOING).await?;
            let found: Option<i64> = rows.first().map(|row| get(row, 0, DOING)).transpose()?;
            Ok(found.map(|number| ClientNumber(narrow(number))))
        })
    }

    fn keep(&mut self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, QueueStoreError> {
        const DOING: Doing = "keep a value";
        self.with(DOING, async |session, _| {
            session.execute(KEEP, &[&clean(name), &fresh], DOING).await?;
            let rows = session.query(KEPT, &[&clean(name)], DOING).await?;
            let missing = QueueStoreError::Unreadable {
                doing: DOING,
                what: "what was just kept",
            };
            get(rows.first().ok_or(missing)?, 0, DOING)
        })
    }
}

/// Begins a batch: takes the lock and reads what others wrote since `seen`, all in one round trip. The lock has a
/// statement of its own: the next one sees what its former holder wrote. Its commit does not wait for the disk, so that
/// the lock is not held meanwhile; [`sql::FLUSH`] does afterwards. What is lost in between nobody was told of, and all
/// that others decided upon it is behind it in the log and lost with it; the crash ends their connections too.
async fn begin(session: &Session, seen: i64) -> Result<(Foreign, i64), QueueStoreError> {
    let since: [Value<'_>; 2] = [&seen, &i64::MAX];
    let (.., rows) = try_join!(
        session.simple("BEGIN; SET LOCAL synchronous_commit = off", WRITE),
        session.query(LOCK, &[&WRITER_LOCK], WRITE),
        session.query(NEWS, &since, WRITE),
    )?;
    news::foreign(&rows, WRITE)
}

/// The counters, and the number of the latest batch.
fn counted(rows: &[tokio_postgres::Row], doing: Doing) -> Result<(Foreign, i64), QueueStoreError> {
    let row = rows.first().ok_or(QueueStoreError::Unreadable {
        doing,
        what: "the table queue_counter",
    })?;
    let foreign = Foreign {
        last_job: unsigned(get(row, 1, doing)?),
        last_node: narrow(get(row, 2, doing)?),
        last_client: narrow(get(row, 3, doing)?),
        ..Foreign::default()
    };
    Ok((foreign, get(row, 0, doing)?))
}

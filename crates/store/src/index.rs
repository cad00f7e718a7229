//! The manager's index: every event of the market as it stands on the chain, the jobs and nodes that they make, and the
//! cursor up to which they were read. Owns the schema and the atomicity: events, jobs, nodes and cursor change in one
//! transaction, so that a crash never leaves one ahead of another. Never knows what an event means.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use sandrun_types::{Address, B256, JobId, NodeIndex};

use crate::lock::LockFile;
use crate::sqlite::{Migration, OpenError, open_database};

const MIGRATIONS: &[Migration] = &["
    CREATE TABLE events (
        block INTEGER NOT NULL, log_index INTEGER NOT NULL, block_hash TEXT NOT NULL, job TEXT, body TEXT NOT NULL,
        PRIMARY KEY (block, log_index)
    );
    CREATE INDEX events_of_job ON events (job, block, log_index) WHERE job IS NOT NULL;
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, posted INTEGER NOT NULL, client TEXT NOT NULL, closed INTEGER NOT NULL, open INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX jobs_by_posting ON jobs (posted);
    CREATE INDEX jobs_by_client ON jobs (client, posted);
    CREATE INDEX jobs_not_closed ON jobs (posted) WHERE NOT closed;
    CREATE INDEX jobs_open ON jobs (posted) WHERE open;
    CREATE TABLE nodes (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), market TEXT NOT NULL, cursor TEXT);
"];

/// Why the index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another process has it.
    #[error("another manager uses the index {}; stop that one, or give this one another --data-dir", .0.display())]
    InUse(PathBuf),
    /// The lock file can't be used.
    #[error("cannot lock {}: {source}; check --data-dir", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A statement failed: a full disk, a broken file.
    #[error(
        "the index could not be {what}: {source}; is the disk full? A damaged index is made anew from the chain: stop the manager and delete it"
    )]
    Sql {
        /// `read` or `written`.
        what: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file belongs to another market.
    #[error("the index belongs to {found}, not to {wanted}: use another --data-dir")]
    OtherMarket {
        /// Whose it is.
        found: String,
        /// Whose was asked for.
        wanted: String,
    },
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// Height of its block.
    pub block: u64,
    /// Place among the block's logs.
    pub log_index: u64,
    /// Hash of its block.
    pub block_hash: B256,
}

/// One change of the chain, with the event as the caller's own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventChange {
    /// It stands there.
    Applied {
        /// Where.
        key: EventKey,
        /// The job that it is about.
        job: Option<JobId>,
        /// The event.
        body: String,
    },
    /// It stands there no more.
    Undone(EventKey),
}

/// A job as it is now; its first place, and the caller's own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobChange {
    /// What it is.
    Set {
        /// Its id.
        job: JobId,
        /// Order of postings: block × 2^20 + log index.
        posted: i64,
        /// Who posted it.
        client: Address,
        /// Whether it is over.
        closed: bool,
        /// Whether anything can still happen, such as a refund of one that is over.
        open: bool,
        /// The job.
        body: String,
    },
    /// Its posting was undone.
    Gone(JobId),
}

/// Which jobs are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only those that are not over.
    pub not_closed: bool,
    /// Only those of this client.
    pub client: Option<Address>,
    /// Only those whose id begins so, in lower case with `0x`.
    pub prefix: Option<String>,
}

/// Everything that follows from one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexBatch {
    /// In the chain's order.
    pub events: Vec<EventChange>,
    /// Jobs that changed.
    pub jobs: Vec<JobChange>,
    /// Nodes that changed; `None` for one whose registration was undone.
    pub nodes: Vec<(NodeIndex, Option<String>)>,
    /// Up to where the chain was read, the caller's own text.
    pub cursor: String,
}

/// The index of one market in one file.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
    /// Held, not read: the lock goes with it.
    _lock: LockFile,
}

fn read(source: rusqlite::Error) -> IndexError {
    IndexError::Sql { what: "read", source }
}

fn written(source: rusqlite::Error) -> IndexError {
    IndexError::Sql {
        what: "written",
        source,
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Two writers would each hold a cursor of their own. The lock ends with the process, however it ends.
fn lock(index: &Path) -> Result<LockFile, IndexError> {
    let path = index.with_extension("lock");
    match LockFile::take(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(IndexError::InUse(index.to_owned())),
        Err(source) => Err(IndexError::Lock { path, source }),
    }
}

/// Makes the file, where there is none, for its owner alone; SQLite gives its journals the same mode. Where that fails,
/// opening it says why.
fn keep_private(index: &Path) {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(index);
    if let Err(error) = file.and_then(|file| file.set_permissions(Permissions::from_mode(0o600))) {
        tracing::debug!(%error, "cannot keep the index to its owner");
    }
}

impl Index {
    /// Opens or makes the index at `path` for `market` (chain and contract as text), and locks it.
    ///
    /// # Errors
    /// A file that can't be used, that another process has open, or that belongs to another market.
    pub fn open(path: &Path, market: &str) -> Result<Self, IndexError> {
        let lock = lock(path)?;
        keep_private(path);
        let connection = open_database(path, MIGRATIONS)?;
        connection
            .execute(
                "INSERT OR IGNORE INTO state (id, market) VALUES (1, ?1)",
                [market],
            )
            .map_err(written)?;
        let found: String = connection
            .query_row("SELECT market FROM state", [], |row| row.get(0))
            .map_err(read)?;
        if found != market {
            return Err(IndexError::OtherMarket {
                found,
                wanted: market.to_owned(),
            });
        }
        Ok(Self {
            connection,
            _lock: lock,
        })
    }

    /// Up to where the chain was read; `None` at the first start.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn cursor(&self) -> Result<Option<String>, IndexError> {
        self.connection
            .query_row("SELECT cursor FROM state", [], |row| row.get(0))
            .map_err(read)
    }

    /// Writes everything that follows from one block; on the disk when this returns.
    ///
    /// # Errors
    /// A file that can't be written; nothing has changed then.
    pub fn commit(&mut self, batch: &IndexBatch) -> Result<(), IndexError> {
        self.write(batch).map_err(written)
    }

    fn write(&mut self, batch: &IndexBatch) -> Result<(), rusqlite::Error> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in &batch.events {
            match change {
                EventChange::Applied { key, job, body } => transaction.prepare_cached(
                    "INSERT OR REPLACE INTO events (block, log_index, block_hash, job, body) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?.execute(params![
                    number(key.block),
                    number(key.log_index),
                    key.block_hash.to_string(),
                    job.map(|job| job.to_string()),
                    body
                ])?,
                EventChange::Undone(key) => transaction
                    .prepare_cached("DELETE FROM events WHERE block = ?1 AND log_index = ?2 AND block_hash = ?3")?
                    .execute(params![number(key.block), number(key.log_index), key.block_hash.to_string()])?,
            };
        }
        for change in &batch.jobs {
            match change {
                JobChange::Set {
                    job,
                    posted,
                    client,
                    closed,
                    open,
                    body,
                } => transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO jobs (id, posted, client, closed, open, body)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![
                        job.to_string(),
                        posted,
                        client.to_string(),
                        closed,
                        open,
                        body
                    ])?,
                JobChange::Gone(job) => transaction
                    .prepare_cached("DELETE FROM jobs WHERE id = ?1")?
                    .execute([job.to_string()])?,
            };
        }
        for (node, body) in &batch.nodes {
            match body {
                Some(body) => transaction
                    .prepare_cached("INSERT OR REPLACE INTO nodes (id, body) VALUES (?1, ?2)")?
                    .execute(params![node.0, body])?,
                None => transaction
                    .prepare_cached("DELETE FROM nodes WHERE id = ?1")?
                    .execute([node.0])?,
            };
        }
        transaction
            .prepare_cached("UPDATE state SET cursor = ?1")?
            .execute([&batch.cursor])?;
        transaction.commit()
    }

    /// The events of blocks from `block` on, in the chain's order.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn events_from(&self, block: u64) -> Result<Vec<String>, IndexError> {
        self.texts(
            "SELECT body FROM events WHERE block >= ?1 ORDER BY block, log_index",
            [number(block)],
        )
    }

    /// The events of a job, in the chain's order.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn events_of(&self, job: JobId) -> Result<Vec<String>, IndexError> {
        self.texts(
            "SELECT body FROM events WHERE job = ?1 ORDER BY block, log_index",
            [job.to_string()],
        )
    }

    /// The events that are about no job, in the chain's order: the registry's and withdrawals.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn events_of_no_job(&self) -> Result<Vec<String>, IndexError> {
        self.texts(
            "SELECT body FROM events WHERE job IS NULL ORDER BY block, log_index",
            [],
        )
    }

    /// A job.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn job(&self, job: JobId) -> Result<Option<String>, IndexError> {
        let found =
            self.connection
                .query_row("SELECT body FROM jobs WHERE id = ?1", [job.to_string()], |row| {
                    row.get(0)
                });
        found.optional().map_err(read)
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<String>, IndexError> {
        let mut sql = String::from("SELECT body FROM jobs WHERE TRUE");
        let mut values: Vec<Value> = Vec::new();
        if filter.not_closed {
            sql.push_str(" AND NOT closed");
        }
        if let Some(client) = filter.client {
            sql.push_str(" AND client = ?");
            values.push(client.to_string().into());
        }
        if let Some(prefix) = &filter.prefix {
            // ids are hex: what begins with a prefix lies between it and itself with a later letter
            sql.push_str(" AND id >= ? AND id < ?");
            values.extend([prefix.clone().into(), format!("{prefix}g").into()]);
        }
        sql.push_str(" ORDER BY posted DESC LIMIT ?");
        values.push(limit.into());
        self.texts(&sql, rusqlite::params_from_iter(values))
    }

    /// Jobs to which anything can still happen.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn open_jobs(&self) -> Result<Vec<String>, IndexError> {
        self.texts("SELECT body FROM jobs WHERE open ORDER BY posted", [])
    }

    /// How many jobs there are.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn job_count(&self) -> Result<u64, IndexError> {
        let count: i64 = self
            .connection
            .query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))
            .map_err(read)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// All nodes, by index.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn nodes(&self) -> Result<Vec<String>, IndexError> {
        self.texts("SELECT body FROM nodes ORDER BY id", [])
    }

    fn texts<P: rusqlite::Params>(&self, sql: &str, parameters: P) -> Result<Vec<String>, IndexError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(read)?;
        let rows = statement.query_map(parameters, |row| row.get(0)).map_err(read)?;
        rows.collect::<Result<_, _>>().map_err(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(block: u64, log_index: u64) -> EventKey {
        EventKey {
            block,
            log_index,
            block_hash: B256::with_last_byte(u8::try_from(block).unwrap()),
        }
    }

    fn applied(block: u64, log_index: u64, job: Option<u8>) -> EventChange {
        let body = format!("{block}/{log_index}");
        EventChange::Applied {
            key: key(block, log_index),
            job: job.map(|it| JobId([it; 32])),
            body,
        }
    }

    #[test]
    fn a_block_is_written_whole_and_survives_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.db");
        let job = JobId([1; 32]);
        {
            let mut index = Index::open(&path, "31337/0x1").unwrap();
            assert_eq!(index.cursor().unwrap(), None);
            for file in std::fs::read_dir(directory.path()).unwrap() {
                let mode = file.unwrap().metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o077, 0, "others can read the index");
            }
            let set = JobChange::Set {
                job,
                posted: 1,
                client: Address::repeat_byte(7),
                closed: false,
                open: true,
                body: "job".into(),
            };
            let events = vec![applied(5, 0, Some(1)), applied(5, 1, None)];
            let nodes = vec![(NodeIndex(1), Some("node".into()))];
            index
                .commit(&IndexBatch {
                    events,
                    jobs: vec![set],
                    nodes,
                    cursor: "at 5".into(),
                })
                .unwrap();
        }
        let mut index = Index::open(&path, "31337/0x1").unwrap();
        assert_eq!(index.cursor().unwrap().as_deref(), Some("at 5"));
        assert_eq!(index.events_of(job).unwrap(), ["5/0"]);
        assert_eq!(index.events_of_no_job().unwrap(), ["5/1"]);
        assert_eq!(index.job_count().unwrap(), 1);
        assert_eq!(index.open_jobs().unwrap(), ["job"]);
        let undo = vec![EventChange::Undone(key(5, 0)), applied(5, 1, Some(1))];
        let batch = IndexBatch {
            events: undo,
            jobs: vec![JobChange::Gone(job)],
            nodes: vec![(NodeIndex(1), None)],
            cursor: "at 4".into(),
        };
        index.commit(&batch).unwrap();
        assert_eq!(index.events_from(0).unwrap(), ["5/1"]);
        assert!(index.nodes().unwrap().is_empty() && index.job(job).unwrap().is_none());
    }

    #[test]
    fn jobs_are_found_by_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = Index::open(&directory.path().join("index.db"), "m").unwrap();
        let job = |number: u8, closed| JobChange::Set {
            job: JobId([number; 32]),
            posted: number.into(),
            client: Address::repeat_byte(number % 2),
            closed,
            open: !closed,
            body: number.to_string(),
        };
        let jobs = vec![
            job(0x10, true),
            job(0x11, false),
            job(0x12, false),
            job(0x20, true),
        ];
        index
            .commit(&IndexBatch {
                jobs,
                ..IndexBatch::default()
            })
            .unwrap();
        let found = |filter: JobFilter, limit| index.jobs(&filter, limit).unwrap();
        assert_eq!(found(JobFilter::default(), 9), ["32", "18", "17", "16"]);
        assert_eq!(found(JobFilter::default(), 1), ["32"]);
        let not_closed = true;
        assert_eq!(
            found(
                JobFilter {
                    not_closed,
                    ..JobFilter::default()
                },
                9
            ),
            ["18", "17"]
        );
        let client = Some(Address::repeat_byte(0));
        assert_eq!(
            found(
                JobFilter {
                    client,
                    not_closed,
                    prefix: None
                },
                9
            ),
            ["18"]
        );
        let prefix = |text: &str| JobFilter {
            prefix: Some(text.to_owned()),
            ..JobFilter::default()
        };
        assert_eq!(found(prefix("0x1"), 9), ["18", "17", "16"]);
        assert_eq!(found(prefix("0x1212"), 9), ["18"]);
        assert!(found(prefix("0x3"), 9).is_empty());
    }

    #[test]
    fn an_index_has_one_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.db");
        let first = Index::open(&path, "m").unwrap();
        assert!(matches!(Index::open(&path, "m"), Err(IndexError::InUse(_))));
        drop(first);
        assert!(Index::open(&path, "m").is_ok());
    }

    #[test]
    fn an_index_of_another_market_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.db");
        drop(Index::open(&path, "31337/0x1").unwrap());
        assert!(matches!(
            Index::open(&path, "1/0x1"),
            Err(IndexError::OtherMarket { .. })
        ));
    }

    #[test]
    fn undoing_an_event_of_another_branch_leaves_ours() {
        let directory = tempfile::tempdir().unwrap();
        let mut index = Index::open(&directory.path().join("index.db"), "m").unwrap();
        let other = EventKey {
            block_hash: B256::ZERO,
            ..key(5, 0)
        };
        let events = vec![applied(5, 0, None), EventChange::Undone(other)];
        index
            .commit(&IndexBatch {
                events,
                ..IndexBatch::default()
            })
            .unwrap();
        assert_eq!(index.events_from(0).unwrap().len(), 1);
    }
}

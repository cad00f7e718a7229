//! The queue in SQLite, for one process: a journal that a batch is written to before it is acknowledged, and tables that
//! it is brought to a moment later.
//!
//! Owns the schema and the lock. Writes to the tables (batches, bodies, sweeps) are not brought to the disk by
//! themselves: after a crash the journal has what the tables lost, and bodies are synced before a batch refers to them.

mod blobs;
mod commit;
mod journal;
mod later;
mod latest;
mod log;
mod names;
mod place;
mod read;
mod recent;
mod replay;
mod select;
mod settle;
mod store;
mod sweep;
mod waiting;
mod write;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use self::journal::{Journal, MARK};
use self::log::Log;
use self::names::Names;
use self::place::Place;
use self::settle::Settling;
use self::store::SqliteStore;
use super::codec::unsigned;
use super::{QueueReader, QueueStore, QueueStoreError};
use crate::lock::LockFile;
use crate::sqlite::{Migration, open_database};

const MIGRATIONS: &[Migration] = &["
    CREATE TABLE counter (
        id INTEGER PRIMARY KEY CHECK (id = 1), last_job INTEGER NOT NULL, last_node INTEGER NOT NULL,
        last_client INTEGER NOT NULL
    ) STRICT;
    INSERT INTO counter VALUES (1, 0, 0, 0);
    CREATE TABLE kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE client (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE job (
        number INTEGER PRIMARY KEY, client INTEGER NOT NULL, created INTEGER NOT NULL, priority INTEGER NOT NULL,
        blobs BLOB NOT NULL, parents BLOB NOT NULL, key TEXT, open INTEGER NOT NULL, word INTEGER NOT NULL, reason TEXT,
        node INTEGER, attempt INTEGER, started INTEGER, ended INTEGER, snapshot BLOB NOT NULL
    ) STRICT;
    CREATE INDEX job_open ON job (number) WHERE open = 1;
    CREATE INDEX job_by_word ON job (word, number);
    CREATE INDEX job_by_client ON job (client, number);
    CREATE INDEX job_by_client_and_word ON job (client, word, number);
    CREATE INDEX job_by_key ON job (client, key) WHERE key IS NOT NULL;
    CREATE INDEX job_by_end ON job (ended) WHERE open = 0;
    CREATE TABLE request (job INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE parent (parent INTEGER NOT NULL, job INTEGER NOT NULL, PRIMARY KEY (parent, job)) STRICT, WITHOUT ROWID;
    CREATE INDEX parent_of ON parent (job);
    CREATE TABLE node (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL, endpoint TEXT NOT NULL, announced BLOB NOT NULL,
        heard INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL, snapshot BLOB NOT NULL
    ) STRICT;
    CREATE TABLE answer (
        job INTEGER NOT NULL, attempt INTEGER NOT NULL, node INTEGER NOT NULL, exit_code INTEGER, stdout BLOB NOT NULL,
        stderr BLOB NOT NULL, outputs BLOB NOT NULL, receipt BLOB, signature BLOB, details BLOB NOT NULL,
        PRIMARY KEY (job, attempt)
    ) STRICT;
    CREATE TABLE log (
        job INTEGER NOT NULL, stream INTEGER NOT NULL, attempt INTEGER NOT NULL, start INTEGER NOT NULL,
        bytes BLOB NOT NULL, PRIMARY KEY (job, stream, attempt, start)
    ) STRICT;
    CREATE TABLE blob (
        id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB UNIQUE, size INTEGER NOT NULL, touched INTEGER NOT NULL,
        refs INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX blob_unused ON blob (touched) WHERE refs = 0 AND hash IS NOT NULL;
    CREATE TABLE chunk (
        blob INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (blob, number)
    ) STRICT;
    CREATE TABLE blob_use (job INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (job, hash)) STRICT, WITHOUT ROWID;
", "
    ALTER TABLE answer ADD COLUMN output_root BLOB;
    CREATE INDEX answer_by_output_root ON answer (output_root, job) WHERE output_root IS NOT NULL;
", "
    ALTER TABLE counter ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
    DROP INDEX job_by_client_and_word;
", "
    DROP INDEX job_open;
"];

/// Pages that a connection keeps in memory, in KiB.
const CACHE_KIB: i64 = 4 * 1024;
/// What the write-ahead log is cut down to after it has grown.
const WAL_BYTES: i64 = 64 << 20;
/// Pages that the write-ahead log gathers before they go to the tables: what changes often goes there once, and the
/// journal's syncs wait for that less often.
const WAL_PAGES: i64 = 8_192;
/// Batches of the journal that are brought to the tables together at the start.
const REPLAY: usize = 256;

/// What writer and readers of one queue have in common.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// SQLite makes writers poll for each other; within this process they queue here.
    gate: Mutex<()>,
    settling: Settling,
    log: Log,
    place: Place,
    /// Held, not read: the locks go with the last of them.
    _lock: LockFile,
    /// The database itself: it may have another name, or its lock file be removed. Closing it would take SQLite's own
    /// locks of this process away, so it is open for longer than any connection.
    _database: LockFile,
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, ()> {
        // it guards no data: a panic inside has rolled its transaction back
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the tables whose commits survive the process, and the machine once they were synced.
    ///
    /// # Errors
    /// [`QueueStoreError::Displaced`], rather than a new queue in the place of one that was removed.
    fn connect(&self) -> Result<Connection, QueueStoreError> {
        self.place.check_one(&self.path)?;
        let connection = open_database(&self.path, MIGRATIONS)?;
        self.place.check_one(&self.path)?;
        set_up(&connection).map_err(QueueStoreError::sqlite("open the queue"))?;
        Ok(connection)
    }

    /// Brings what was committed to the tables to the disk.
    ///
    /// # Errors
    /// [`QueueStoreError::Sync`], and from then on always: the next start brings from the journal what is missing.
    fn sync_tables(&self) -> Result<(), QueueStoreError> {
        // it is logged where they are not; who writes is refused
        drop(self.place.check());
        self.log.sync().map_err(|source| QueueStoreError::Sync {
            path: self.path.clone(),
            source,
        })
    }
}

fn set_up(tables: &Connection) -> rusqlite::Result<()> {
    tables.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // else many statements are planned anew whenever they get other values
    tables.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    tables.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    tables.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    tables.pragma_update(None, "synchronous", "NORMAL")?;
    tables.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The mark by which a queue and its journal know each other, and the last batch that the tables hold.
fn standing(tables: &Connection) -> rusqlite::Result<([u8; MARK], u64)> {
    let insert = "INSERT INTO kept (name, value) VALUES ('journal', randomblob(16)) ON CONFLICT DO NOTHING";
    tables.execute(insert, [])?;
    let select = "SELECT value FROM kept WHERE name = 'journal'";
    let mark = tables.query_row(select, [], |row| row.get(0))?;
    let settled: i64 = tables.query_row("SELECT settled FROM counter", [], |row| row.get(0))?;
    Ok((mark, unsigned(settled)))
}

/// Opens or makes the queue at `path`, closed to other users of the machine.
pub(super) async fn open(path: &Path) -> Result<(Box<dyn QueueStore>, QueueReader), QueueStoreError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || open_now(path))
        .await
        .map_err(|_| QueueStoreError::Ending("open the queue"))?
}

/// Refuses a path that is a folder, or lies in none: a mistyped one would be a new queue somewhere, and leave a lock there.
fn is_place(path: &Path) -> Result<(), QueueStoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(QueueStoreError::NoFolder {
            path: path.to_owned(),
            folder: folder.to_owned(),
        });
    }
    if path.is_dir() {
        return Err(QueueStoreError::IsFolder(path.to_owned()));
    }
    Ok(())
}

fn unusable(path: &Path, source: io::Error) -> QueueStoreError {
    let path = path.to_owned();
    QueueStoreError::Lock { path, source }
}

fn open_now(path: PathBuf) -> Result<(Box<dyn QueueStore>, QueueReader), QueueStoreError> {
    is_place(&path)?;
    let names = Names::find(&path);
    let lock = LockFile::take(&names.lock).map_err(|source| unusable(&names.lock, source))?;
    let lock = lock.ok_or(QueueStoreError::InUse(names.lock))?;
    let (store, shared) = begin(path, names.journal, lock)?;
    Ok((
        Box::new(store),
        QueueReader::new(Arc::new(read::SqliteReader::new(shared))),
    ))
}

/// Takes the log that a former process left into the tables, and begins it anew. Where a sync of it had failed, its pages
/// count as written and may be nowhere but in memory: the tables get them by a sync of their own.
fn fold_log(tables: &Connection) -> Result<(), QueueStoreError> {
    let sql = QueueStoreError::sqlite("open the queue");
    let is_busy: bool = tables
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(sql)?;
    if is_busy {
        // somebody looks into the file by hand
        return Err(sql(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("something else has the database open".to_owned()),
        )));
    }
    Ok(())
}

/// Brings to the tables what the journal has and they don't, and starts.
fn begin(
    path: PathBuf,
    journal: [PathBuf; 2],
    lock: LockFile,
) -> Result<(SqliteStore, Arc<Shared>), QueueStoreError> {
    // made before SQLite does, closed to others: results are their clients'
    let database = LockFile::take(&path).map_err(|source| unusable(&path, source))?;
    let database = database.ok_or_else(|| QueueStoreError::InUse(path.clone()))?;
    let mut tables = open_database(&path, MIGRATIONS)?;
    let sql = QueueStoreError::sqlite("open the queue");
    fold_log(&tables)?;
    let (mark, settled) = standing(&tables).map_err(sql)?;
    set_up(&tables).map_err(sql)?;
    let unsynced = |path: &Path, source| QueueStoreError::Sync {
        path: path.to_owned(),
        source,
    };
    let log = Log::open(&path).map_err(|source| unsynced(&path, source))?;
    let salt = tables.query_row("SELECT randomblob(8)", [], |row| row.get(0));
    let salt = u64::from_le_bytes(salt.map_err(sql)?);
    let files = [path.clone(), log::name(&path)]
        .into_iter()
        .chain(journal.clone());
    let (mut journal, batches) = Journal::open(journal, mark, salt, settled)?;
    let place = Place::of(files).map_err(|source| unsynced(&path, source))?;
    // the log's own name is on the disk, too
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let named = File::open(folder).and_then(|folder| folder.sync_all());
    named.map_err(|source| unsynced(folder, source))?;
    let shared = Arc::new(Shared {
        path,
        gate: Mutex::new(()),
        settling: Settling::new(journal.last()),
        log,
        place,
        _lock: lock,
        _database: database,
    });
    for some in batches.chunks(REPLAY) {
        let last = some.last().map_or(settled, |(id, _)| *id);
        let writes = some.iter().map(|(_, writes)| writes);
        settle::settle_writes(&shared, &mut tables, writes, last)?;
    }
    drop(batches);
    shared.sync_tables()?;
    journal.forget()?;
    let store = SqliteStore::start(Arc::clone(&shared), journal, tables)?;
    Ok((store, shared))
}

#[cfg(test)]
mod tests;

//! The journal: batches as they were acknowledged, one row and one sync each, in a file of their own.
//!
//! The tables take them over a moment later, many at a time (`settle`). A batch stays here until the tables that hold it
//! are on the disk; after a crash it is written to them again. So a commit costs what one row costs, however many rows
//! and indexes it changes. Never knows what is in a batch.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::queue::codec::{signed, unsigned};
use crate::queue::{Doing, QueueStoreError, Writes};
use crate::sqlite::{Migration, open_database};

const MIGRATIONS: &[Migration] = &["
    CREATE TABLE about (id INTEGER PRIMARY KEY CHECK (id = 1), queue BLOB NOT NULL) STRICT;
    CREATE TABLE batch (id INTEGER PRIMARY KEY, format INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
"];

/// How a batch's body is written: [`Writes`] in postcard.
const FORMAT: i64 = 1;
/// Batches that are removed together: each by itself would cost as much as writing one.
const TRIM: u64 = 512;
/// Batches that are read together.
const READ: u32 = 64;
/// Pages of the file's own log before it is taken into the file: fewer stops than by default.
const CHECKPOINT_PAGES: u32 = 4_000;
const DOING: Doing = "write a batch";
const REPLAY: Doing = "read the journal";

/// Where the journal of the queue at `path` lies.
pub(super) fn path_of(path: &Path) -> PathBuf {
    path.with_extension("journal.sqlite")
}

/// The journal, open for its one writer.
#[derive(Debug)]
pub(super) struct Journal {
    connection: Connection,
    next: u64,
    trimmed: u64,
}

impl Journal {
    /// Opens or makes the journal that belongs to the queue with this mark, whose tables hold every batch up to `settled`.
    ///
    /// # Errors
    /// A file that can't be used, that belongs to another queue, or that lacks batches which the tables don't have.
    pub(super) fn open(path: &Path, mark: &[u8], settled: u64) -> Result<Self, QueueStoreError> {
        let connection = open_database(path, MIGRATIONS)?;
        let sql = QueueStoreError::sqlite("open the journal");
        let first = || {
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            let insert = "INSERT INTO about (id, queue) VALUES (1, ?1) ON CONFLICT DO NOTHING";
            connection.execute(insert, [mark])?;
            let owner: Vec<u8> = connection.query_row("SELECT queue FROM about", [], |row| row.get(0))?;
            let span = "SELECT MIN(id), MAX(id) FROM batch WHERE id > ?1";
            let span = connection.query_row(span, [signed(settled)], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
            })?;
            Ok((owner, span))
        };
        let (owner, (from, to)) = first().map_err(sql)?;
        let is_whole = from.is_none_or(|from| unsigned(from) == settled + 1);
        if owner != mark || !is_whole {
            return Err(QueueStoreError::Mixed(path.to_owned()));
        }
        Ok(Self {
            connection,
            next: to.map_or(settled, unsigned) + 1,
            trimmed: settled,
        })
    }

    /// The number of the last batch, 0 where there was never one.
    pub(super) const fn last(&self) -> u64 {
        self.next - 1
    }

    /// Some batches behind `settled`, in their order.
    ///
    /// # Errors
    /// [`QueueStoreError::Unreadable`] where another version wrote them.
    pub(super) fn read(&self, settled: u64) -> Result<Vec<(u64, Writes)>, QueueStoreError> {
        let rows: Vec<(i64, i64, Vec<u8>)> = self
            .connection
            .prepare_cached("SELECT id, format, body FROM batch WHERE id > ?1 ORDER BY id LIMIT ?2")
            .and_then(|mut statement| {
                let rows = statement.query_map(params![signed(settled), READ], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
                rows.collect()
            })
            .map_err(QueueStoreError::sqlite(REPLAY))?;
        let unreadable = || QueueStoreError::Unreadable {
            doing: REPLAY,
            what: "a batch",
        };
        let parse = |(id, format, body): (i64, i64, Vec<u8>)| {
            if format != FORMAT {
                return Err(unreadable());
            }
            let writes = postcard::from_bytes(&body).map_err(|_| unreadable())?;
            Ok((unsigned(id), writes))
        };
        rows.into_iter().map(parse).collect()
    }

    /// Puts a batch on the disk; its number and its size in bytes. Removes some of those that are in the tables on the
    /// disk, which are all up to `durable`.
    ///
    /// # Errors
    /// [`QueueStoreError::Full`] and others; nothing was written then.
    pub(super) fn append(&mut self, writes: &Writes, durable: u64) -> Result<(u64, usize), QueueStoreError> {
        let body = postcard::to_stdvec(writes).map_err(|_| QueueStoreError::Unreadable {
            doing: DOING,
            what: "a batch",
        })?;
        let id = self.next;
        let mut write = || {
            if durable < self.trimmed.saturating_add(TRIM) {
                return insert(&self.connection, id, &body);
            }
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction
                .prepare_cached("DELETE FROM batch WHERE id <= ?1")?
                .execute([signed(durable)])?;
            insert(&transaction, id, &body)?;
            transaction.commit()?;
            self.trimmed = durable;
            Ok(())
        };
        write().map_err(QueueStoreError::sqlite(DOING))?;
        self.next += 1;
        Ok((id, body.len()))
    }
}

fn insert(connection: &Connection, id: u64, body: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO batch (id, format, body) VALUES (?1, ?2, ?3)")?
        .execute(params![signed(id), FORMAT, body])?;
    Ok(())
}

/// The mark by which a queue and its journal know each other, and the last batch that the tables hold.
///
/// # Errors
/// What SQLite says.
pub(super) fn standing(tables: &Connection) -> rusqlite::Result<(Vec<u8>, u64)> {
    let insert = "INSERT INTO kept (name, value) VALUES ('journal', randomblob(16)) ON CONFLICT DO NOTHING";
    tables.execute(insert, [])?;
    let select = "SELECT value FROM kept WHERE name = 'journal'";
    let mark = tables.query_row(select, [], |row| row.get(0)).optional()?;
    let settled: i64 = tables.query_row("SELECT settled FROM counter", [], |row| row.get(0))?;
    Ok((mark.unwrap_or_default(), unsigned(settled)))
}

#[cfg(test)]
impl Journal {
    /// For tests that fill its disk.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

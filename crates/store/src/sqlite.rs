//! Opening a database: the one place where durability is chosen.
//!
//! Write-ahead log with `synchronous = FULL`: a transaction that was committed is on the disk, also after a power cut.
//! The schema's version is SQLite's own `user_version`; migrations run in one transaction each. A file of a later
//! version is refused, never guessed at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use thiserror::Error;

/// SQL that takes a schema from the version that is its index in the list to the next.
pub type Migration = &'static str;

/// How long a statement waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(5);

/// A database that cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be opened or made.
    #[error("cannot open the database {}; is its folder there and writable?", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Opened, but it cannot be made durable.
    #[error("the database {} cannot be set up; is its disk full, its file system local, and the file a database?", path.display())]
    Setup {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A later program wrote it.
    #[error("the database {} has schema {found}, this program knows {known}; use the program that wrote it, or a newer one", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The latest that is known here.
        known: usize,
    },
    /// A migration failed; the file is as it was before.
    #[error("the database {} cannot be brought to schema {to}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// The version that was tried.
        to: usize,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// Opens or makes the database at `path` and brings it to the last of `migrations`.
///
/// # Errors
/// [`OpenError`]; the file is then unchanged, but for migrations that had already succeeded.
pub fn open_database(path: &Path, migrations: &[Migration]) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|source| OpenError::Open {
        path: path.to_owned(),
        source,
    })?;
    let found = prepare(&connection).map_err(|source| OpenError::Setup {
        path: path.to_owned(),
        source,
    })?;
    if found > migrations.len() {
        return Err(OpenError::TooNew {
            path: path.to_owned(),
            found,
            known: migrations.len(),
        });
    }
    for (index, sql) in migrations.iter().enumerate().skip(found) {
        let to = index + 1;
        migrate(&mut connection, sql, to).map_err(|source| OpenError::Migrate {
            path: path.to_owned(),
            to,
            source,
        })?;
    }
    Ok(connection)
}

/// Sets the connection up and returns the schema's version.
fn prepare(connection: &Connection) -> Result<usize, rusqlite::Error> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn migrate(connection: &mut Connection, sql: &str, to: usize) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // another process may have been quicker
    let now: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if usize::try_from(now).is_ok_and(|now| now < to) {
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", i64::try_from(to).unwrap_or(i64::MAX))?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[Migration] = &["CREATE TABLE a (x INTEGER) STRICT"];
    const TWO: &[Migration] = &[
        "CREATE TABLE a (x INTEGER) STRICT",
        "CREATE TABLE b (y INTEGER) STRICT",
    ];

    #[test]
    fn a_new_file_is_durable_and_an_old_one_is_brought_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let connection = open_database(&path, ONE).unwrap();
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        let synchronous: i64 = connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        connection.execute("INSERT INTO a VALUES (7)", []).unwrap();
        drop(connection);

        let connection = open_database(&path, TWO).unwrap();
        connection.execute("INSERT INTO b VALUES (8)", []).unwrap();
        let kept: i64 = connection
            .query_row("SELECT x FROM a", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kept, 7);
        drop(connection);
        assert!(matches!(
            open_database(&path, ONE),
            Err(OpenError::TooNew {
                found: 2,
                known: 1,
                ..
            })
        ));
    }

    #[test]
    fn a_failed_migration_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let broken: &[Migration] = &[ONE[0], "CREATE TABLE b (y INTEGER) STRICT; CREATE NONSENSE"];
        assert!(matches!(
            open_database(&path, broken),
            Err(OpenError::Migrate { to: 2, .. })
        ));
        assert!(open_database(&path, TWO).is_ok());
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        std::fs::write(
            &path,
            "not a database, but long enough to be looked at".repeat(40),
        )
        .unwrap();
        assert!(matches!(open_database(&path, ONE), Err(OpenError::Setup { .. })));
        assert!(matches!(
            open_database(&folder.path().join("no/such/x"), ONE),
            Err(OpenError::Open { .. })
        ));
    }
}

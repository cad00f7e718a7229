//! The agent's journal: one file for each hot key and escrow.
//!
//! Owns an append-only list of records for each job and a few notes about the agent itself. A record is on the disk
//! before [`Journal::append`] returns, and the agent acts only after that: a crash at any point finds in the journal
//! everything that anybody can have seen. Never changes or deletes a record.
//!
//! Two processes with one key would sign two answers, so the file is locked for as long as the journal is open; the
//! lock ends with the process, however it ends.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};
use sandrun_types::{Address, EscrowRef, JobId, UnixSeconds};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::lock::LockFile;
use crate::sqlite::{Migration, OpenError, open_database};

const MIGRATIONS: &[Migration] = &["
    CREATE TABLE record (
        job BLOB NOT NULL CHECK (length(job) = 32),
        number INTEGER NOT NULL,
        written INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (job, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE ended (
        job BLOB NOT NULL PRIMARY KEY CHECK (length(job) = 32),
        written INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE note (
        name TEXT NOT NULL PRIMARY KEY,
        body TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// A journal that cannot be opened, read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process has it.
    #[error(
        "another agent already runs with the key {worker} on escrow {escrow} (it holds {}); two would sign two \
         answers and lose the bond: stop that one first, or give this one its own key",
        lock.display()
    )]
    InUse {
        /// The key's address.
        worker: Address,
        /// The escrow.
        escrow: Address,
        /// The lock file.
        lock: PathBuf,
    },
    /// The data folder cannot be made.
    #[error("cannot make the data folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A record could not be written: what it announces must not be done.
    #[error("cannot write to the journal")]
    Write(#[source] rusqlite::Error),
    /// It cannot be read.
    #[error("cannot read the journal")]
    Read(#[source] rusqlite::Error),
    /// A record has no JSON form.
    #[error("a record cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// A record of another version.
    #[error("record {number} of job {job} is not readable; was it written by another version?")]
    Decode {
        /// The job.
        job: JobId,
        /// Which of its records.
        number: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A note of another version.
    #[error("the note `{name}` is not readable; was it written by another version?")]
    DecodeNote {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What an agent remembers beside its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The block from which the chain has to be read again after a restart.
    ResumeFrom,
    /// Hash of the first block of the chain that it is about.
    Genesis,
    /// Whether it takes more seats, and why not.
    Gate,
    /// What was announced about the node last.
    Profile,
}

impl Note {
    const fn name(self) -> &'static str {
        match self {
            Self::ResumeFrom => "resume_from",
            Self::Genesis => "genesis",
            Self::Gate => "gate",
            Self::Profile => "profile",
        }
    }
}

/// Which file lies there: its device and number.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// The open journal of one key on one escrow.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    /// Held, not read: the lock goes with it.
    _lock: LockFile,
}

impl Journal {
    /// Opens or makes the journal of `worker` on `at` in `folder`, and locks it.
    ///
    /// # Errors
    /// [`JournalError::InUse`] when another process has it; otherwise what went wrong with folder or file.
    pub fn open(folder: &Path, at: EscrowRef, worker: Address) -> Result<Self, JournalError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| JournalError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        let name = format!("agent-{}-{:x}-{worker:x}", at.chain, at.escrow);
        let lock = lock(folder.join(format!("{name}.lock")), at, worker)?;
        let path = folder.join(format!("{name}.sqlite"));
        // salts are secrets until they are revealed: make the file before SQLite does, closed to others
        drop(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&path),
        );
        let connection = open_database(&path, MIGRATIONS)?;
        Ok(Self {
            connection,
            identity: identity(&path),
            path,
            _lock: lock,
        })
    }

    /// Whether the file is still where it was made. Where it was deleted or replaced, writing goes on into a file that ends with
    /// this process: a restart would find nothing.
    pub fn is_in_place(&self) -> bool {
        identity(&self.path).is_some_and(|found| Some(found) == self.identity)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record to a job's list, on the disk when this returns; its number, from 0.
    ///
    /// # Errors
    /// [`JournalError::Write`] or [`JournalError::Encode`]: then the record is not there.
    pub fn append(
        &mut self,
        job: JobId,
        now: UnixSeconds,
        record: &impl Serialize,
    ) -> Result<u64, JournalError> {
        let body = serde_json::to_string(record).map_err(JournalError::Encode)?;
        let number: i64 = self
            .connection
            .query_row(
                "INSERT INTO record (job, number, written, body)
                 SELECT ?1, COALESCE(MAX(number) + 1, 0), ?2, ?3 FROM record WHERE job = ?1
                 RETURNING number",
                params![job.as_bytes(), seconds(now), body],
                |row| row.get(0),
            )
            .map_err(JournalError::Write)?;
        Ok(u64::try_from(number).unwrap_or_default())
    }

    /// A job's records, in the order in which they were appended.
    ///
    /// # Errors
    /// [`JournalError::Read`] or [`JournalError::Decode`].
    pub fn records<R: DeserializeOwned>(&self, job: JobId) -> Result<Vec<R>, JournalError> {
        let mut statement = self
            .connection
            .prepare("SELECT number, body FROM record WHERE job = ?1 ORDER BY number")
            .map_err(JournalError::Read)?;
        let rows = statement
            .query_map([job.as_bytes()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })
            .map_err(JournalError::Read)?;
        rows.map(|row| {
            let (number, body) = row.map_err(JournalError::Read)?;
            let number = u64::try_from(number).unwrap_or_default();
            serde_json::from_str(&body).map_err(|source| JournalError::Decode { job, number, source })
        })
        .collect()
    }

    /// Jobs that have records and have not ended.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn open_jobs(&self) -> Result<Vec<JobId>, JournalError> {
        let mut statement = self
            .connection
            .prepare("SELECT DISTINCT job FROM record WHERE job NOT IN (SELECT job FROM ended) ORDER BY job")
            .map_err(JournalError::Read)?;
        let rows = statement
            .query_map([], |row| row.get::<_, [u8; 32]>(0).map(JobId))
            .map_err(JournalError::Read)?;
        rows.collect::<Result<_, _>>().map_err(JournalError::Read)
    }

    /// Marks a job as ended: it is not among [`Journal::open_jobs`] any more. Its records stay. Ending it again changes
    /// nothing.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub fn end(&mut self, job: JobId, now: UnixSeconds) -> Result<(), JournalError> {
        self.connection
            .execute(
                "INSERT INTO ended (job, written) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![job.as_bytes(), seconds(now)],
            )
            .map(|_| ())
            .map_err(JournalError::Write)
    }

    /// Opens an ended job again: the chain has undone its end.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub fn reopen(&mut self, job: JobId) -> Result<(), JournalError> {
        self.connection
            .execute("DELETE FROM ended WHERE job = ?1", [job.as_bytes()])
            .map(|_| ())
            .map_err(JournalError::Write)
    }

    /// Writes a note, in the place of the former one.
    ///
    /// # Errors
    /// [`JournalError::Write`] or [`JournalError::Encode`].
    pub fn set_note(&mut self, note: Note, value: &impl Serialize) -> Result<(), JournalError> {
        let body = serde_json::to_string(value).map_err(JournalError::Encode)?;
        self.connection
            .execute(
                "INSERT INTO note (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = ?2",
                params![note.name(), body],
            )
            .map(|_| ())
            .map_err(JournalError::Write)
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`JournalError::Read`] or [`JournalError::DecodeNote`].
    pub fn note<T: DeserializeOwned>(&self, note: Note) -> Result<Option<T>, JournalError> {
        let body: Option<String> = self
            .connection
            .query_row("SELECT body FROM note WHERE name = ?1", [note.name()], |row| {
                row.get(0)
            })
            .optional()
            .map_err(JournalError::Read)?;
        body.map(|body| serde_json::from_str(&body))
            .transpose()
            .map_err(|source| JournalError::DecodeNote {
                name: note.name(),
                source,
            })
    }

    /// Removes a note.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub fn clear_note(&mut self, note: Note) -> Result<(), JournalError> {
        self.connection
            .execute("DELETE FROM note WHERE name = ?1", [note.name()])
            .map(|_| ())
            .map_err(JournalError::Write)
    }
}

fn seconds(time: UnixSeconds) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn lock(path: PathBuf, at: EscrowRef, worker: Address) -> Result<LockFile, JournalError> {
    match LockFile::take(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(JournalError::InUse {
            worker,
            escrow: at.escrow,
            lock: path,
        }),
        Err(source) => Err(JournalError::Lock { path, source }),
    }
}

#[cfg(test)]
mod tests;

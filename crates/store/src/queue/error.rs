//! Why the queue can't be read or written, in words that say what to do.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sandrun_core::pool::JobNumber;
use thiserror::Error;

use crate::sqlite::OpenError;

/// What was being done, for messages: `read jobs`, `write a batch`.
pub type Doing = &'static str;

/// A queue that can't be opened, read or written.
#[derive(Debug, Error)]
pub enum QueueStoreError {
    /// The address is neither a path nor a PostgreSQL URL that is understood. Never quotes it: it may hold a password.
    #[error(
        "the queue's address can't be used: {0}; give a file's path or postgres://user:password@host:port/database"
    )]
    Address(String),
    /// The SQLite file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The SQLite file would lie in a folder that is not there; none is made, as the path may be mistyped.
    #[error(
        "the queue's file {} would lie in {}, and that is no folder: correct --db, or make the folder",
        path.display(), folder.display()
    )]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// Where it would lie.
        folder: PathBuf,
    },
    /// A folder where the SQLite file should be.
    #[error("{} is a folder, and the queue is a file: name one with --db, such as {}", .0.display(), .0.join("queue.db").display())]
    IsFolder(PathBuf),
    /// Another process has the SQLite file.
    #[error(
        "another process uses the queue (it holds {}): stop that one, give this one a file of its own with --db, or \
         use PostgreSQL, which several can share",
        .0.display()
    )]
    InUse(PathBuf),
    /// A file of the queue is not there any more, or another one is in its place. Nothing was written.
    #[error(
        "{} was removed, moved or replaced while the service runs, and nothing is written any more: where it was moved, \
         move it back; else end the service, put a backup of all its files back and start it again",
        .0.display()
    )]
    Displaced(PathBuf),
    /// The lock file, or the folder of the database.
    #[error("cannot use {}; does its folder exist, and is it writable?", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A queue's journal that is another queue's, or that lacks batches.
    #[error(
        "the journal {} does not belong to the queue beside it: put both files of one backup back, or, if its last \
         acknowledged jobs may be lost, move the journal away",
        .0.display()
    )]
    Mixed(PathBuf),
    /// What was acknowledged is safe, but can't be brought to the tables that are read.
    #[error(
        "could not {doing}: what was acknowledged is kept in the journal, but does not get to the tables ({why}); make \
         room for them, it is tried again every second"
    )]
    Unsettled {
        /// What was being done.
        doing: Doing,
        /// What the database said.
        why: String,
        /// Whether that is a full disk.
        full: bool,
    },
    /// The journal's disk is full.
    #[error("cannot write {}: its disk is full; nothing was written, make room and try again", path.display())]
    JournalFull {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A batch, or one before it, that was decided and could not be written.
    #[error(transparent)]
    Undone(Arc<Self>),
    /// What is written does not get to the disk.
    #[error("cannot bring {} to the disk; is the disk in order?", path.display())]
    Sync {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database's disk is full; nothing was written.
    #[error("could not {doing}: the database's disk is full; nothing was written, make room and try again")]
    Full {
        /// What was being done.
        doing: Doing,
        /// What the database said.
        #[source]
        source: DatabaseError,
    },
    /// No connection to PostgreSQL, or it broke. A write may or may not have happened: load again.
    #[error("could not {doing}: no connection to PostgreSQL; does it run, and is its address right?")]
    Lost {
        /// What was being done.
        doing: Doing,
        /// Why.
        #[source]
        source: DatabaseError,
    },
    /// PostgreSQL ended, or a connection to it broke, before a batch was on its disk, and the batch is not there.
    #[error(
        "could not {0}: PostgreSQL ended or its connection broke before that was on the disk; nothing was written, try \
         again"
    )]
    Gone(Doing),
    /// A later program wrote the PostgreSQL tables.
    #[error(
        "the queue has schema {found}, this program knows {known}; use the program that wrote it, or a newer one"
    )]
    TooNew {
        /// Their version.
        found: i64,
        /// The latest that is known here.
        known: i64,
    },
    /// The database refused; nothing was written.
    #[error("could not {doing}: the database refused; nothing was written, its own message says why")]
    Refused {
        /// What was being done.
        doing: Doing,
        /// Why.
        #[source]
        source: DatabaseError,
    },
    /// A row that this program would not have written.
    #[error(
        "could not {doing}: {what} is not readable; was the queue changed by hand or by another version?"
    )]
    Unreadable {
        /// What was being done.
        doing: Doing,
        /// Which part of it.
        what: &'static str,
    },
    /// A batch with a new job and no state for it: a defect of the caller. Nothing was written.
    #[error("job {} was to be written without its state; nothing was written; this is a defect of the program", .0.0)]
    Stateless(JobNumber),
    /// A new job under a number that was given out before: a defect of the caller. Nothing was written.
    #[error("job {} was to be written a second time; nothing was written; this is a defect of the program", .0.0)]
    Repeated(JobNumber),
    /// A body's own stream failed; what was written of it is swept later.
    #[error("a body could not be read to its end")]
    Body(#[source] io::Error),
    /// An upload took longer than [`super::UPLOAD_TTL`] and was swept.
    #[error("a body took longer than a day to come and was given up; send it again")]
    Late,
    /// The process is ending: the thread for the database is gone.
    #[error("could not {0}: the program is ending")]
    Ending(Doing),
}

/// What a database said.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// It did not answer in time.
    #[error("no answer within {0} s")]
    Silent(u64),
    /// An earlier error closed the connection.
    #[error("the connection was closed after an earlier error; load again")]
    Closed,
}

impl QueueStoreError {
    /// Whether room on a disk is what is missing.
    pub fn is_full(&self) -> bool {
        if let Self::Undone(error) = self {
            return error.is_full();
        }
        matches!(
            self,
            Self::Full { .. } | Self::JournalFull { .. } | Self::Unsettled { full: true, .. }
        )
    }

    /// Whether the queue's files were removed or moved under the running service.
    pub fn is_displaced(&self) -> bool {
        if let Self::Undone(error) = self {
            return error.is_displaced();
        }
        matches!(self, Self::Displaced(_))
    }

    /// Whether the database's file holds what no program has written.
    pub fn is_damaged(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        if let Self::Undone(error) = self {
            return error.is_damaged();
        }
        matches!(
            self,
            Self::Refused { source: DatabaseError::Sqlite(error), .. }
                if matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        )
    }

    /// Whether what was to be written may be there nevertheless.
    pub fn is_unknown(&self) -> bool {
        if let Self::Undone(error) = self {
            return error.is_unknown();
        }
        matches!(self, Self::Lost { .. })
    }

    /// Whether a connection broke, and did not just keep silent.
    pub(super) const fn has_broken(&self) -> bool {
        matches!(
            self,
            Self::Lost {
                source: DatabaseError::Postgres(_),
                ..
            }
        )
    }

    /// What SQLite's error means for the one who was `doing` it.
    pub(super) fn sqlite(doing: Doing) -> impl Fn(rusqlite::Error) -> Self + Copy {
        move |source| {
            let full = source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            let source = source.into();
            if full {
                Self::Full { doing, source }
            } else {
                Self::Refused { doing, source }
            }
        }
    }

    /// What PostgreSQL's error means for the one who was `doing` it.
    pub(super) fn postgres(doing: Doing) -> impl Fn(tokio_postgres::Error) -> Self + Copy {
        use tokio_postgres::error::SqlState;
        move |source| {
            // class 57: the server ends or has ended this connection; without a code it is gone by itself
            let lost = source
                .code()
                .is_none_or(|code| code.code().starts_with("57P") || code.code().starts_with("08"));
            let full = source.code() == Some(&SqlState::DISK_FULL);
            let source = source.into();
            if full {
                Self::Full { doing, source }
            } else if lost {
                Self::Lost { doing, source }
            } else {
                Self::Refused { doing, source }
            }
        }
    }
}

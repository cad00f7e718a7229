//! The names of what lies beside a database: its lock and its journal. They are the database's whole name and an ending
//! of their own. Former versions left out what stands behind its last dot, so that `q.db` and `q.sqlite` of one folder
//! had one journal between them; a queue whose journal has such a name keeps it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::journal::{HEADER, MAGIC};

/// The lock and the journal of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) lock: PathBuf,
    pub(super) journal: [PathBuf; 2],
}

impl Names {
    /// Those of a queue that is made now.
    pub(super) fn fresh(path: &Path) -> Self {
        let with = |end: &str| {
            let mut name = path.to_owned().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            lock: with(".lock"),
            journal: [with(".journal-0"), with(".journal-1")],
        }
    }

    fn former(path: &Path) -> Self {
        Self {
            lock: path.with_extension("lock"),
            journal: [path.with_extension("journal-0"), path.with_extension("journal-1")],
        }
    }

    /// Those that the queue at `path` has. Where it can't be told whose a journal of the former name is, it is this
    /// queue's, which is looked into when it is opened.
    pub(super) fn find(path: &Path) -> Self {
        let (fresh, former) = (Self::fresh(path), Self::former(path));
        let exist = |names: &Self| names.journal.iter().any(|file| file.exists());
        let is_former = if exist(&fresh) {
            // a former version may have been started since
            former.begun() > fresh.begun() && !is_anothers(path, &former)
        } else {
            exist(&former) && !(has_namesake(path) && is_anothers(path, &former))
        };
        if is_former { former } else { fresh }
    }

    /// The number of the first batch in the newer file of the journal.
    fn begun(&self) -> Option<u64> {
        let files = self.journal.iter().filter_map(|file| header(file));
        files
            .filter_map(|it| it[24..].first_chunk().copied().map(u64::from_le_bytes))
            .max()
    }
}

/// The header of a journal's file.
fn header(file: &Path) -> Option<[u8; HEADER]> {
    let mut header = [0; HEADER];
    File::open(file).ok()?.read_exact(&mut header).ok()?;
    header.starts_with(&MAGIC[..MAGIC.len() - 1]).then_some(header)
}

/// Whether something else in its folder had the same journal.
fn has_namesake(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(entries) = folder.unwrap_or(Path::new(".")).read_dir() else {
        return false;
    };
    let mut others = entries.flatten().map(|entry| PathBuf::from(entry.file_name()));
    others.any(|other| {
        let end = other.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let is_beside = ["lock", "journal-0", "journal-1"].contains(&end)
            || end.ends_with("-wal")
            || end.ends_with("-shm");
        other.file_stem() == path.file_stem() && Some(other.as_os_str()) != path.file_name() && !is_beside
    })
}

/// Whether a journal has another mark than the database, or the database has none yet.
fn is_anothers(path: &Path, names: &Names) -> bool {
    if path.metadata().map_or(true, |file| file.len() == 0) {
        return true;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mark = Connection::open_with_flags(path, flags).and_then(|tables| {
        let select = "SELECT value FROM kept WHERE name = 'journal'";
        tables.query_row(select, [], |row| row.get::<_, Vec<u8>>(0))
    });
    let Ok(mark) = mark else { return false };
    let mut headers = names.journal.iter().filter_map(|file| header(file)).peekable();
    headers.peek().is_some() && headers.all(|header| !header[8..].starts_with(&mark))
}

//! SQLite's write-ahead log, to be brought to the disk by us. Never reads or writes it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The log of the tables, open for as long as the queue is: the kernel tells of a page that it could not write once for
/// each time that a file is open, so that a file opened anew for each sync may never hear of it.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// A sync has failed: what it did not keep counts as written, and no later one would bring it.
    has_failed: AtomicBool,
}

/// The name of the log of the tables at `path`.
pub(super) fn name(path: &Path) -> PathBuf {
    let mut log = path.to_owned().into_os_string();
    log.push("-wal");
    log.into()
}

impl Log {
    /// Opens the log of the tables at `path`, which a connection to them has made.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(File::open(name(path))?))
    }

    const fn of(file: File) -> Self {
        Self {
            file,
            has_failed: AtomicBool::new(false),
        }
    }

    /// Brings what was committed to the disk. SQLite itself syncs the log before it takes it into the tables, and the
    /// tables before it begins the log anew: what is committed and not in the tables is in the log.
    ///
    /// # Errors
    /// What the disk says, and from then on always.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "an earlier sync has failed; see to the disk, then start the service again",
            ));
        }
        self.file.sync_data().inspect_err(|_| self.fail())
    }

    /// A sync has failed.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_sync_none_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q");
        assert!(Log::open(&path).is_err(), "there is none");
        std::fs::write(folder.path().join("q-wal"), "x").unwrap();
        let sound = Log::open(&path).unwrap();
        sound.sync().unwrap();
        // a device that nothing can be synced on
        let mut log = Log::of(File::open("/dev/null").unwrap());
        log.sync().unwrap_err();
        log.file = sound.file;
        let error = log.sync().unwrap_err();
        assert!(error.to_string().contains("earlier"), "{error}");
    }
}

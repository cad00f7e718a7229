//! Whether the files of a running queue are still where they were opened. Who writes on after they were removed
//! acknowledges what no later start finds.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::queue::QueueStoreError;

/// How old what was seen last may be where a look would be too frequent.
const AGE: Duration = Duration::from_secs(1);

/// A file's own identity, whatever its name.
type Inode = (u64, u64);

/// The files of a queue that is open, as they were then.
#[derive(Debug)]
pub(super) struct Place {
    files: Vec<(PathBuf, Inode)>,
    began: Instant,
    /// Milliseconds after `began` of the last look.
    looked: AtomicU64,
    is_displaced: AtomicBool,
}

fn inode(file: &Metadata) -> Inode {
    (file.dev(), file.ino())
}

impl Place {
    /// These files, which are there now and open.
    ///
    /// # Errors
    /// What the system says of one of them.
    pub(super) fn of(files: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let seen = files.into_iter().map(|path| {
            let found = path.metadata()?;
            Ok((path, inode(&found)))
        });
        Ok(Self {
            files: seen.collect::<io::Result<_>>()?,
            began: Instant::now(),
            looked: AtomicU64::new(0),
            is_displaced: AtomicBool::new(false),
        })
    }

    /// Looks whether each of them is still there.
    ///
    /// # Errors
    /// [`QueueStoreError::Displaced`].
    pub(super) fn check(&self) -> Result<(), QueueStoreError> {
        self.looked.store(self.age(), Ordering::Relaxed);
        let displaced = self.files.iter().find(|file| !is_there(file));
        let was_displaced = self.is_displaced.swap(displaced.is_some(), Ordering::AcqRel);
        let Some((path, _)) = displaced else {
            if was_displaced {
                tracing::info!("the queue's files are back: it is written again");
            }
            return Ok(());
        };
        let error = QueueStoreError::Displaced(path.clone());
        if !was_displaced {
            tracing::error!(%error, "nothing is written any more");
        }
        Err(error)
    }

    /// As [`Self::check`], where nothing was amiss up to a second ago without looking.
    ///
    /// # Errors
    /// As there.
    pub(super) fn check_now_and_then(&self) -> Result<(), QueueStoreError> {
        let age = self.age().saturating_sub(self.looked.load(Ordering::Relaxed));
        if u128::from(age) < AGE.as_millis() && !self.is_displaced.load(Ordering::Acquire) {
            return Ok(());
        }
        self.check()
    }

    /// As [`Self::check`], this file alone.
    ///
    /// # Errors
    /// As there.
    pub(super) fn check_one(&self, path: &Path) -> Result<(), QueueStoreError> {
        let is_amiss = self.files.iter().any(|file| file.0 == path && !is_there(file));
        if is_amiss { self.check() } else { Ok(()) }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn is_there((path, expected): &(PathBuf, Inode)) -> bool {
    match path.metadata() {
        Ok(found) => inode(&found) == *expected,
        Err(error) => {
            // a name that can't be looked up for another reason says nothing about the file
            error.kind() != io::ErrorKind::NotFound
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_removed_or_replaced_is_noticed_and_one_that_is_back_too() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away) = (folder.path().join("q"), folder.path().join("away"));
        std::fs::write(&path, "x").unwrap();
        let place = Place::of([path.clone()]).unwrap();
        place.check().unwrap();
        std::fs::rename(&path, &away).unwrap();
        place.check_now_and_then().unwrap();
        place.check_one(&away).unwrap();
        place.check_one(&path).unwrap_err();
        place.check_now_and_then().unwrap_err();
        std::fs::write(&path, "another").unwrap();
        place.check().unwrap_err();
        std::fs::rename(&away, &path).unwrap();
        place.check_now_and_then().unwrap();
        assert!(Place::of([away]).is_err());
    }
}

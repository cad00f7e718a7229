//! A file that one process at a time holds: the owner's mark on a folder or a database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// A held `flock(2)` on a file; it ends with the value, or with the process, however that ends.
#[derive(Debug)]
pub struct LockFile(File);

impl LockFile {
    /// Makes the file (mode 0600) where it is missing and locks it; `None` where another holds it. Waits up to a second
    /// for one that is just ending: a child between fork and exec still holds what its killed parent held.
    ///
    /// # Errors
    /// What the system says of the file.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        for attempt in 1..=TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) if attempt < TRIES => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(source),
            }
        }
        Ok(None)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // closing alone would leave it with a child that has inherited the descriptor and not reached its exec
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "a lock was not released by hand; it ends with its last descriptor");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::LockFile;

    #[test]
    fn one_holds_it_and_a_copy_of_the_descriptor_does_not_keep_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = LockFile::take(&path).unwrap().unwrap();
        assert!(LockFile::take(&path).unwrap().is_none(), "held by another");
        let copy = held.0.try_clone().unwrap();
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::from(copy))
            .spawn()
            .unwrap();
        drop(held);
        let again = LockFile::take(&path).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(again.is_some(), "free although a child has the descriptor");
    }
}

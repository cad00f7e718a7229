//! A data folder and the disk that it is on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::health::Check;
use crate::text::Exposition;

/// Files that are counted at most: a larger folder's size is a lower bound.
const MOST_FILES: usize = 200_000;
/// How long a count of a folder's files holds.
const FRESH: Duration = Duration::from_secs(30);
/// How long it holds that files can be written: whoever asks often makes no work for the disk.
const WRITTEN: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

/// A disk as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that are free to this process.
    pub free: u64,
    /// Bytes of the whole file system.
    pub size: u64,
}

impl Disk {
    /// The disk of a folder.
    ///
    /// # Errors
    /// A folder that is not there, or not to be reached.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(folder)?;
        Ok(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            size: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

/// A service's data folder.
#[derive(Debug)]
pub struct DiskWatch {
    folder: PathBuf,
    least_free: u64,
    used: Mutex<Option<(Instant, u64)>>,
    /// When a file was last written for a check.
    written: Mutex<Option<Instant>>,
}

impl DiskWatch {
    /// The folder, and how many bytes have to be free for the service to work.
    #[must_use]
    pub const fn new(folder: PathBuf, least_free: u64) -> Self {
        Self {
            folder,
            least_free,
            used: Mutex::new(None),
            written: Mutex::new(None),
        }
    }

    /// Bytes of all files in the folder, as they were within the last half minute. Blocks: it may read many folders.
    pub fn used(&self) -> u64 {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match *used {
            Some((at, bytes)) if at.elapsed() < FRESH => bytes,
            Some(_) | None => {
                let bytes = weigh(&self.folder);
                *used = Some((Instant::now(), bytes));
                bytes
            }
        }
    }

    /// Whether the service can write there. Blocks for a moment: it makes and removes a file. Says nothing of where the
    /// folder is, as strangers may ask.
    #[must_use]
    pub fn check(&self) -> Check {
        let name = "disk";
        let free = match Disk::of(&self.folder) {
            Ok(disk) => disk.free,
            Err(error) => {
                let todo = "make the data directory reachable for this service's user";
                return Check::bad(name, format!("the data directory: {error}"), todo);
            }
        };
        if free < self.least_free {
            let seen = format!(
                "{} MiB are free in the data directory, at least {} are needed",
                free / MIB,
                self.least_free / MIB
            );
            return Check::bad(name, seen, "make room on that disk");
        }
        match self.write() {
            Ok(()) => Check::good(name, format!("{} MiB are free in the data directory", free / MIB)),
            Err(error) => Check::bad(
                name,
                format!("nothing can be written to the data directory: {error}"),
                "look at its owner, at its mode, and whether the file system is mounted read-only",
            ),
        }
    }

    /// Makes and removes a file, where that was not done just now.
    fn write(&self) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_some_and(|at| at.elapsed() < WRITTEN) {
            return Ok(());
        }
        *written = None;
        probe(&self.folder)?;
        *written = Some(Instant::now());
        Ok(())
    }

    /// What is used and free, as numbers. Blocks as [`Self::used`] does.
    pub fn expose(&self, out: &mut Exposition) {
        if let Ok(disk) = Disk::of(&self.folder) {
            let help = "Bytes that are free to the service on the disk of its data folder.";
            out.gauge("sandrun_disk_free_bytes", help, disk.free);
            let help = "Size of the file system of the data folder.";
            out.gauge("sandrun_disk_size_bytes", help, disk.size);
        }
        let help = "Bytes of the files in the data folder, at most 30 s ago.";
        out.gauge("sandrun_disk_used_bytes", help, self.used());
    }
}

/// Makes and removes a file; nobody else's has its name.
fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".health-{}", std::process::id()));
    std::fs::write(&path, b"ok")?;
    std::fs::remove_file(&path)
}

/// Bytes of the files below a folder; what goes away meanwhile is passed over.
fn weigh(folder: &Path) -> u64 {
    let (mut bytes, mut files) = (0_u64, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            files += 1;
            if files > MOST_FILES {
                return bytes;
            }
            // never through a link
            match entry.metadata() {
                Ok(about) if about.is_dir() => folders.push(entry.path()),
                Ok(about) => bytes = bytes.saturating_add(about.len()),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_weighed_and_tried() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/a"), [0; 300]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("root")).unwrap();
        let watch = DiskWatch::new(folder.path().to_owned(), 1);
        assert!((300..500).contains(&watch.used()), "{}", watch.used());
        let check = watch.check();
        assert!(check.ok, "{check:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let mut out = Exposition::default();
        watch.expose(&mut out);
        assert!(out.finish().contains("sandrun_disk_free_bytes "));
    }

    #[test]
    fn a_full_or_missing_disk_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let full = DiskWatch::new(folder.path().to_owned(), u64::MAX).check();
        assert!(!full.ok && full.todo.contains("room"), "{full:?}");
        let gone = DiskWatch::new(folder.path().join("gone"), 1).check();
        assert!(!gone.ok && !gone.seen.contains("gone"), "{gone:?}");
    }
}

//! Package files on this machine, named by their hashes. Owns the folder: what is in it was checked, and is checked
//! again whenever it is used.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::hash::PackageHash;
use crate::interrupt::Interrupt;
use crate::lock::Lock;
use crate::source::{self, ResolveError};

/// How folders begin into which packages are fetched.
const FETCH: &str = ".fetch-";

/// A folder of package files.
#[derive(Debug, Clone)]
pub struct Downloads {
    dir: PathBuf,
    python: PathBuf,
    interrupt: Interrupt,
    /// Says that the folder is used.
    _used: Arc<File>,
}

/// Why packages are not there.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// The folder.
    #[error("{} can't be used for downloads", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The package manager.
    #[error(transparent)]
    Fetch(#[from] ResolveError),
    /// It fetched, and not what the lock says.
    #[error(
        "what was fetched for {package} is not what the lock says ({hash}): the package was replaced, or the lock is wrong; \
         `env lock` makes a new one"
    )]
    Other {
        /// Which.
        package: String,
        /// What was expected.
        hash: PackageHash,
    },
}

impl Downloads {
    /// The folder `dir`, made where it is missing; `python` is the interpreter whose pip fetches wheels.
    ///
    /// # Errors
    /// [`DownloadError::Folder`].
    pub fn new(dir: &Path, python: &Path) -> Result<Self, DownloadError> {
        let used = open(dir).map_err(|source| DownloadError::Folder {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            python: python.to_owned(),
            interrupt: Interrupt::default(),
            _used: Arc::new(used),
        })
    }

    /// The same folder; fetching and checking end with this, and what is built of it.
    #[must_use]
    pub fn until(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// What ends its use.
    pub(crate) const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    fn folder(&self, source: io::Error) -> DownloadError {
        DownloadError::Folder {
            path: self.dir.clone(),
            source,
        }
    }

    /// Where a package's file lies, whether it is there or not.
    #[must_use]
    pub fn path(&self, hash: &PackageHash) -> PathBuf {
        self.dir.join(hash.to_string().replace(':', "-"))
    }

    /// Fetches what is missing of a lock's packages, and checks all. Blocking; talks to registries only for what is
    /// missing.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub fn complete(&self, lock: &Lock) -> Result<(), DownloadError> {
        let scratch = tempfile::Builder::new().prefix(FETCH).tempdir_in(&self.dir);
        let scratch = scratch.map_err(|source| self.folder(source))?;
        let wanted: Vec<(String, PackageHash)> = match lock {
            Lock::Python(lock) => {
                let mut missing = Vec::new();
                for wheel in &lock.packages {
                    if !self.has(&wheel.hash)? {
                        missing.push(wheel);
                    }
                }
                if !missing.is_empty() {
                    let (python, into) = (&self.python, scratch.path());
                    source::download_wheels(&missing, lock, python, into, &self.interrupt)?;
                }
                missing
                    .iter()
                    .map(|it| (format!("{} {}", it.name, it.version), it.hash))
                    .collect()
            }
            Lock::Node(lock) => {
                let mut missing = Vec::new();
                for package in &lock.packages {
                    if !self.has(&package.hash)? {
                        missing.push(package);
                    }
                }
                if !missing.is_empty() {
                    source::download_packages(&missing, scratch.path(), &self.interrupt)?;
                }
                missing
                    .iter()
                    .map(|it| (format!("{} {}", it.name, it.version), it.hash))
                    .collect()
            }
        };
        self.take(scratch.path(), &wanted)
    }

    /// Whether a file is there, whole.
    fn has(&self, hash: &PackageHash) -> Result<bool, DownloadError> {
        match File::open(self.path(hash)) {
            Ok(file) => {
                let fits = hash.fits(&mut self.interrupt.reading(file));
                fits.map_err(|source| self.folder(source))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.folder(source)),
        }
    }

    /// Takes what was wanted from where it was fetched to.
    fn take(&self, fetched: &Path, wanted: &[(String, PackageHash)]) -> Result<(), DownloadError> {
        let failed = |source| self.folder(source);
        let mut files = Vec::new();
        for entry in fs::read_dir(fetched).map_err(failed)? {
            files.push(entry.map_err(failed)?.path());
        }
        files.sort();
        let mut taken = BTreeSet::new();
        for (package, hash) in wanted {
            if taken.contains(hash) {
                continue;
            }
            let mut found = None;
            for file in files.iter().filter(|file| file.is_file()) {
                let content = File::open(file).map_err(failed)?;
                if hash.fits(&mut self.interrupt.reading(content)).map_err(failed)? {
                    found = Some(file);
                    break;
                }
            }
            let Some(file) = found else {
                let (package, hash) = (package.clone(), *hash);
                return Err(DownloadError::Other { package, hash });
            };
            fs::rename(file, self.path(hash)).map_err(failed)?;
            taken.insert(*hash);
        }
        Ok(())
    }
}

/// Makes the folder where it is missing, and says that it is used for as long as the file is open. Where nobody else uses
/// it, what a process that was killed has left is removed.
fn open(dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let used = File::open(dir)?;
    if used.try_lock().is_ok() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(FETCH) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        used.unlock()?;
    }
    used.lock_shared()?;
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"{"format":"sandrun-python-lock-v1","python":"3.11","packages":[{"name":"a","version":"1",
        "hash":"sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"}]}"#;

    #[test]
    fn what_is_there_is_not_fetched_and_what_is_broken_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = Downloads::new(folder.path(), Path::new("/nowhere/python3")).unwrap();
        let lock = Lock::parse(LOCK.as_bytes()).unwrap();
        let Lock::Python(python) = &lock else {
            panic!("a python lock")
        };
        let place = downloads.path(&python.packages[0].hash);
        fs::write(&place, "foo").unwrap();
        downloads.complete(&lock).unwrap();
        fs::write(&place, "fool").unwrap();
        let words = downloads.complete(&lock).unwrap_err().to_string();
        assert!(words.contains("pip for /nowhere/python3 is needed"), "{words}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn another_file_than_the_locks_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = Downloads::new(folder.path(), Path::new("python3")).unwrap();
        let fetched = tempfile::tempdir().unwrap();
        fs::write(fetched.path().join("a-1.whl"), "evil").unwrap();
        let Lock::Python(lock) = Lock::parse(LOCK.as_bytes()).unwrap() else {
            panic!("a python lock")
        };
        let wanted = [("a 1".to_owned(), lock.packages[0].hash)];
        let refused = downloads.take(fetched.path(), &wanted);
        assert!(matches!(refused, Err(DownloadError::Other { .. })), "{refused:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_process_left_goes_and_what_another_one_uses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let fetching = folder.path().join(".fetch-abc");
        let downloads = Downloads::new(folder.path(), Path::new("python3")).unwrap();
        fs::create_dir(&fetching).unwrap();
        fs::write(fetching.join("a.whl"), "half").unwrap();
        let other = Downloads::new(folder.path(), Path::new("python3")).unwrap();
        assert!(fetching.exists(), "the first one may be fetching");
        drop((downloads, other));
        drop(Downloads::new(folder.path(), Path::new("python3")).unwrap());
        assert!(!fetching.exists());
    }
}

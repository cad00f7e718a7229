//! An image in the making: files below one folder, with normal names and modes. Owns what may be written and how much.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sandrun_content::Limits;
use sandrun_types::{BundlePath, BundlePathError};
use thiserror::Error;

use crate::interrupt::Interrupt;

/// What an image may hold, where it is built and where it is fetched.
pub const IMAGE_LIMITS: Limits = Limits {
    max_bytes: 2 << 30,
    max_file_bytes: 1 << 30,
    max_entries: 50_000,
    max_depth: 40,
};

/// What cannot become a part of an image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// A name that leaves the image, or cannot be written down.
    #[error(transparent)]
    Name(#[from] BundlePathError),
    /// Neither a file nor a directory.
    #[error("{0} is a link or a special file; an image holds files and directories alone")]
    Special(String),
    /// A name that is both.
    #[error("{0} is both a file and a directory")]
    Conflict(BundlePath),
    /// Too much.
    #[error("it has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// What it is made of cannot be read.
    #[error("{name} can't be read: {source}")]
    Source {
        /// Of what.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Our own disk.
    #[error("{} can't be written", path.display())]
    Store {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes an image's files.
#[derive(Debug)]
pub(crate) struct ImageWriter {
    root: PathBuf,
    bytes: u64,
    entries: u64,
    interrupt: Interrupt,
}

impl ImageWriter {
    /// Writes below `root`, an empty directory of its own.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            bytes: 0,
            entries: 0,
            interrupt: Interrupt::default(),
        }
    }

    /// The same; writing ends with this.
    pub(crate) fn until(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// What ends it.
    pub(crate) const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// As [`Self::add`], for content that is said to have so many bytes: what cannot fit is refused before it is read,
    /// and what is shorter or longer than it says afterwards.
    pub(crate) fn add_sized(
        &mut self,
        name: &str,
        executable: bool,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ImageError> {
        if size > IMAGE_LIMITS.max_file_bytes {
            return Err(limit("bytes in one file", IMAGE_LIMITS.max_file_bytes));
        }
        if self.bytes.saturating_add(size) > IMAGE_LIMITS.max_bytes {
            return Err(limit("bytes", IMAGE_LIMITS.max_bytes));
        }
        let before = self.bytes;
        self.add(name, executable, &mut content.take(size.saturating_add(1)))?;
        if self.bytes - before == size {
            return Ok(());
        }
        Err(ImageError::Source {
            name: name.to_owned(),
            source: io::Error::other(format!("it does not have the {size} bytes that its archive says")),
        })
    }

    /// Writes one file, in the place of one that an earlier package had there.
    pub(crate) fn add(
        &mut self,
        name: &str,
        executable: bool,
        content: &mut dyn Read,
    ) -> Result<(), ImageError> {
        let path = BundlePath::parse(name)?;
        if path.as_str().split('/').count() > usize::try_from(IMAGE_LIMITS.max_depth).unwrap_or(usize::MAX) {
            return Err(limit("levels", u64::from(IMAGE_LIMITS.max_depth)));
        }
        for folder in path.folders() {
            self.folder(folder, &path)?;
        }
        let at = self.root.join(path.as_str());
        match fs::remove_file(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.count_entry()?,
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Err(ImageError::Conflict(path));
            }
            Err(source) => return Err(ImageError::Store { path: at, source }),
            Ok(()) => {}
        }
        self.write(&at, executable, content, name)
    }

    fn folder(&mut self, folder: &str, path: &BundlePath) -> Result<(), ImageError> {
        let at = self.root.join(folder);
        match fs::create_dir(&at) {
            Ok(()) => self.count_entry(),
            // only this writer writes here, so what is no file is a directory
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && at.is_dir() => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ImageError::Conflict(path.clone()))
            }
            Err(source) => Err(ImageError::Store { path: at, source }),
        }
    }

    fn count_entry(&mut self) -> Result<(), ImageError> {
        self.entries += 1;
        if self.entries > IMAGE_LIMITS.max_entries {
            return Err(limit("files and directories", IMAGE_LIMITS.max_entries));
        }
        Ok(())
    }

    fn write(
        &mut self,
        at: &Path,
        executable: bool,
        content: &mut dyn Read,
        name: &str,
    ) -> Result<(), ImageError> {
        let store = |source| ImageError::Store {
            path: at.to_owned(),
            source,
        };
        let mut file = File::create_new(at).map_err(store)?;
        let mut content = self.interrupt.reading(content);
        let mut buffer = vec![0; 128 * 1024];
        let mut size = 0_u64;
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let name = name.to_owned();
                    return Err(ImageError::Source { name, source });
                }
            };
            size += read as u64;
            self.bytes += read as u64;
            if self.bytes > IMAGE_LIMITS.max_bytes {
                return Err(limit("bytes", IMAGE_LIMITS.max_bytes));
            }
            if size > IMAGE_LIMITS.max_file_bytes {
                return Err(limit("bytes in one file", IMAGE_LIMITS.max_file_bytes));
            }
            file.write_all(&buffer[..read]).map_err(store)?;
        }
        // whatever the umask
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(store)
    }
}

const fn limit(what: &'static str, limit: u64) -> ImageError {
    ImageError::Limit { what, limit }
}

/// Whether a file is what an interpreter writes for itself: it holds times and paths, and differs by who wrote it.
pub(crate) fn is_bytecode(name: &str) -> bool {
    let path = Path::new(name);
    let compiled = |end: &std::ffi::OsStr| end == "pyc" || end == "pyo";
    path.extension().is_some_and(compiled) || path.components().any(|part| part.as_os_str() == "__pycache__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_are_refused_and_conflicts_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut image = ImageWriter::new(folder.path());
        for bad in ["../a", "/a", "a/../../b", ""] {
            assert!(
                matches!(image.add(bad, false, &mut &b""[..]), Err(ImageError::Name(_))),
                "{bad}"
            );
        }
        image.add("a/b", false, &mut &b"1"[..]).unwrap();
        assert!(matches!(
            image.add("a", false, &mut &b""[..]),
            Err(ImageError::Conflict(_))
        ));
        assert!(matches!(
            image.add("a/b/c", false, &mut &b""[..]),
            Err(ImageError::Conflict(_))
        ));
        image.add("a/b", true, &mut &b"2"[..]).unwrap();
        let at = folder.path().join("a/b");
        assert_eq!(fs::read(&at).unwrap(), b"2");
        assert_eq!(fs::metadata(&at).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn bytecode_is_told_by_its_name() {
        for compiled in [
            "a.pyc",
            "x/__pycache__/a.cpython-311.pyc",
            "__pycache__/x",
            "a.pyo",
        ] {
            assert!(is_bytecode(compiled), "{compiled}");
        }
        for plain in ["a.py", "pyc", "a.pyc.txt"] {
            assert!(!is_bytecode(plain), "{plain}");
        }
    }
}

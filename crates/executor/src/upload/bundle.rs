//! Writes a bundle's files below one folder, counting and hashing as it goes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sandrun_types::{BundlePath, BundlePathError, InputFile, Sha256Hex};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Most bytes and entries of one bundle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BundleLimits {
    /// Bytes of all files together.
    pub(crate) bytes: u64,
    /// Files and folders.
    pub(crate) entries: usize,
}

/// A file cannot become part of the bundle.
#[derive(Debug, Error)]
pub(crate) enum BundleError {
    #[error(transparent)]
    Name(#[from] BundlePathError),
    #[error("{0} is there twice; send each file once")]
    Twice(BundlePath),
    #[error("{0} is both a file and a folder; rename one")]
    FileAndFolder(BundlePath),
    #[error("the files have more than {0} bytes when unpacked; send less")]
    TooLarge(u64),
    #[error("there are more than {0} files and folders; send fewer")]
    TooMany(usize),
    /// What was sent cannot be read: a broken archive.
    #[error("cannot read {path} from the upload: {source}")]
    Source { path: BundlePath, source: io::Error },
    /// The executor's own disk.
    #[error("cannot store {path}")]
    Store { path: BundlePath, source: io::Error },
}

/// A bundle in the making.
#[derive(Debug)]
pub(crate) struct BundleWriter {
    root: PathBuf,
    limits: BundleLimits,
    bytes: u64,
    entries: usize,
    files: BTreeMap<BundlePath, InputFile>,
}

impl BundleWriter {
    /// Writes below `root`, an empty folder of its own.
    pub(crate) fn new(root: &Path, limits: BundleLimits) -> Self {
        Self {
            root: root.to_owned(),
            limits,
            bytes: 0,
            entries: 0,
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn limits(&self) -> BundleLimits {
        self.limits
    }

    /// The files written so far.
    pub(crate) fn into_files(self) -> BTreeMap<BundlePath, InputFile> {
        self.files
    }

    fn count_entry(&mut self) -> Result<(), BundleError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(BundleError::TooMany(self.limits.entries));
        }
        Ok(())
    }

    /// Makes a folder and those above it.
    pub(crate) fn add_folder(&mut self, path: &BundlePath) -> Result<(), BundleError> {
        for folder in path.folders().chain([path.as_str()]) {
            match fs::create_dir(self.root.join(folder)) {
                Ok(()) => self.count_entry()?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let at = self.root.join(folder);
                    if !fs::symlink_metadata(at).is_ok_and(|data| data.is_dir()) {
                        return Err(BundleError::FileAndFolder(path.clone()));
                    }
                }
                Err(source) => {
                    return Err(BundleError::Store {
                        path: path.clone(),
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Stores one file. Every file gets the same mode (0755): a multipart upload carries none, so none can count.
    pub(crate) fn add_file(&mut self, path: BundlePath, content: &mut dyn Read) -> Result<(), BundleError> {
        self.count_entry()?;
        if let Some((folder, _)) = path.as_str().rsplit_once('/') {
            self.add_folder(&BundlePath::parse(folder)?)?;
        }
        let mut file = self.create(&path)?;
        let mut hasher = Sha256::new();
        let mut size_bytes = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(BundleError::TooLarge(self.limits.bytes));
                }
                Err(source) => return Err(BundleError::Source { path, source }),
            };
            let piece = &buffer[..read];
            self.bytes = self.bytes.saturating_add(piece.len() as u64);
            size_bytes += piece.len() as u64;
            if self.bytes > self.limits.bytes {
                return Err(BundleError::TooLarge(self.limits.bytes));
            }
            hasher.update(piece);
            file.write_all(piece).map_err(|source| BundleError::Store {
                path: path.clone(),
                source,
            })?;
        }
        self.files.insert(
            path,
            InputFile {
                sha256: Sha256Hex(hasher.finalize().into()),
                size_bytes,
            },
        );
        Ok(())
    }

    fn create(&self, path: &BundlePath) -> Result<File, BundleError> {
        let at = self.root.join(path.as_str());
        // create_new is O_EXCL: an existing name, a symlink included, is never followed or written to.
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(&at)
            .map_err(|source| {
                if source.kind() != io::ErrorKind::AlreadyExists {
                    BundleError::Store {
                        path: path.clone(),
                        source,
                    }
                } else if at.is_dir() {
                    BundleError::FileAndFolder(path.clone())
                } else {
                    BundleError::Twice(path.clone())
                }
            })
    }
}

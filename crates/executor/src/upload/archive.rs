//! Unpacks tar.gz and zip archives into a bundle.
//!
//! Only regular files and folders come out; anything else (links, devices, FIFOs) refuses the whole archive by name,
//! so there is never a link that a later entry could be written through.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use sandrun_types::{BundlePath, BundlePathError};
use thiserror::Error;

use super::bundle::{BundleError, BundleWriter};

/// Room for the headers of a tar archive, for each entry: its own, a long name, extended attributes, padding.
const HEADER_BYTES: u64 = 8192;

/// An archive cannot be unpacked.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    #[error(
        "{archive:?} is no {kind} archive that can be read ({source}); pack it again, or send the files themselves"
    )]
    Broken {
        archive: String,
        kind: &'static str,
        source: io::Error,
    },
    #[error("{archive:?} holds {entry:?}, which is {what}; only files and folders are taken")]
    NotAFile {
        archive: String,
        entry: String,
        what: &'static str,
    },
    #[error("{archive:?} holds the bad name {entry:?}: {source}")]
    Name {
        archive: String,
        entry: String,
        source: BundlePathError,
    },
    #[error("{archive:?} holds {entry:?}, which is encrypted; send it plain")]
    Encrypted { archive: String, entry: String },
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Fails with `FileTooLarge` once more bytes were read than allowed, so that no decompressor can be made to work on.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(80).collect()
}

/// An entry's name; `None` for the archive's own root folder.
fn entry_path(archive: &str, name: &[u8]) -> Result<Option<BundlePath>, ArchiveError> {
    let bad = |source| ArchiveError::Name {
        archive: archive.to_owned(),
        entry: shown(name),
        source,
    };
    let text = std::str::from_utf8(name).map_err(|_| bad(BundlePathError::Unprintable(shown(name))))?;
    match BundlePath::parse(text) {
        Ok(path) => Ok(Some(path)),
        Err(BundlePathError::Empty) => Ok(None),
        Err(source) => Err(bad(source)),
    }
}

/// Unpacks a gzipped tar archive called `name`.
pub(crate) fn unpack_tar_gz(name: &str, file: File, bundle: &mut BundleWriter) -> Result<(), ArchiveError> {
    let limits = bundle.limits();
    let headers = HEADER_BYTES.saturating_mul(limits.entries as u64);
    let decoder = flate2::read::MultiGzDecoder::new(BufReader::new(file));
    let mut archive = tar::Archive::new(Bounded {
        inner: decoder,
        left: limits.bytes.saturating_add(headers),
    });
    let broken = |source: io::Error| {
        if source.kind() == io::ErrorKind::FileTooLarge {
            return BundleError::TooLarge(limits.bytes).into();
        }
        ArchiveError::Broken {
            archive: name.to_owned(),
            kind: "tar.gz",
            source,
        }
    };
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let entry_name = entry.path_bytes().into_owned();
        let refuse = |what| ArchiveError::NotAFile {
            archive: name.to_owned(),
            entry: shown(&entry_name),
            what,
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            if let Some(path) = entry_path(name, &entry_name)? {
                bundle.add_folder(&path)?;
            }
            continue;
        }
        // Settings for all entries that follow, such as `git archive` writes; none of them matters here.
        if kind.is_pax_global_extensions() {
            continue;
        }
        if let Some(what) = no_file(kind) {
            return Err(refuse(what));
        }
        let path = entry_path(name, &entry_name)?.ok_or_else(|| refuse("a file without a name"))?;
        bundle.add_file(path, &mut entry)?;
    }
    Ok(())
}

/// What an entry is, if it is no regular file.
fn no_file(kind: tar::EntryType) -> Option<&'static str> {
    if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_hard_link() {
        Some("a hard link")
    } else if kind.is_character_special() || kind.is_block_special() {
        Some("a device")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else {
        Some("of an unknown kind")
    }
}

/// Unpacks a zip archive called `name`.
pub(crate) fn unpack_zip(name: &str, mut file: File, bundle: &mut BundleWriter) -> Result<(), ArchiveError> {
    let limits = bundle.limits();
    let broken = |source: io::Error| ArchiveError::Broken {
        archive: name.to_owned(),
        kind: "zip",
        source,
    };
    if stated_entries(&mut file)
        .map_err(broken)?
        .is_some_and(|entries| entries > limits.entries)
    {
        return Err(BundleError::TooMany(limits.entries).into());
    }
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| broken(error.into()))?;
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|error| broken(error.into()))?;
        let entry_name = entry.name_raw().to_vec();
        let refuse = |what| ArchiveError::NotAFile {
            archive: name.to_owned(),
            entry: shown(&entry_name),
            what,
        };
        if entry.encrypted() {
            return Err(ArchiveError::Encrypted {
                archive: name.to_owned(),
                entry: shown(&entry_name),
            });
        }
        // The upper bits of a mode say what kind of file it is: S_IFREG 0o10, S_IFDIR 0o04, 0 where unsaid.
        let kind = entry.unix_mode().map_or(0, |mode| (mode >> 12) & 0o17);
        let is_folder = entry.is_dir();
        drop(entry);
        if !matches!(kind, 0 | 0o10 | 0o04) {
            return Err(refuse(if kind == 0o12 {
                "a symbolic link"
            } else {
                "a device or a FIFO"
            }));
        }
        match (entry_path(name, &entry_name)?, is_folder) {
            (Some(path), true) => bundle.add_folder(&path)?,
            (Some(path), false) => {
                let mut content = archive.by_index(index).map_err(|error| broken(error.into()))?;
                bundle.add_file(path, &mut content)?;
            }
            (None, true) => {}
            (None, false) => return Err(refuse("a file without a name")),
        }
    }
    Ok(())
}

/// The number of entries that a zip file's end record states (APPNOTE 4.3.16), looked at before a library reads the
/// whole directory into memory. `None` if there is no such record; the library then says what is wrong.
fn stated_entries(file: &mut File) -> io::Result<Option<usize>> {
    const RECORD: usize = 22;
    const SIGNATURE: [u8; 4] = *b"PK\x05\x06";
    let length = file.seek(SeekFrom::End(0))?;
    let tail = length.min(64 * 1024 + RECORD as u64);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes)?;
    file.rewind()?;
    // 0xffff stands for "see the zip64 record", which no archive within the limits needs: it counts as 65,535.
    let count = |record: &[u8]| usize::from(u16::from_le_bytes([record[10], record[11]]));
    Ok(bytes
        .windows(RECORD)
        .filter(|record| record.starts_with(&SIGNATURE))
        .map(count)
        .max())
}

#[cfg(test)]
mod tests;

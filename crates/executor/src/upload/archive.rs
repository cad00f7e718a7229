//! Unpacks tar.gz and zip archives into a bundle.
//!
//! Only regular files and folders come out; anything else (links, devices, FIFOs) refuses the whole archive by name,
//! so there is never a link that a later entry could be written through.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use sandrun_types::{BundlePath, BundlePathError};
use thiserror::Error;

use super::bundle::{BundleError, BundleWriter};

/// Room for the headers of a tar archive, for each entry: its own, a long name, extended attributes, padding.
const HEADER_BYTES: u64 = 8192;

/// Room for what stands before one entry's content: a long name and extended attributes are read whole into memory.
const ENTRY_HEADER_BYTES: u64 = 64 * 1024;

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
    #[error(
        "{0:?} holds an entry whose name or attributes have more than {ENTRY_HEADER_BYTES} bytes; pack it again"
    )]
    LongHeader(String),
    #[error("{archive:?} holds {entry:?}, which is encrypted; send it plain")]
    Encrypted { archive: String, entry: String },
    #[error(
        "{archive:?} states {stated} entries and holds {found} names; one is there twice: send each file once"
    )]
    Twice {
        archive: String,
        stated: usize,
        found: usize,
    },
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Fails with `FileTooLarge` once more bytes were read than allowed, so that no decompressor can be made to work on.
struct Bounded<'a, R> {
    inner: R,
    left: u64,
    /// How many more of them before whoever reads raises it: what is read into memory is bounded by this.
    in_memory: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = |allowed: u64| {
            let too_many = || io::Error::from(io::ErrorKind::FileTooLarge);
            allowed.checked_sub(read as u64).ok_or_else(too_many)
        };
        self.left = left(self.left)?;
        self.in_memory.set(left(self.in_memory.get())?);
        Ok(read)
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
    let in_memory = Cell::new(ENTRY_HEADER_BYTES);
    let mut archive = tar::Archive::new(Bounded {
        inner: decoder,
        left: limits.bytes.saturating_add(headers),
        in_memory: &in_memory,
    });
    let broken = |source: io::Error| {
        if source.kind() == io::ErrorKind::FileTooLarge && in_memory.get() <= ENTRY_HEADER_BYTES {
            return ArchiveError::LongHeader(name.to_owned());
        }
        if source.kind() == io::ErrorKind::FileTooLarge {
            return BundleError::TooLarge(limits.bytes).into();
        }
        ArchiveError::Broken {
            archive: name.to_owned(),
            kind: "tar.gz",
            source,
        }
    };
    let mut entries = archive.entries().map_err(broken)?;
    loop {
        in_memory.set(ENTRY_HEADER_BYTES);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(broken)?;
        in_memory.set(u64::MAX);
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
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            continue;
        }
        // Settings for all entries that follow, such as `git archive` writes; none of them matters here.
        if kind.is_pax_global_extensions() {
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
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
    let stated = stated_entries(&mut file).map_err(broken)?.unwrap_or(0);
    if stated > limits.entries {
        return Err(BundleError::TooMany(limits.entries).into());
    }
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| broken(error.into()))?;
    // The library keeps one entry of each name, whichever: nobody could say which one runs.
    if stated > archive.len() && stated != usize::from(u16::MAX) {
        return Err(ArchiveError::Twice {
            archive: name.to_owned(),
            stated,
            found: archive.len(),
        });
    }
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

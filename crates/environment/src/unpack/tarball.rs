//! npm packages: gzipped tar archives, everything below one folder of any name.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::GzDecoder;
use sandrun_types::BundlePath;
use tar::{Archive, Entry};

use super::UnpackError;
use crate::image::{IMAGE_LIMITS, ImageError, ImageWriter};

/// Bytes that an archive may have beside its files' content: headers.
const HEADERS: u64 = 64 << 20;
/// Bytes from the end of one file to the content of the next: its headers, among them those with long names and
/// attributes, which are kept in memory.
const HEADERS_OF_ONE: u64 = 1 << 20;
/// How sparse files begin their attributes: their content is not what the archive holds.
const SPARSE: &str = "GNU.sparse.";

/// An archive's bytes, no more at once than it may have now.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            let text = format!("one file has headers of more than {HEADERS_OF_ONE} bytes");
            return Err(io::Error::other(text));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}

/// Unpacks a package to the folder `place` of the image.
pub(crate) fn unpack_tarball(
    package: &Path,
    place: &str,
    image: &mut ImageWriter,
) -> Result<(), UnpackError> {
    let file = File::open(package).map_err(|source| UnpackError::Read {
        path: package.to_owned(),
        source,
    })?;
    let left = Rc::new(Cell::new(HEADERS_OF_ONE));
    // also what is skipped takes time
    let interrupt = image.interrupt().clone();
    let plain = Bounded {
        inner: GzDecoder::new(BufReader::new(interrupt.reading(file))).take(IMAGE_LIMITS.max_bytes + HEADERS),
        left: Rc::clone(&left),
    };
    let mut archive = Archive::new(plain);
    let mut entries = archive.entries().map_err(broken)?;
    let mut count = 0;
    loop {
        left.set(HEADERS_OF_ONE);
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        let mut entry = entry.map_err(broken)?;
        count += 1;
        if count > IMAGE_LIMITS.max_entries {
            return Err(too_many());
        }
        let inner = name(&mut entry)?;
        // what is behind the headers is counted where it is written
        left.set(u64::MAX);
        match inner {
            Some(inner) => {
                let mode = entry.header().mode().unwrap_or(0);
                image.add_sized(
                    &format!("{place}/{inner}"),
                    mode & 0o111 != 0,
                    entry.size(),
                    &mut entry,
                )?;
            }
            None => {
                io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            }
        }
    }
}

/// The name of a file below the package's folder; `None` for what is no part of the image.
fn name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Option<String>, UnpackError> {
    let bytes = entry.path_bytes().into_owned();
    let name = String::from_utf8(bytes).map_err(|_| broken(io::Error::other("a name in it is no UTF-8")))?;
    let kind = entry.header().entry_type();
    if kind.is_dir() || kind.is_pax_global_extensions() {
        return Ok(None);
    }
    if !kind.is_file() && !kind.is_contiguous() || is_sparse(entry)? {
        return Err(ImageError::Special(name).into());
    }
    let name = name.trim_start_matches("./");
    // absolute names and those that leave, the package's own folder included
    BundlePath::parse(name).map_err(ImageError::from)?;
    Ok(name.split_once('/').map(|(_, inner)| inner.to_owned()))
}

fn is_sparse<R: Read>(entry: &mut Entry<'_, R>) -> Result<bool, UnpackError> {
    let Some(attributes) = entry.pax_extensions().map_err(broken)? else {
        return Ok(false);
    };
    for attribute in attributes {
        let attribute = attribute.map_err(broken)?;
        if attribute.key().is_ok_and(|key| key.starts_with(SPARSE)) {
            return Ok(true);
        }
    }
    Ok(false)
}

const fn too_many() -> UnpackError {
    UnpackError::Image(ImageError::Limit {
        what: "files and directories",
        limit: IMAGE_LIMITS.max_entries,
    })
}

const fn broken(source: io::Error) -> UnpackError {
    UnpackError::Broken {
        kind: "npm package",
        source,
    }
}

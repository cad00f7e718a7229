//! npm packages: gzipped tar archives, everything below one folder of any name.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use flate2::read::GzDecoder;
use tar::Archive;

use super::UnpackError;
use crate::image::{IMAGE_LIMITS, ImageError, ImageWriter};

/// Bytes that an archive may have beside its files' content: headers.
const HEADERS: u64 = 64 << 20;

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
    let plain = GzDecoder::new(BufReader::new(file)).take(IMAGE_LIMITS.max_bytes + HEADERS);
    let mut archive = Archive::new(plain);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            return Err(ImageError::Special(name).into());
        }
        let Some((_, inner)) = name.trim_start_matches("./").split_once('/') else {
            continue;
        };
        let mode = entry.header().mode().unwrap_or(0);
        image.add(&format!("{place}/{inner}"), mode & 0o111 != 0, &mut entry)?;
    }
    Ok(())
}

const fn broken(source: io::Error) -> UnpackError {
    UnpackError::Broken {
        kind: "npm package",
        source,
    }
}

//! Wheels: zip archives whose entries go to a site directory, but for those of `NAME.data`.

use std::fs::File;
use std::io;
use std::path::Path;

use sandrun_types::BundlePath;
use zip::ZipArchive;
use zip::result::ZipError;

use super::UnpackError;
use crate::image::{IMAGE_LIMITS, ImageError, ImageWriter, is_bytecode};

/// File types in a Unix mode.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// Unpacks a wheel: modules to `site`, data files to the image's root. Scripts and headers are left out: what a job runs
/// is `python3 -m NAME`.
pub(crate) fn unpack_wheel(wheel: &Path, site: &str, image: &mut ImageWriter) -> Result<(), UnpackError> {
    let file = File::open(wheel).map_err(|source| UnpackError::Read {
        path: wheel.to_owned(),
        source,
    })?;
    let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(broken)?;
    if archive.len() as u64 > IMAGE_LIMITS.max_entries {
        let limit = IMAGE_LIMITS.max_entries;
        return Err(ImageError::Limit {
            what: "files and directories",
            limit,
        }
        .into());
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let name = entry.name().to_owned();
        let mode = entry.unix_mode().unwrap_or(0);
        if mode & TYPE != 0 && mode & TYPE != REGULAR && !entry.is_dir() {
            return Err(ImageError::Special(name).into());
        }
        // directories come with their files
        if entry.is_dir() || is_bytecode(&name) {
            continue;
        }
        // absolute names and those that leave, before anything is put in front of them
        BundlePath::parse(&name).map_err(ImageError::from)?;
        let Some(place) = place(&name, site) else { continue };
        let size = entry.size();
        image.add_sized(&place, mode & 0o111 != 0, size, &mut entry)?;
    }
    Ok(())
}

/// Where an entry goes, if anywhere.
fn place(name: &str, site: &str) -> Option<String> {
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    if !first.ends_with(".data") {
        return Some(format!("{site}/{name}"));
    }
    match rest.split_once('/') {
        Some(("purelib" | "platlib", path)) => Some(format!("{site}/{path}")),
        Some(("data", path)) => Some(path.to_owned()),
        Some(_) | None => None,
    }
}

fn broken(error: ZipError) -> UnpackError {
    UnpackError::Broken {
        kind: "wheel",
        source: error.into(),
    }
}

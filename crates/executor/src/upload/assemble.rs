//! Turns what was received into a job's inputs: bundle, manifest, entry and the commitment to them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _};
use std::path::Path;

use sandrun_types::{BundlePath, Entry, InputFile, Manifest, ManifestError, Sha256Hex, job_hash};
use thiserror::Error;

use super::archive::{ArchiveError, unpack_tar_gz, unpack_zip};
use super::bundle::{BundleError, BundleLimits, BundleWriter};
use super::quirk::{self, QuirkError};
use super::receive::{Content, Part, Received};

/// The name of a manifest among the files.
const MANIFEST_FILE: &str = "job.json";

/// A job's inputs, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assembled {
    pub(crate) manifest: Manifest,
    pub(crate) entry: Entry,
    pub(crate) files: BTreeMap<BundlePath, InputFile>,
    pub(crate) job_hash: Sha256Hex,
}

/// The upload is no job.
#[derive(Debug, Error)]
pub(crate) enum AssembleError {
    #[error("there is no file; send at least one part named `files` with a file name")]
    NoFiles,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Quirk(#[from] QuirkError),
    #[error("cannot use the spooled upload")]
    Spool(#[source] io::Error),
}

impl AssembleError {
    fn bundle(&self) -> Option<&BundleError> {
        match self {
            Self::Bundle(error) | Self::Archive(ArchiveError::Bundle(error)) => Some(error),
            Self::NoFiles | Self::Manifest(_) | Self::Archive(_) | Self::Quirk(_) | Self::Spool(_) => None,
        }
    }

    /// More than the limits allow.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(
            self.bundle(),
            Some(BundleError::TooLarge(_) | BundleError::TooMany(_))
        )
    }

    /// No fault of the client's.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(self.bundle(), Some(BundleError::Store { .. }))
            || matches!(self, Self::Spool(_) | Self::Quirk(QuirkError::Read(_)))
    }
}

/// Unpacks what was received into the new folder `root` and checks it against its manifest. On an error the caller
/// removes the whole job folder.
pub(crate) fn assemble(
    received: Received,
    root: &Path,
    limits: BundleLimits,
) -> Result<Assembled, AssembleError> {
    if received.parts.is_empty() {
        return Err(AssembleError::NoFiles);
    }
    // Before anything is unpacked: a bad manifest is the cheapest error.
    let given = received.manifest.as_deref().map(Manifest::parse).transpose()?;
    fs::create_dir(root).map_err(AssembleError::Spool)?;
    let mut bundle = BundleWriter::new(root, limits);
    for part in &received.parts {
        add_part(part, &mut bundle)?;
    }
    let files = bundle.into_files();
    let manifest = match given {
        Some(manifest) => manifest,
        None => manifest_among(root, &files)?.unwrap_or_default(),
    };
    let entry = manifest.entry(files.keys())?;
    let job_hash = job_hash(manifest.digest(), &files);
    Ok(Assembled {
        manifest,
        entry,
        files,
        job_hash,
    })
}

fn add_part(part: &Part, bundle: &mut BundleWriter) -> Result<(), AssembleError> {
    match &part.content {
        Content::Memory(bytes) => add_plain(part, &mut bytes.as_slice(), bundle),
        Content::Spooled(path) => {
            let file = File::open(path).map_err(AssembleError::Spool)?;
            add_file(part, file, bundle)?;
            fs::remove_file(path).map_err(AssembleError::Spool)
        }
    }
}

fn add_plain(part: &Part, content: &mut dyn Read, bundle: &mut BundleWriter) -> Result<(), AssembleError> {
    let path = BundlePath::parse(&part.name).map_err(BundleError::Name)?;
    Ok(bundle.add_file(path, content)?)
}

fn add_file(part: &Part, mut file: File, bundle: &mut BundleWriter) -> Result<(), AssembleError> {
    let name = part.name.to_ascii_lowercase();
    let is_tar_gz = name.ends_with(".tar.gz") || name.ends_with(".tgz");
    if is_tar_gz && begins_with(&mut file, quirk::MAGIC).map_err(AssembleError::Spool)? {
        let total = file.metadata().map_err(AssembleError::Spool)?.len();
        let mut reader = BufReader::new(file);
        let path = quirk::read_header(&mut reader, total)?;
        bundle.add_file(path, &mut reader)?;
    } else if is_tar_gz {
        unpack_tar_gz(&part.name, file, bundle)?;
    } else if name.ends_with(".zip") {
        unpack_zip(&part.name, file, bundle)?;
    } else {
        add_plain(part, &mut file, bundle)?;
    }
    Ok(())
}

fn begins_with(file: &mut File, magic: &[u8]) -> io::Result<bool> {
    let mut start = Vec::new();
    file.by_ref().take(magic.len() as u64).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start == magic)
}

fn manifest_among(
    root: &Path,
    files: &BTreeMap<BundlePath, InputFile>,
) -> Result<Option<Manifest>, AssembleError> {
    let Some(size) = files
        .iter()
        .find(|(path, _)| path.as_str() == MANIFEST_FILE)
        .map(|(_, file)| file.size_bytes)
    else {
        return Ok(None);
    };
    if size > Manifest::MAX_BYTES as u64 {
        return Err(ManifestError::TooLong(usize::try_from(size).unwrap_or(usize::MAX)).into());
    }
    let bytes = fs::read(root.join(MANIFEST_FILE)).map_err(AssembleError::Spool)?;
    Ok(Some(Manifest::parse(&bytes)?))
}

#[cfg(test)]
mod tests;

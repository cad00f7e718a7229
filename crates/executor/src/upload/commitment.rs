//! The commitment to an upload, computed by whoever sends it: what an executor's receipt has to say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sandrun_types::{Manifest, Sha256Hex};
use thiserror::Error;

use super::assemble::{AssembleError, assemble};
use super::bundle::BundleLimits;
use super::receive::{Content, Part, Received};

/// Most bytes of a bundle that is looked into; the executor's own limit is lower.
const MAX_BYTES: u64 = 1 << 30;
/// Most files and folders of one.
const MAX_ENTRIES: usize = 100_000;

/// A file of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedFile {
    /// The name that it is sent under.
    pub name: String,
    /// Where it lies; it is removed.
    pub at: PathBuf,
}

/// What an executor makes of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// What its receipt states: [`sandrun_types::job_hash`].
    pub job_hash: Sha256Hex,
    /// The manifest that it goes by: the one that is sent, else the one among the files, else the defaults.
    pub manifest: Manifest,
}

/// An upload that no executor would take.
#[derive(Debug, Error)]
pub enum CommitmentError {
    /// Files or manifest are wrong.
    #[error("{0}")]
    Bad(String),
    /// This machine's disk.
    #[error("cannot unpack an upload in {}", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What an executor makes of these files and this manifest (its text, where one is
/// sent): archives are unpacked into the new folder `scratch`, which is removed. Blocks.
///
/// # Errors
/// [`CommitmentError`].
pub fn commitment(
    files: Vec<UploadedFile>,
    manifest: Option<Vec<u8>>,
    scratch: &Path,
) -> Result<Commitment, CommitmentError> {
    let parts = files
        .into_iter()
        .map(|file| Part {
            name: file.name,
            content: Content::Spooled(file.at),
        })
        .collect();
    let limits = BundleLimits {
        bytes: MAX_BYTES,
        entries: MAX_ENTRIES,
    };
    let assembled = assemble(Received { parts, manifest }, scratch, limits);
    let removed = fs::remove_dir_all(scratch);
    let disk = |source| CommitmentError::Disk {
        path: scratch.to_owned(),
        source,
    };
    match assembled {
        Ok(assembled) => {
            let commitment = Commitment {
                job_hash: assembled.job_hash,
                manifest: assembled.manifest,
            };
            removed.map(|()| commitment).map_err(disk)
        }
        Err(AssembleError::Spool(source)) => Err(disk(source)),
        Err(error) if error.is_internal() => Err(disk(io::Error::other(error))),
        Err(error) => Err(CommitmentError::Bad(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_and_their_archive_have_one_commitment_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        let text = b"print(1)";
        let file = |name: &str, bytes: &[u8]| {
            let at = folder.path().join("spool");
            fs::write(&at, bytes).unwrap();
            UploadedFile {
                name: name.to_owned(),
                at,
            }
        };
        let plain = commitment(vec![file("main.py", text)], None, &scratch).unwrap();
        let own = [file("main.py", text), {
            let at = folder.path().join("spool-2");
            fs::write(&at, br#"{"class":"det","environment":"ml-basic"}"#).unwrap();
            UploadedFile {
                name: "job.json".to_owned(),
                at,
            }
        }];
        let own = commitment(own.into(), None, &scratch).unwrap();
        assert_eq!(own.manifest.environment.as_deref(), Some("ml-basic"));
        assert_ne!(own.job_hash, plain.job_hash);
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
            Vec::new(),
            flate2::Compression::fast(),
        ));
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "main.py", &text[..]).unwrap();
        let archive = archive.into_inner().unwrap().finish().unwrap();
        let packed = commitment(vec![file("all.tar.gz", &archive)], None, &scratch).unwrap();
        assert_eq!(plain, packed);
        let broken = commitment(vec![file("all.tar.gz", b"none")], None, &scratch);
        assert!(matches!(broken, Err(CommitmentError::Bad(_))), "{broken:?}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "only the broken archive"
        );
    }
}

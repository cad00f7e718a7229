//! Reads a job's input files as they enter its trace: names, sizes, hashes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use sandrun_types::{BundlePath, InputFile};

use crate::RunError;
use crate::hashing::hash_file;

const PAGE: u64 = 4096;

/// The files of a workspace.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Every file.
    pub(crate) files: BTreeMap<BundlePath, InputFile>,
    /// Their bytes, each rounded up to whole pages.
    pub(crate) bytes: u64,
    /// Files and directories.
    pub(crate) entries: u64,
}

impl Inputs {
    /// Reads a workspace; links and special files are refused, and so are names that are no [`BundlePath`].
    pub(crate) fn read(workspace: &Path) -> Result<Self, RunError> {
        let mut inputs = Self::default();
        inputs.add(workspace, "")?;
        Ok(inputs)
    }

    fn add(&mut self, dir: &Path, prefix: &str) -> Result<(), RunError> {
        let failed = |source: io::Error| RunError::Files {
            what: format!("read {}", dir.display()),
            source,
        };
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = format!("{prefix}{}", name.to_string_lossy());
            let path = BundlePath::parse(&name).map_err(|error| RunError::BadRequest(error.to_string()))?;
            let kind = entry.file_type().map_err(failed)?;
            self.entries += 1;
            if kind.is_dir() {
                self.add(&entry.path(), &format!("{name}/"))?;
            } else if kind.is_file() {
                let mut file = File::open(entry.path()).map_err(failed)?;
                let (size_bytes, sha256) = hash_file(&mut file, &mut io::sink(), u64::MAX).map_err(failed)?;
                self.bytes = self
                    .bytes
                    .saturating_add(size_bytes.div_ceil(PAGE).saturating_mul(PAGE));
                self.files.insert(path, InputFile { sha256, size_bytes });
            } else {
                return Err(RunError::BadRequest(format!(
                    "{name} is neither a regular file nor a directory"
                )));
            }
        }
        Ok(())
    }
}

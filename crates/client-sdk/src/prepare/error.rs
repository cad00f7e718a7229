//! What can be wrong with a job's inputs.

use std::path::PathBuf;

use sandrun_content::PackError;
use sandrun_environment::UnknownEnvironment;
use sandrun_types::{BundlePath, BundlePathError, ManifestError};

use super::MAX_BUNDLE_BYTES;

/// What is wrong with a job's inputs.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Code or manifest can't be read.
    #[error("{what} {} can't be read: {source}. Check the path", path.display())]
    Unreadable {
        /// `the code` or `the manifest`.
        what: &'static str,
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is wrong.
    #[error("the manifest {}: {source}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A single file of code and a manifest that names another entrypoint.
    #[error("{}: {source}", path.display())]
    Code {
        /// The code.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// A name in the code that no bundle may hold.
    #[error("{}: {source}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BundlePathError,
    },
    /// Something else than a file where one has to be.
    #[error("{what} {} is no regular file: give a file", path.display())]
    NoFile {
        /// What it should be.
        what: &'static str,
        /// Which path.
        path: PathBuf,
    },
    /// A file that is larger than it may be.
    #[error("{what} {} has more than {most} bytes: is it the right file?", path.display())]
    Large {
        /// What it should be.
        what: &'static str,
        /// Which path.
        path: PathBuf,
        /// Bytes that it may have.
        most: u64,
    },
    /// A single file of code, and a manifest that starts another.
    #[error(
        "{} is a single file, and the manifest {} starts {entrypoint}: leave its `entrypoint` out or make it {file}, or \
         give --code the directory that holds {entrypoint}",
        code.display(), manifest.display()
    )]
    Entrypoint {
        /// The code.
        code: PathBuf,
        /// Its name in the bundle.
        file: BundlePath,
        /// The manifest.
        manifest: PathBuf,
        /// What the manifest names.
        entrypoint: BundlePath,
    },
    /// A line of the list of what is left out.
    #[error("{}: `{line}` is no pattern ({reason}): correct it", path.display())]
    Ignore {
        /// The list.
        path: PathBuf,
        /// The line.
        line: String,
        /// What is wrong.
        reason: String,
    },
    /// More than any agent fetches.
    #[error(
        "the files of {} have {bytes} bytes, and nodes take bundles of at most {MAX_BUNDLE_BYTES} (100 MiB): leave some out \
         (.sandrunignore names them); the biggest are {}",
        code.display(), biggest.join(", ")
    )]
    TooBig {
        /// The code.
        code: PathBuf,
        /// Bytes in all.
        bytes: u64,
        /// The biggest files, with their sizes.
        biggest: Vec<String>,
    },
    /// Packages to install.
    #[error(
        "the manifest's `requirements`: {file} asks for {first:?}, and nothing is installed, as jobs have no network; remove \
         the field, make an environment with `sandrun-pool env lock {file}` and `env build`, and name that as `environment`"
    )]
    Packages {
        /// The file that names them.
        file: BundlePath,
        /// The first of them.
        first: String,
    },
    /// The manifest's environment.
    #[error("the manifest's `environment`: {0}")]
    Environment(#[from] UnknownEnvironment),
    /// The bundle can't be packed.
    #[error("packing the code failed: {0}")]
    Pack(#[from] PackError),
}

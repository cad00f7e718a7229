//! Fetching a result and checking it against the chain. Owns the verification: digest, content id and output root have
//! to fit together, or nothing is handed out. Never believes a store or a node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandrun_content::{
    ContentError, ContentId, ContentStore, Limits, OUTPUTS_NAME, STDERR_NAME, STDOUT_NAME,
};
use sandrun_types::{
    BundlePath, EscrowRef, ExitStatus, InputFile, JobId, OutputRoot, ResultDigest, ResultParts, Sha256Hex,
    output_root,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// One file of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResultFile {
    /// Its path in the result: `stdout`, `stderr` or `outputs/…`.
    pub path: String,
    /// Its length.
    pub size: u64,
    /// SHA-256 of its bytes, as computed here.
    pub sha256: Sha256Hex,
    /// That it is part of the output root that the nodes agreed on. A file that is not is never reported.
    pub verified: bool,
}

/// A result that fits what stands on chain.
#[derive(Debug, Clone, Serialize)]
pub struct VerifiedResult {
    /// What the nodes agreed on.
    pub digest: ResultDigest,
    /// How the program ended.
    pub exit: ExitStatus,
    /// Where the files lie.
    pub directory: PathBuf,
    /// The files.
    pub files: Vec<ResultFile>,
}

/// Why a result is not handed out.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The parts on chain do not make the digest that won.
    #[error(
        "the published result of job {job} does not hash to the digest that won: the RPC's answer can't be right; ask another RPC"
    )]
    Digest {
        /// The job.
        job: JobId,
    },
    /// The result can't be had, or is not what its id says.
    #[error("the result {content} can't be fetched: {source}")]
    Fetch {
        /// Its content id.
        content: ContentId,
        /// Why.
        source: Box<ContentError>,
    },
    /// Files that do not make the output root.
    #[error(
        "the files of the result make the output root {found}, but the nodes agreed on {expected}: they are deleted"
    )]
    OutputRoot {
        /// What was agreed on.
        expected: OutputRoot,
        /// What the files make.
        found: OutputRoot,
    },
    /// A file with a name that no result may hold.
    #[error("the result holds `{0}`, which no result may hold")]
    Layout(String),
    /// The directory can't be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Fetches the result of `job` into `into` (which must not exist or be empty) and checks it: the parts hash to the digest
/// that won, every block to its content id, the files to the output root.
///
/// # Errors
/// [`ResultError`]; nothing is left in `into` then.
pub async fn fetch_result(
    store: &dyn ContentStore,
    at: EscrowRef,
    job: JobId,
    digest: ResultDigest,
    parts: &ResultParts,
    into: &Path,
) -> Result<VerifiedResult, ResultError> {
    if parts.digest(at, job) != digest {
        return Err(ResultError::Digest { job });
    }
    let content = ContentId::from_digest(parts.content);
    if let Some(parent) = into.parent() {
        std::fs::create_dir_all(parent).map_err(|source| io(parent, source))?;
    }
    store
        .fetch(content, into, &Limits::default())
        .await
        .map_err(|source| ResultError::Fetch {
            content,
            source: Box::new(source),
        })?;
    match check(into, parts.output_root) {
        Ok(files) => Ok(VerifiedResult {
            digest,
            exit: parts.exit,
            directory: into.to_owned(),
            files,
        }),
        Err(error) => {
            // files that were not agreed on must not be taken for a result
            let _ = std::fs::remove_dir_all(into);
            Err(error)
        }
    }
}

/// Reads every file of a fetched result and compares the output root.
fn check(directory: &Path, expected: OutputRoot) -> Result<Vec<ResultFile>, ResultError> {
    let mut files = Vec::new();
    let mut streams: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for name in [STDOUT_NAME, STDERR_NAME] {
        let path = directory.join(name);
        let bytes = std::fs::read(&path).map_err(|source| io(&path, source))?;
        files.push(ResultFile {
            path: name.to_owned(),
            size: bytes.len() as u64,
            sha256: Sha256Hex(Sha256::digest(&bytes).into()),
            verified: true,
        });
        streams.insert(name, bytes);
    }
    let outputs = output_files(directory)?;
    for (path, file) in &outputs {
        files.push(ResultFile {
            path: format!("{OUTPUTS_NAME}/{path}"),
            size: file.size_bytes,
            sha256: file.sha256,
            verified: true,
        });
    }
    let stream = |name| streams.get(name).map_or(&[][..], Vec::as_slice);
    let found = output_root(stream(STDOUT_NAME), stream(STDERR_NAME), &outputs);
    if found == expected {
        Ok(files)
    } else {
        Err(ResultError::OutputRoot { expected, found })
    }
}

/// The output files of a result that lies in `directory`, as computed here.
///
/// # Errors
/// [`ResultError::Io`] and [`ResultError::Layout`]; a link or a special file is no output.
pub fn output_files(directory: &Path) -> Result<BTreeMap<BundlePath, InputFile>, ResultError> {
    let mut files = BTreeMap::new();
    collect(&directory.join(OUTPUTS_NAME), "", &mut files)?;
    Ok(files)
}

fn collect(
    directory: &Path,
    below: &str,
    files: &mut BTreeMap<BundlePath, InputFile>,
) -> Result<(), ResultError> {
    let items = match std::fs::read_dir(directory) {
        Ok(items) => items,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io(directory, source)),
    };
    for item in items {
        let item = item.map_err(|source| io(directory, source))?;
        let name = item
            .file_name()
            .into_string()
            .map_err(|name| ResultError::Layout(name.to_string_lossy().into()))?;
        let relative = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let kind = item.file_type().map_err(|source| io(&item.path(), source))?;
        if kind.is_dir() {
            collect(&item.path(), &relative, files)?;
        } else if !kind.is_file() {
            return Err(ResultError::Layout(relative));
        } else {
            let path = BundlePath::parse(&relative).map_err(|_| ResultError::Layout(relative.clone()))?;
            files.insert(path, hash(&item.path())?);
        }
    }
    Ok(())
}

fn hash(path: &Path) -> Result<InputFile, ResultError> {
    let mut file = std::fs::File::open(path).map_err(|source| io(path, source))?;
    let mut hasher = Sha256::new();
    let size_bytes = std::io::copy(&mut file, &mut hasher).map_err(|source| io(path, source))?;
    Ok(InputFile {
        sha256: Sha256Hex(hasher.finalize().into()),
        size_bytes,
    })
}

fn io(path: &Path, source: std::io::Error) -> ResultError {
    ResultError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_do_not_make_the_root_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("stdout"), "1\n").unwrap();
        std::fs::write(directory.path().join("stderr"), "").unwrap();
        std::fs::create_dir_all(directory.path().join("outputs/a")).unwrap();
        std::fs::write(directory.path().join("outputs/a/b.txt"), "x").unwrap();
        let outputs = output_files(directory.path()).unwrap();
        let root = output_root(b"1\n", b"", &outputs);
        let files = check(directory.path(), root).unwrap();
        assert_eq!(
            files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
            ["stdout", "stderr", "outputs/a/b.txt"]
        );
        std::fs::write(directory.path().join("outputs/a/b.txt"), "y").unwrap();
        assert!(matches!(
            check(directory.path(), root),
            Err(ResultError::OutputRoot { .. })
        ));
        std::os::unix::fs::symlink("b.txt", directory.path().join("outputs/a/link")).unwrap();
        let refused = output_files(directory.path()).unwrap_err();
        assert!(
            matches!(&refused, ResultError::Layout(path) if path == "a/link"),
            "{refused}"
        );
    }
}

//! Fetching what a job left. Owns the check: every file's SHA-256 is what the service said, or the file is deleted.

use std::path::Path;

use reqwest::Method;
use sandrun_types::{BundlePath, Sha256Hex};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::{Job, OutputEntry, PoolClient, PoolClientError, Printed};
use crate::ResultFile;

/// Names in a result's folder, as a market's results have them.
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
const OUTPUTS: &str = "outputs";

impl PoolClient {
    /// Writes a job's result into `directory`: `stdout`, `stderr`, and its files below `outputs/`.
    ///
    /// # Errors
    /// [`PoolClientError::Mismatch`] for a file that is not what the service said of it; it is deleted.
    pub async fn fetch_result(
        &self,
        job: &Job,
        printed: &Printed,
        directory: &Path,
    ) -> Result<Vec<ResultFile>, PoolClientError> {
        let outputs: Vec<(BundlePath, &OutputEntry)> = job
            .outputs
            .iter()
            .map(|it| BundlePath::parse(&it.path).map(|path| (path, it)))
            .collect::<Result<_, _>>()
            .map_err(|error| self.http.nonsense(&format!("an output of the job: {error}")))?;
        let below = directory.join(OUTPUTS);
        std::fs::create_dir_all(&below).map_err(|source| local(&below, source))?;
        let mut files = Vec::new();
        for (name, bytes) in [(STDOUT, printed.stdout_bytes()), (STDERR, printed.stderr_bytes())] {
            let path = directory.join(name);
            std::fs::write(&path, &bytes).map_err(|source| local(&path, source))?;
            files.push(ResultFile {
                path: name.to_owned(),
                size: bytes.len() as u64,
                sha256: Sha256Hex::of(&bytes),
                // it is the service's word
                verified: false,
            });
        }
        for (path, entry) in outputs {
            self.fetch(job, &path, entry, &below.join(path.as_str())).await?;
            files.push(ResultFile {
                path: format!("{OUTPUTS}/{path}"),
                size: entry.size,
                sha256: entry.sha256,
                verified: true,
            });
        }
        Ok(files)
    }

    /// Fetches one file.
    async fn fetch(
        &self,
        job: &Job,
        path: &BundlePath,
        entry: &OutputEntry,
        into: &Path,
    ) -> Result<(), PoolClientError> {
        if let Some(folder) = into.parent() {
            std::fs::create_dir_all(folder).map_err(|source| local(folder, source))?;
        }
        let written = self.write(job, path, entry, into).await;
        if written.is_err() {
            // half a file must not be taken for a result
            let _ = tokio::fs::remove_file(into).await;
        }
        written
    }

    async fn write(
        &self,
        job: &Job,
        path: &BundlePath,
        entry: &OutputEntry,
        into: &Path,
    ) -> Result<(), PoolClientError> {
        let common: &[&str] = if self.service().is_common {
            &["v1", "jobs", job.id.as_str(), OUTPUTS]
        } else {
            &[OUTPUTS, job.id.as_str()]
        };
        let segments: Vec<&str> = common.iter().copied().chain(path.as_str().split('/')).collect();
        let mut response = self.http.send(self.http.request(Method::GET, &segments)).await?;
        let mut file = tokio::fs::File::create(into)
            .await
            .map_err(|source| local(into, source))?;
        let (mut hasher, mut size) = (Sha256::new(), 0_u64);
        while let Some(piece) = self.http.piece(&mut response).await? {
            size += piece.len() as u64;
            if size > entry.size {
                break;
            }
            hasher.update(&*piece);
            file.write_all(&piece)
                .await
                .map_err(|source| local(into, source))?;
        }
        file.flush().await.map_err(|source| local(into, source))?;
        let found = Sha256Hex(hasher.finalize().into());
        if size != entry.size || found != entry.sha256 {
            return Err(PoolClientError::Mismatch {
                path: entry.path.clone(),
                expected: entry.sha256,
                found,
            });
        }
        Ok(())
    }
}

fn local(path: &Path, source: std::io::Error) -> PoolClientError {
    PoolClientError::Local {
        path: path.to_owned(),
        source,
    }
}

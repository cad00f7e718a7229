//! Where a trace is: a file here, or a job at an executor. Owns the text form of both, and reading parts of either.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use sandrun_executor::{ClientError, ExecutorClient, RunId};
use sandrun_types::{FileRange, Receipt, ReceiptError};

use crate::exit::{Failure, Status, WithStatus as _, words};

/// A job at an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfJob {
    /// The executor's address.
    pub(crate) endpoint: String,
    /// The job.
    pub(crate) id: RunId,
}

impl OfJob {
    /// Reads `http://HOST/…/JOB`; `None` for what is no address at all.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, String>> {
        if !(text.starts_with("http://") || text.starts_with("https://")) {
            return None;
        }
        let parts = text.trim_end_matches('/').rsplit_once('/');
        let read = parts.and_then(|(before, id)| {
            let endpoint = ["/trace", "/receipt", "/status"]
                .iter()
                .find_map(|call| before.strip_suffix(call))
                .unwrap_or(before);
            let (endpoint, id) = (endpoint.to_owned(), id.parse().ok()?);
            Some(Self { endpoint, id })
        });
        Some(read.ok_or_else(|| {
            "give the executor's address and the job's id, as in http://127.0.0.1:8443/job-0123456789abcdef0123456789abcdef"
                .to_owned()
        }))
    }

    /// The receipt that its executor gives out, as bytes and as read; it has to be this job's: a signature holds for
    /// another one as well.
    pub(crate) async fn receipt(&self, client: &ExecutorClient) -> anyhow::Result<(Vec<u8>, Receipt)> {
        let bytes = client.receipt_bytes(&self.id.to_string()).await;
        let bytes = bytes.map_err(of_client)?;
        let receipt = receipt(&bytes).status(Status::BadInput)?;
        if receipt.job_id == self.id.to_string() {
            return Ok((bytes, receipt));
        }
        let text = format!(
            "the executor's receipt is of the job {}, not of {}",
            receipt.job_id, self.id
        );
        Err(Failure::new(Status::VerificationFailed, text))
    }

    /// A client of its executor.
    pub(crate) fn client(&self) -> anyhow::Result<ExecutorClient> {
        ExecutorClient::new(&self.endpoint).map_err(of_client)
    }
}

/// Reads a receipt; white space at its end, as an editor leaves it, is no part of it.
pub(crate) fn receipt(bytes: &[u8]) -> Result<Receipt, ReceiptError> {
    Receipt::parse(bytes.trim_ascii_end())
}

/// An executor's error for the user.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn of_client(error: ClientError) -> anyhow::Error {
    let status = match &error {
        ClientError::Endpoint { .. } | ClientError::LocalFile { .. } => Status::BadInput,
        ClientError::Refused { .. } | ClientError::Busy { .. } => Status::Refused,
        ClientError::TooLong { .. } | ClientError::BadReceipt { .. } | ClientError::Unproven { .. } => {
            Status::VerificationFailed
        }
        ClientError::Setup(_) => Status::Failure,
        ClientError::Unreachable { .. }
        | ClientError::Stalled { .. }
        | ClientError::Failed { .. }
        | ClientError::NotUnderstood { .. } => Status::Unreachable,
    };
    Failure::new(status, error.to_string())
}

/// Where a trace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A file.
    File(PathBuf),
    /// At an executor.
    Job(OfJob),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match OfJob::parse(text) {
            Some(job) => job.map(Self::Job),
            None => Ok(Self::File(text.into())),
        }
    }
}

/// A trace that parts can be read of.
#[derive(Debug)]
pub(super) enum Parts {
    /// A file.
    File(File, PathBuf),
    /// At an executor.
    Job(ExecutorClient, RunId),
}

impl Parts {
    /// Opens it: the trace and its file's length.
    pub(super) async fn open(place: &Place) -> anyhow::Result<(Self, u64)> {
        match place {
            Place::File(path) => {
                let file = open(path)?;
                let length = file.metadata().status(Status::BadInput)?.len();
                Ok((Self::File(file, path.clone()), length))
            }
            Place::Job(job) => {
                let client = job.client()?;
                let length = client
                    .trace_length(&job.id.to_string())
                    .await
                    .map_err(of_client)?;
                Ok((Self::Job(client, job.id), length))
            }
        }
    }

    /// Reads a part of it.
    pub(super) async fn read(&self, range: FileRange) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::File(file, path) => {
                let mut bytes = vec![0; usize::try_from(range.length)?];
                file.read_exact_at(&mut bytes, range.offset)
                    .with_context(|| format!("{} can't be read", path.display()))?;
                Ok(bytes)
            }
            Self::Job(client, id) => client
                .trace_range(&id.to_string(), range)
                .await
                .map_err(of_client),
        }
    }
}

/// Opens a file that the user has named. A pipe is never opened: it may wait for ever, and nothing can be looked up in it.
pub(super) fn open(path: &PathBuf) -> anyhow::Result<File> {
    let opened = std::fs::metadata(path).and_then(|found| {
        if !found.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        File::open(path)
    });
    opened.map_err(|error| {
        let text = format!("{} can't be opened: {}", path.display(), words(&error.into()));
        Failure::new(Status::BadInput, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "job-0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let words = open(&pipe).unwrap_err().to_string();
        assert!(words.contains("no regular file"), "{words}");
        assert!(open(&folder.path().to_owned()).is_err());
    }

    #[test]
    fn a_place_is_a_file_or_a_job() {
        assert_eq!("a/b.trace".parse(), Ok(Place::File("a/b.trace".into())));
        for text in [
            format!("http://x:1/{ID}"),
            format!("http://x:1/trace/{ID}"),
            format!("http://x:1/receipt/{ID}/"),
        ] {
            let Ok(Place::Job(job)) = text.parse() else {
                panic!("{text} is a job")
            };
            assert_eq!(
                (job.endpoint.as_str(), job.id.to_string()),
                ("http://x:1", ID.into())
            );
        }
        for text in ["http://x:1", "https://x/job-1", "http://"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}

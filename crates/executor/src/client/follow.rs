//! Following a run: output as it comes, the receipt at the end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandrun_types::{Receipt, WorkerId};

use super::{ANSWER, ClientError, ExecutorClient, decode_signature};
use crate::wire::{Followed, JobState};

/// What was printed since the last question, and the receipt once the run is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedRun {
    /// Where it stands.
    pub state: JobState,
    /// The offset to ask from next.
    pub next: u64,
    /// What went to standard output, as it is.
    pub stdout: Vec<u8>,
    /// What went to standard error, as it is.
    pub stderr: Vec<u8>,
    /// Once the run is over and all its output was handed out.
    pub receipt: Option<SignedReceipt>,
}

/// A run that was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunRun {
    /// The executor's name of it.
    pub id: String,
    /// What became of it so far, from its beginning; `None` from an executor of old.
    pub followed: Option<FollowedRun>,
    /// Whether all that there is was said, and the executor has deleted and forgotten it.
    pub is_forgotten: bool,
}

/// A receipt as the executor sent it, not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// The worker key's signature over them; `None` from an anonymous executor.
    pub signature: Option<[u8; 64]>,
}

impl SignedReceipt {
    /// Reads it: signed by `worker`, where there is one, and about `run`.
    ///
    /// # Errors
    /// [`ClientError::BadReceipt`] if it is not.
    pub fn check(&self, run: &str, worker: Option<WorkerId>) -> Result<Receipt, ClientError> {
        let bad = |why: String| ClientError::BadReceipt {
            job: run.to_owned(),
            why,
        };
        let receipt = match (worker, &self.signature) {
            (Some(worker), Some(signature)) => Receipt::verify(&self.bytes, signature, worker),
            (Some(_), None) => return Err(bad("it is not signed".to_owned())),
            (None, _) => Receipt::parse(&self.bytes),
        }
        .map_err(|error| bad(error.to_string()))?;
        if receipt.job_id != run {
            return Err(bad(format!("it is about {}", receipt.job_id)));
        }
        Ok(receipt)
    }
}

impl ExecutorClient {
    /// `GET /follow/{id}`: what was printed from `from` on, as soon as there is something, at the latest after `wait`
    /// (whole seconds, 20 at most).
    ///
    /// # Errors
    /// [`ClientError`]; an unknown job is [`ClientError::Refused`] with status 404.
    pub async fn follow(&self, job: &str, from: u64, wait: Duration) -> Result<FollowedRun, ClientError> {
        let query = [
            ("from", from),
            ("wait", wait.as_secs().min(ANSWER.as_secs() - 10)),
        ];
        read(job, &self.json(self.get(&["follow", job]).query(&query)).await?)
    }
}

/// Reads what an executor says about a run.
pub(super) fn read(job: &str, followed: &Followed) -> Result<FollowedRun, ClientError> {
    let bad = |what: &str| ClientError::BadReceipt {
        job: job.to_owned(),
        why: format!("{what} is not base64"),
    };
    let bytes = |text: &str, what: &str| STANDARD.decode(text).map_err(|_| bad(what));
    let signature = match &followed.signature {
        Some(text) => Some(decode_signature(text).ok_or_else(|| bad("the signature"))?),
        None => None,
    };
    let receipt = match &followed.receipt {
        Some(text) => Some(SignedReceipt {
            bytes: bytes(text, "the receipt")?,
            signature,
        }),
        None => None,
    };
    Ok(FollowedRun {
        state: followed.status,
        next: followed.next,
        stdout: bytes(&followed.stdout, "the output")?,
        stderr: bytes(&followed.stderr, "the output")?,
        receipt,
    })
}

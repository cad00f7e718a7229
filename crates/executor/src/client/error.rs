//! Why a service did not do what it was asked to, by what a caller can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use thiserror::Error;

use crate::wire::ErrorBody;

/// A request to a sandrun service that failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The address is none.
    #[error(
        "{endpoint:?} is no address of a sandrun service ({why}); give one such as http://localhost:8443"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// Why it is none.
        why: String,
    },
    /// No HTTP client can be made on this machine.
    #[error("cannot set up an HTTP client")]
    Setup(#[source] reqwest::Error),
    /// Nobody answers, or the connection broke. Asking again later may help.
    #[error("no answer from the sandrun service at {endpoint}; is it running there?")]
    Unreachable {
        /// The service.
        endpoint: String,
        /// What the connection says.
        source: reqwest::Error,
    },
    /// It answers, but a file does not come. Asking again later may help.
    #[error("the sandrun service at {endpoint} stopped in the middle of a file")]
    Stalled {
        /// The service.
        endpoint: String,
    },
    /// The service says that the request is wrong (4xx but 429). Asking again changes nothing.
    #[error("the sandrun service refused ({status}): {words}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The service's words.
        words: String,
    },
    /// Over quota (429). Asking again later may help.
    #[error("the sandrun service is busy: {words}")]
    Busy {
        /// The service's words.
        words: String,
        /// When to ask again, if it says so.
        retry_after: Option<Duration>,
    },
    /// The service failed (5xx). Asking again may help.
    #[error("the sandrun service failed ({status}): {words}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// The service's words.
        words: String,
    },
    /// It answered with something else than its API says.
    #[error("what answers at {endpoint} is no sandrun service, or of another version")]
    NotUnderstood {
        /// The service.
        endpoint: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// More than the caller takes.
    #[error("{what} has more than {most} bytes")]
    TooLong {
        /// Which answer.
        what: &'static str,
        /// How much would have been taken.
        most: u64,
    },
    /// The service does not prove to be the worker that it says it is.
    #[error("the service at {endpoint} does not prove its worker id: {why}")]
    Unproven {
        /// The service.
        endpoint: String,
        /// What is missing or wrong.
        why: String,
    },
    /// A receipt that cannot be believed.
    #[error("the receipt of {job} cannot be believed: {why}")]
    BadReceipt {
        /// The job.
        job: String,
        /// Why.
        why: String,
    },
    /// A file on this machine.
    #[error("cannot use {}", path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ClientError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Busy { .. } | Self::Failed { .. } => true,
            Self::Endpoint { .. }
            | Self::Setup(_)
            | Self::Refused { .. }
            | Self::NotUnderstood { .. }
            | Self::TooLong { .. }
            | Self::Unproven { .. }
            | Self::BadReceipt { .. }
            | Self::LocalFile { .. } => false,
        }
    }
}

/// The sentence in an error's body; its text as it is where that is no JSON; else the status alone.
pub(super) fn words(body: &[u8], status: StatusCode) -> String {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) if body.is_empty() => status.to_string(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

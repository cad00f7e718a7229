//! Turns the transport's errors into ours. Owns the reading of Kubo's messages: its RPC has one status for all errors.

use std::time::Duration;

use cid::Cid;
use ipfs_api_backend_hyper::Error as ApiError;

use crate::error::ContentError;

/// Makes the errors of one request.
#[derive(Debug)]
pub(super) struct Failures<'a> {
    api: &'a str,
    request: String,
    subject: Option<Cid>,
}

impl<'a> Failures<'a> {
    pub(super) const fn new(api: &'a str, request: String) -> Self {
        Self {
            api,
            request,
            subject: None,
        }
    }

    /// The block that a "not found" is about.
    pub(super) const fn about(mut self, cid: Cid) -> Self {
        self.subject = Some(cid);
        self
    }

    pub(super) fn stalled(&self, patience: Duration) -> ContentError {
        ContentError::Stalled {
            api: self.api.to_owned(),
            request: self.request.clone(),
            seconds: patience.as_secs(),
        }
    }

    pub(super) fn refused(&self, message: String) -> ContentError {
        ContentError::Refused {
            api: self.api.to_owned(),
            request: self.request.clone(),
            message,
        }
    }

    pub(super) fn failed(&self, error: ApiError) -> ContentError {
        match error {
            ApiError::Client(source) => self.transport(Box::new(source)),
            ApiError::Http(source) => self.transport(Box::new(source)),
            ApiError::Api(answer) => match self.subject {
                Some(cid) if says_not_found(&answer.message) => ContentError::NotFound { cid },
                Some(_) | None => self.refused(answer.message),
            },
            // it could not be read as an answer of this RPC
            ApiError::IpfsClientError(error) => self.refused(format!("{error}; is --ipfs-api right?")),
        }
    }

    fn transport(&self, source: crate::error::Cause) -> ContentError {
        ContentError::Unreachable {
            api: self.api.to_owned(),
            source,
        }
    }
}

/// Kubo's words for a block that it does not have.
fn says_not_found(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["not found", "could not find", "not in the store"]
        .iter()
        .any(|words| message.contains(words))
}

//! Why a service did not do what it was asked to.

use std::path::PathBuf;

use sandrun_types::Sha256Hex;

use super::{PoolJobId, PoolNodeId};

/// A request to a broker, a coordinator or an executor that failed.
#[derive(Debug, thiserror::Error)]
pub enum PoolClientError {
    /// The address is none.
    #[error("`{url}` is not a service's address ({detail}): write one such as http://127.0.0.1:8000")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A client's name or a key that no header can hold.
    #[error("{what} has to be 1 to {most} printable ASCII characters")]
    BadHeader {
        /// Which.
        what: &'static str,
        /// How long it may be.
        most: usize,
    },
    /// The HTTP client could not be built.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// No answer. Asking again later may help.
    #[error("the service at {url} does not answer ({detail}): is it running there?")]
    Unreachable {
        /// Where.
        url: String,
        /// What the network said.
        detail: String,
    },
    /// The service failed, or has too much to do. Asking again later may help.
    #[error("the service at {url} can't do it now ({status}): {detail}")]
    Failed {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Its words.
        detail: String,
    },
    /// The service says that the request is wrong. Asking again changes nothing.
    #[error("the service refused ({status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        detail: String,
    },
    /// No such job.
    #[error(
        "job {job} is not known at {url}: check the id and the address; ended jobs are kept for a limited time"
    )]
    UnknownJob {
        /// Which.
        job: PoolJobId,
        /// Where.
        url: String,
    },
    /// No such node.
    #[error("node {node} is not known at {url}: `nodes` lists them")]
    UnknownNode {
        /// Which.
        node: PoolNodeId,
        /// Where.
        url: String,
    },
    /// Something else than the API says.
    #[error(
        "what answers at {url} is no broker, coordinator or executor, or of another version ({detail}): check the address"
    )]
    Nonsense {
        /// Where.
        url: String,
        /// What was wrong with the answer.
        detail: String,
    },
    /// A service that has no such call.
    #[error("the {service} at {url} can't do this: {what}")]
    Unsupported {
        /// What kind of service.
        service: &'static str,
        /// Where.
        url: String,
        /// What it lacks, and what to do instead.
        what: String,
    },
    /// A file on this machine.
    #[error("cannot use {}: {source}", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A receipt that does not hold.
    #[error("the receipt of job {job} does not hold: {why}. Do not rely on its result")]
    BadReceipt {
        /// The job.
        job: PoolJobId,
        /// Why.
        why: String,
    },
    /// A file that is not what the service said of it.
    #[error("{path} has the SHA-256 {found}, but the service says {expected}: it is deleted; fetch it again")]
    Mismatch {
        /// The output.
        path: String,
        /// What the service said.
        expected: Sha256Hex,
        /// What came.
        found: Sha256Hex,
    },
}

impl PoolClientError {
    /// Whether the same request may succeed later.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Failed { .. } => true,
            Self::BadUrl { .. }
            | Self::BadHeader { .. }
            | Self::Client(_)
            | Self::Refused { .. }
            | Self::UnknownJob { .. }
            | Self::UnknownNode { .. }
            | Self::Nonsense { .. }
            | Self::Unsupported { .. }
            | Self::Local { .. }
            | Self::BadReceipt { .. }
            | Self::Mismatch { .. } => false,
        }
    }

    /// A refusal with status 404 as what is not there.
    pub(super) fn or_unknown(self, unknown: impl FnOnce() -> Self) -> Self {
        if matches!(self, Self::Refused { status: 404, .. }) {
            unknown()
        } else {
            self
        }
    }
}

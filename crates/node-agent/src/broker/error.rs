//! What goes wrong between a node and its broker.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sandrun_executor::ClientError;
use thiserror::Error;

/// A node of a broker that cannot start.
#[derive(Debug, Error)]
pub enum BrokerNodeError {
    /// The broker's address is none.
    #[error(
        "{url:?} is no address of a broker ({why}); give one such as http://localhost:8000 with --broker"
    )]
    BrokerAddress {
        /// What was given.
        url: String,
        /// Why it is none.
        why: String,
    },
    /// The port for metrics is taken.
    #[error(transparent)]
    Metrics(#[from] crate::vitals::MetricsError),
    /// No HTTP client can be made on this machine.
    #[error("cannot set up an HTTP client")]
    Setup(#[source] reqwest::Error),
    /// The executor's address is none.
    #[error("the executor cannot be used")]
    Executor(#[source] Box<ClientError>),
    /// The folder for answers cannot be used.
    #[error("cannot use {}; give another folder with --data-dir", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another node works in the folder.
    #[error("another node uses the folder {}; stop it, or give this one a folder of its own with --data-dir", .0.display())]
    Locked(PathBuf),
    /// Another node of this machine has the same name with the same broker.
    #[error(
        "another node on this machine works for {broker} as {endpoint}, and would get this one's jobs; stop it, or give \
         this one an executor and a name of its own with --sandrun and --endpoint"
    )]
    Twin {
        /// The broker's address.
        broker: String,
        /// The name that both have.
        endpoint: String,
    },
    /// A thread of the node died.
    #[error("a task of the node died")]
    Task(#[from] tokio::task::JoinError),
}

/// A request to the broker that failed.
#[derive(Debug, Error)]
pub(crate) enum BrokerError {
    /// Nobody answers, or the connection broke.
    #[error("the broker does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// It refused or failed.
    #[error("the broker says {status}: {words}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// Its words.
        words: String,
    },
    /// It answered with something else than its API says.
    #[error("the broker's answer is not understood")]
    NotUnderstood(#[source] serde_json::Error),
    /// Its answer is longer than is taken.
    #[error("the broker's answer has more than {0} bytes")]
    TooLong(u64),
    /// A request about several attempts failed.
    #[error(transparent)]
    Together(Arc<Self>),
    /// The broker's answer says nothing about this attempt.
    #[error("the broker does not say what became of it")]
    Interrupted,
    /// A file that is not what the job says.
    #[error("the broker's file {0} is not what the job says")]
    OtherFile(String),
    /// A file on this machine.
    #[error("cannot use {}", path.display())]
    LocalFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BrokerError {
    /// The HTTP status, where there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Together(error) => error.status(),
            Self::Interrupted
            | Self::Unreachable(_)
            | Self::NotUnderstood(_)
            | Self::TooLong(_)
            | Self::OtherFile(_)
            | Self::LocalFile { .. } => None,
        }
    }

    /// What is to be made of it by somebody who answers for an attempt.
    pub(crate) fn meaning(&self) -> Meaning {
        match self {
            // what is wrong with the whole request may be wrong with another part of it
            Self::Together(_) | Self::Interrupted => Meaning::Later,
            Self::Status {
                status: 404 | 409, ..
            } => Meaning::NotOurs,
            Self::Status {
                status: 408 | 425 | 429 | 500..,
                ..
            }
            | Self::Unreachable(_)
            | Self::NotUnderstood(_) => Meaning::Later,
            Self::Status { .. } | Self::TooLong(_) | Self::OtherFile(_) | Self::LocalFile { .. } => {
                Meaning::Never
            }
        }
    }
}

/// What a failed request about an attempt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The same request may succeed later.
    Later,
    /// The attempt is not this node's any more, or the job is gone.
    NotOurs,
    /// The request itself is wrong.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_meaning() {
        let of = |status| {
            BrokerError::Status {
                status,
                words: String::new(),
            }
            .meaning()
        };
        for status in [404, 409] {
            assert_eq!(of(status), Meaning::NotOurs, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 507] {
            assert_eq!(of(status), Meaning::Later, "{status}");
        }
        for status in [400, 405, 413, 422] {
            assert_eq!(of(status), Meaning::Never, "{status}");
        }
    }
}

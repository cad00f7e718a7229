//! Why an attempt has no answer, and what that says of the node and of the next attempt.

use std::io;
use std::path::{Path, PathBuf};

use sandrun_executor::ClientError;
use sandrun_types::BundlePathError;
use thiserror::Error;
use tracing::warn;

use super::error::{BrokerError, Meaning};
use super::task::End;
use crate::execute::RunError;

/// How often a job is run whose executor loses it.
pub(super) const RUNS: u32 = 3;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Executor(#[from] ClientError),
    #[error(transparent)]
    Check(#[from] RunError),
    #[error("the executor did not run it: {0}")]
    NotRun(String),
    #[error("the executor has lost it {RUNS} times")]
    Lost,
    #[error("{0} is not what the receipt says")]
    OtherOutput(String),
    #[error("cannot use {}: {source}", path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    #[error("a thread of the node died")]
    Thread(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Name(#[from] BundlePathError),
    #[error("nobody wants the answer")]
    Unwanted,
}

impl Trouble {
    /// How the attempt ends.
    pub(super) fn end(&self) -> End {
        let (retry, is_fault) = match self {
            Self::Unwanted => return End::Unwanted,
            Self::Broker(error) if error.meaning() == Meaning::NotOurs => return End::Unwanted,
            Self::Executor(ClientError::Refused { status, .. }) => match status {
                // it has lost the run and its files, as after a restart
                404 => (true, true),
                // it lacks the environment, which others may have; or nobody has what a user asks for
                424 => (true, false),
                // no other node does better
                _ => (false, false),
            },
            Self::Broker(_)
            | Self::Executor(_)
            | Self::Check(_)
            | Self::NotRun(_)
            | Self::Lost
            | Self::OtherOutput(_)
            | Self::Disk { .. }
            | Self::Thread(_)
            | Self::Name(_) => (true, true),
        };
        let reason = match self.own_disk() {
            Some((path, error)) => {
                warn!(path = %path.display(), error = error as &dyn std::error::Error, "cannot use the node's disk");
                format!("the node cannot use its disk: {error}")
            }
            None => self.to_string(),
        };
        End::Nothing {
            reason,
            retry,
            is_fault,
        }
    }

    /// Where this machine's disk failed, and why: where that is concerns nobody else.
    fn own_disk(&self) -> Option<(&Path, &io::Error)> {
        match self {
            Self::Disk { path, source }
            | Self::Broker(BrokerError::LocalFile { path, source })
            | Self::Executor(ClientError::LocalFile { path, source })
            | Self::Check(
                RunError::Disk { path, source } | RunError::Executor(ClientError::LocalFile { path, source }),
            ) => Some((path, source)),
            Self::Broker(_)
            | Self::Executor(_)
            | Self::Check(_)
            | Self::NotRun(_)
            | Self::Lost
            | Self::OtherOutput(_)
            | Self::Thread(_)
            | Self::Name(_)
            | Self::Unwanted => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_where_the_node_keeps_its_files() {
        let (path, source) = (PathBuf::from("/srv/secret/in"), || {
            io::Error::from(io::ErrorKind::StorageFull)
        });
        let file = || BrokerError::LocalFile {
            path: path.clone(),
            source: source(),
        };
        let lost = || ClientError::LocalFile {
            path: path.clone(),
            source: source(),
        };
        let disk = Trouble::Disk {
            path: path.clone(),
            source: source(),
        };
        let checked = RunError::Disk {
            path: path.clone(),
            source: source(),
        };
        for trouble in [
            disk,
            file().into(),
            lost().into(),
            checked.into(),
            RunError::from(lost()).into(),
        ] {
            let End::Nothing { reason, retry, .. } = trouble.end() else {
                panic!("{trouble:?}");
            };
            assert!(
                retry && reason.starts_with("the node cannot use its disk"),
                "{reason}"
            );
            assert!(!reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn what_a_user_asks_for_in_vain_is_no_fault_of_the_node() {
        for (status, expected) in [
            (404, (true, true)),
            (424, (true, false)),
            (400, (false, false)),
            (413, (false, false)),
        ] {
            let words = String::new();
            let end = Trouble::Executor(ClientError::Refused { status, words }).end();
            let End::Nothing { retry, is_fault, .. } = end else {
                panic!("{end:?}");
            };
            assert_eq!((retry, is_fault), expected, "{status}");
        }
    }
}

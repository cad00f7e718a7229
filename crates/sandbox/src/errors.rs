//! Why there is no sandbox, or no report of a run.

use std::io;

use sandrun_types::{Interpreter, RunOutcome};

use crate::{Class, Layer};

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The launcher process could not be started.
    #[error("cannot start the sandbox launcher {command:?}")]
    Launch {
        /// The command.
        command: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The launcher could not prepare isolation on this machine.
    #[error("this machine does not allow isolation: {0}")]
    Prepare(String),
    /// A layer that is required did not hold against its probe.
    #[error("isolation layer `{layer}` does not hold on this machine: {detail}")]
    LayerFailed {
        /// The layer.
        layer: Layer,
        /// What the probe saw.
        detail: String,
    },
    /// The probe job itself could not be run.
    #[error("the probe of the sandbox failed")]
    Probe(#[source] RunError),
}

/// Why there is no report of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The request cannot be run anywhere: fix it.
    #[error("{0}")]
    BadRequest(String),
    /// The interpreter is not installed in the configured directories.
    #[error("{0} is not installed on this machine (looked in {1})")]
    NoInterpreter(Interpreter, String),
    /// A required layer could not be enforced for this job, so it was not run.
    #[error("isolation could not be set up: {0}")]
    Refused(String),
    /// The machine's programs are others than when the ids of its classes were made.
    #[error(
        "this machine's programs or libraries were changed since its service started, so that it is of another class \
         than it says; class {0} can be run again after the service is started anew"
    )]
    Changed(Class),
    /// The caller cancelled it; every process of the job is dead.
    #[error("the run was cancelled")]
    Cancelled,
    /// The job's files or its outputs could not be read or written.
    #[error("cannot {what}")]
    Files {
        /// What was tried.
        what: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The supervisor or the launcher failed.
    #[error("the sandbox failed: {0}")]
    Internal(String),
}

impl RunError {
    /// The outcome that a status or receipt shows for it.
    #[must_use]
    pub const fn outcome(&self) -> RunOutcome {
        match self {
            Self::BadRequest(_) | Self::NoInterpreter(..) | Self::Refused(_) | Self::Changed(_) => {
                RunOutcome::Refused
            }
            Self::Cancelled | Self::Files { .. } | Self::Internal(_) => RunOutcome::Internal,
        }
    }
}

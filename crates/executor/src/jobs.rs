//! The pure heart of the executor: which job runs, waits, ends and is forgotten, and what a client may still ask for.
//!
//! Owns every decision; time comes in as an argument ([`Moment`]). Never does I/O, never reads a clock: the service
//! task feeds events in and performs the actions that come out.

mod phase;
mod quota;
mod registry;

use std::time::Duration;

pub use quota::{QuotaRefusal, QuotaRules, QuotaView};

pub(crate) use phase::{Phase, Verdict};
pub(crate) use registry::{Action, Event, Registry, RegistryError, Rules};

/// Time since the service started.
pub(crate) type Moment = Duration;

/// How long an ended job is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// After it completed.
    pub completed: Duration,
    /// After it failed.
    pub failed: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            completed: Duration::from_secs(3600),
            failed: Duration::from_secs(300),
        }
    }
}

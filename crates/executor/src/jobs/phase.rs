//! The life of one job on an executor: its phases and the one table of legal steps between them.

use thiserror::Error;

use super::Moment;

/// Whether an ended job did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exit code 0 within all limits.
    Completed,
    /// Anything else.
    Failed,
}

/// Where a job stands. `R` is what a run leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase<R> {
    /// It waits for a free slot.
    Queued,
    /// It has a slot.
    Running,
    /// It has ended; its outputs and logs lie on disk.
    Ended {
        /// When.
        at: Moment,
        /// How.
        verdict: Verdict,
        /// What is known of the run.
        report: R,
    },
    /// Its outputs were sent and deleted; what is known of the run stays until it is forgotten.
    Delivered {
        /// When the run ended.
        at: Moment,
        /// How.
        verdict: Verdict,
        /// What is known of the run.
        report: R,
    },
}

/// A phase without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PhaseName {
    Queued,
    Running,
    Ended,
    Delivered,
}

/// What moves a job from one phase to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Start,
    Finish,
    Deliver,
}

/// A step that the job's phase does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a job that is {from:?} cannot {step:?}")]
pub(crate) struct IllegalStep {
    pub(crate) from: PhaseName,
    pub(crate) step: Step,
}

/// Every legal step: from, step, to. (Forgetting is none: it removes a job that is ended or delivered.)
pub(crate) const STEPS: [(PhaseName, Step, PhaseName); 4] = [
    (PhaseName::Queued, Step::Start, PhaseName::Running),
    (PhaseName::Queued, Step::Finish, PhaseName::Ended),
    (PhaseName::Running, Step::Finish, PhaseName::Ended),
    (PhaseName::Ended, Step::Deliver, PhaseName::Delivered),
];

impl PhaseName {
    /// The phase after `step`.
    pub(crate) fn after(self, step: Step) -> Result<Self, IllegalStep> {
        STEPS
            .iter()
            .find(|(from, with, _)| *from == self && *with == step)
            .map(|(_, _, to)| *to)
            .ok_or(IllegalStep { from: self, step })
    }
}

impl<R> Phase<R> {
    pub(crate) fn name(&self) -> PhaseName {
        match self {
            Self::Queued => PhaseName::Queued,
            Self::Running => PhaseName::Running,
            Self::Ended { .. } => PhaseName::Ended,
            Self::Delivered { .. } => PhaseName::Delivered,
        }
    }

    /// What is known of the run, once it has ended.
    pub(crate) fn report(&self) -> Option<&R> {
        match self {
            Self::Queued | Self::Running => None,
            Self::Ended { report, .. } | Self::Delivered { report, .. } => Some(report),
        }
    }
}

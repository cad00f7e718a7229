//! Exit codes. Owns what each number means to a script; listed in the long help.

use std::process::ExitCode;

/// Why the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Everything went well.
    Success,
    /// Something failed that has no number of its own.
    Failure,
    /// Arguments, configuration or input are wrong; nothing was sent anywhere.
    BadInput,
    /// A service (RPC, content store, executor, manager) cannot be reached or is not what it should be.
    Unreachable,
    /// The chain or a service refused: reverted, balance too low, wrong chain; a request that it does not take.
    Refused,
    /// The job's program ended with a non-zero status, a signal or a limit.
    JobFailed,
    /// The job ended without a result that nodes agreed on.
    NoAgreement,
    /// A result does not match what the chain or the service says of it.
    VerificationFailed,
    /// What the program that `run` ran has ended with.
    Program(u8),
    /// SIGINT came first.
    Interrupted,
    /// SIGTERM came first.
    Terminated,
}

/// The help text about exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0  success
  1  failure
  2  bad arguments, configuration or input; nothing was sent
  3  a service cannot be reached, or is not what it should be
  4  the chain or the service refused: reverted, balance too low, wrong chain; a request that it does not take
  5  the job's program ended with a non-zero status, or all agree that it takes too long
  6  the job ended without an agreed result (expired, cancelled, not deterministic)
  7  a result does not match what the chain or the service says of it
  130, 143  interrupted by SIGINT, SIGTERM; a job that was posted goes on";

impl Status {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::BadInput => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::JobFailed => 5,
            Self::NoAgreement => 6,
            Self::VerificationFailed => 7,
            Self::Program(code) => code,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The status that an error carries (see [`Failure`]); [`Status::Failure`] where it carries none.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Failure>())
            .map_or(Self::Failure, |failure| failure.status)
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

/// A message with the status that the program ends with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    /// An error for the user: what failed, why, what to do.
    #[expect(clippy::new_ret_no_self, reason = "it is only ever made to be an error")]
    pub(crate) fn new(status: Status, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self {
            status,
            message: message.into(),
        })
    }
}

/// Gives an error its exit status.
pub(crate) trait WithStatus<T> {
    /// Marks the error.
    fn status(self, status: Status) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithStatus<T> for Result<T, E> {
    fn status(self, status: Status) -> anyhow::Result<T> {
        self.map_err(|error| Failure::new(status, words(&error.into())))
    }
}

/// An error and its causes in one line, outermost first; a cause that is quoted already is not said again.
pub(crate) fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if cause.starts_with(&text) {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_survives_context() {
        let error = Failure::new(Status::Refused, "balance too low").context("posting the job failed");
        assert_eq!(Status::of(&error), Status::Refused);
        assert_eq!(Status::of(&anyhow::anyhow!("other")), Status::Failure);
    }

    #[test]
    fn a_cause_that_is_quoted_is_not_said_twice() {
        let prefix = anyhow::anyhow!("cannot deploy: no coin").context("cannot deploy");
        assert_eq!(words(&prefix), "cannot deploy: no coin");
        let quoted = anyhow::anyhow!("disk full")
            .context("writing failed: disk full")
            .context("submit");
        assert_eq!(words(&quoted), "submit: writing failed: disk full");
    }
}

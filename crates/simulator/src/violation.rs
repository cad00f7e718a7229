//! A promise that did not hold, and where in which history.

use std::fmt;

/// A promise that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) String);

impl Violation {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// Fails unless `holds`; the text is made only then.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what())) }
}

/// A history that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed that plays it again.
    pub seed: u64,
    /// Which of its steps broke the promise, from 1.
    pub step: u64,
    /// Second of virtual time, from 0.
    pub second: u64,
    /// Which promise.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {} broke a promise at step {} (second {}): {}",
            self.seed, self.step, self.second, self.what
        )
    }
}

impl std::error::Error for Failure {}

/// Fails with the text unless the condition holds.
macro_rules! promise {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::violation::Violation::new(format!($($text)+)));
        }
    };
}

/// Fails unless both are equal.
macro_rules! promise_eq {
    ($left:expr, $right:expr, $($text:tt)+) => {
        match (&$left, &$right) {
            (left, right) if left == right => {}
            (left, right) => {
                let text = format!($($text)+);
                return Err($crate::violation::Violation::new(format!("{text}: {left:?}, not {right:?}")));
            }
        }
    };
}

pub(crate) use {promise, promise_eq};

/// What has to be there by everything that went before.
pub(crate) trait Known<T> {
    /// It, or the violation that it is not.
    fn known(self) -> Result<T, Violation>;
}

impl<T> Known<T> for Option<T> {
    fn known(self) -> Result<T, Violation> {
        self.ok_or_else(|| Violation::new("something that has to be there is not"))
    }
}

impl<T, E: fmt::Display> Known<T> for Result<T, E> {
    fn known(self) -> Result<T, Violation> {
        self.map_err(Violation::new)
    }
}

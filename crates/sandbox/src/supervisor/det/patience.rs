//! How long the tracer waits for what the kernel must do at once.

use std::io;
use std::time::{Duration, Instant};

/// So long at most. What takes longer than a machine under any load needs will not come: the job is ended, before it
/// holds its supervisor for ever.
const LONGEST: Duration = Duration::from_secs(20);

/// A wait that has begun.
#[derive(Debug)]
pub(super) struct Patience(Instant);

impl Patience {
    /// From now on.
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Whether it has taken too long.
    pub(super) fn is_over(&self) -> bool {
        self.0.elapsed() >= LONGEST
    }

    /// Lets others run; an error where it has taken too long.
    pub(super) fn wait(&self) -> io::Result<()> {
        if self.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::yield_now();
        Ok(())
    }
}

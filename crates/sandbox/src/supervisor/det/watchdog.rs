//! Notices tasks that compute on and on without a call: they may be waiting for what another task would do.
//!
//! Without a counter of instructions nothing can be done about it at a point that is the same everywhere. So the
//! watchdog is late rather than early: it knows no difference between waiting and honest work.

use std::time::{Duration, Instant};

/// After so long a silence the end of a job by its limits is said to be the watchdog's.
pub(super) const SUSPICIOUS: Duration = Duration::from_secs(1);
/// After so long a silence it ends the job.
pub(super) const LONGEST: Duration = Duration::from_secs(120);

/// When a call was last seen.
#[derive(Debug)]
pub(super) struct Watchdog {
    calls: u64,
    since: Instant,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            calls: 0,
            since: Instant::now(),
        }
    }
}

impl Watchdog {
    /// How long there has been no other call than these.
    pub(super) fn look(&mut self, calls: u64) -> Duration {
        if calls != self.calls {
            *self = Self {
                calls,
                ..Self::default()
            };
        }
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_the_silence() {
        let before = Instant::now();
        let mut watchdog = Watchdog {
            calls: 1,
            since: before - LONGEST,
        };
        assert!(watchdog.look(1) >= LONGEST);
        assert!(watchdog.look(2) < LONGEST);
    }
}

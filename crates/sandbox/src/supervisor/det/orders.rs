//! What may end a job while its tracer is busy for it: asked where that may take long.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::PollFlags;

use super::calls::is_ready;
use crate::sys::trace;

/// The job's deadline, and where an order to stop comes from.
#[derive(Debug)]
pub(in crate::supervisor) struct Orders {
    deadline: Option<Instant>,
    socket: OwnedFd,
}

impl Orders {
    /// A job ends at this time, or when something can be read here.
    pub(in crate::supervisor) const fn new(deadline: Option<Instant>, socket: OwnedFd) -> Self {
        Self { deadline, socket }
    }

    /// Whether the job has to end. Looks no more often than limits are looked at.
    pub(super) fn are_to_stop(&self) -> bool {
        trace::has_ticked()
            && (self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
                || is_ready(&self.socket, PollFlags::IN))
    }
}

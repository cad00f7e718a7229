//! Stopping a run from another thread. Owns the signal only; who gives it and why is the caller's affair.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// Ends a run from any thread: the run returns [`crate::RunError::Cancelled`] after every process of the job is dead.
/// Clones are the same handle. Cancelling before the run starts prevents it.
#[derive(Debug, Clone)]
pub struct CancelHandle {
    event: Arc<OwnedFd>,
}

impl CancelHandle {
    /// A handle that nobody has used yet.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            event: Arc::new(event),
        })
    }

    /// Ends the run. Calling it twice, or after the run has ended, does nothing.
    pub fn cancel(&self) {
        // Fails only if the counter is full, and then it is set already.
        let _ = rustix::io::write(&*self.event, &1_u64.to_ne_bytes());
    }

    /// Readable once cancelled.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

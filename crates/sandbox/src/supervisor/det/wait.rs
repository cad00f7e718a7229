//! What a task can wait for.

use std::os::fd::OwnedFd;

use rustix::event::PollFlags;

use super::futex::Key;
use super::task::TaskId;

/// A task's reason not to run.
#[derive(Debug)]
pub(in crate::supervisor) struct Wait {
    /// What ends it, besides its deadline and signals.
    pub(in crate::supervisor) on: On,
    /// Virtual time at which it ends at the latest.
    pub(in crate::supervisor) until: Option<u64>,
    /// Signals that end it.
    pub(in crate::supervisor) signals: Signals,
}

/// What ends a wait.
#[derive(Debug)]
pub(in crate::supervisor) enum On {
    /// Nothing but its deadline or a signal.
    Nothing,
    /// One of these files is ready. They are copies of the task's.
    Files(Vec<(OwnedFd, PollFlags)>),
    /// A wake of this futex.
    Futex(Key),
    /// A process's end, stop or going on.
    Child,
    /// Somebody's opening a named pipe (device, inode) to write to it.
    Writer(u64, u64),
    /// Anything that another task did: it tries again after each.
    Others,
    /// The same, for a lock of records that this process has.
    Owner(TaskId),
}

impl On {
    /// Whether what another task did may end it.
    pub(super) const fn is_of_others(&self) -> bool {
        match self {
            Self::Others | Self::Owner(_) => true,
            Self::Nothing | Self::Files(_) | Self::Futex(_) | Self::Child | Self::Writer(..) => false,
        }
    }
}

impl Wait {
    /// Whether signals that were sent long before may end it: it lets through what the task blocks.
    pub(super) const fn unblocks(&self) -> bool {
        match self.signals {
            Signals::MakeUnder(_) | Signals::Take(_) => true,
            Signals::Make | Signals::Fail => false,
        }
    }
}

/// What a signal does to a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Signals {
    /// The call is made as it is: with a signal pending the kernel ends it at once, or restarts it after the handler.
    Make,
    /// The call fails with EINTR.
    Fail,
    /// The same as [`Signals::Make`], with these signals blocked instead of the task's own set.
    MakeUnder(u64),
    /// It waits for these signals, blocked or not, and takes one by itself.
    Take(u64),
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Woken {
    /// Its deadline.
    Time,
    /// What it waited for.
    Ready,
    /// A signal.
    Signal,
}

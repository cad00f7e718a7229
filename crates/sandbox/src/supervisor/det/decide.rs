//! What happens to a call at whose entry a task stands.

use std::io;

use super::calls;
use super::run::Engine;
use super::table::Entry;
use super::task::Task;
use super::wait::{Signals, Woken};
use crate::sys::trace;

/// The table's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The task goes on; the call is made, or has been answered.
    Make,
    /// The call is made, and its exit is looked at.
    MakeAndSee,
    /// The task waits.
    Wait,
}

/// An error's number as a result.
pub(super) fn negative(error: &io::Error) -> i64 {
    -i64::from(error.raw_os_error().unwrap_or(libc::EINVAL))
}

impl Engine {
    /// Asks the handlers.
    pub(super) fn decide(&mut self, task: &mut Task) -> io::Result<Decision> {
        // before its program begins it runs our own code, and what it executes is looked at as any other
        if !self.begun && task.call() != libc::SYS_execve {
            return Ok(Decision::Make);
        }
        if let Some(how) = task.interrupted.take() {
            if task.written > 0 {
                return self.answer(task, i64::try_from(task.written).unwrap_or(i64::MAX));
            }
            match how {
                Signals::Make | Signals::MakeUnder(_) | Signals::Take(_)
                    if self.world.is_pending(task, how) =>
                {
                    calls::interrupted(task);
                    return Ok(self.make(task));
                }
                Signals::Fail => return self.answer(task, -i64::from(libc::EINTR)),
                Signals::Make | Signals::MakeUnder(_) | Signals::Take(_) => {}
            }
        }
        for index in 0.. {
            let Some(handler) = self.table.of(task.call()).get(index) else {
                break;
            };
            match handler(&mut self.world, task) {
                Ok(Entry::Pass) => {}
                Ok(Entry::Watch(exit)) => task.exits.push(exit),
                Ok(Entry::Done(result)) => return self.answer(task, result),
                Ok(Entry::Make(exit)) => {
                    task.exits.push(exit);
                    break;
                }
                Ok(Entry::Block(wait)) => {
                    task.exits.clear();
                    task.restore_arguments();
                    task.begin_wait(wait);
                    return Ok(Decision::Wait);
                }
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) && self.is_gone(task) => {
                    return Err(error);
                }
                Err(error) => return self.answer(task, negative(&error)),
            }
        }
        Ok(self.make(task))
    }

    fn make(&self, task: &mut Task) -> Decision {
        if task.exits.is_empty() && !task.changed {
            settle(task);
            Decision::Make
        } else {
            Decision::MakeAndSee
        }
    }

    /// Answers a call without making it.
    fn answer(&mut self, task: &mut Task, result: i64) -> io::Result<Decision> {
        task.restore_arguments();
        task.set_result(result);
        self.exit(task)?;
        task.skip(task.result());
        settle(task);
        Ok(Decision::Make)
    }

    /// At a call's exit: asks the handlers that wanted to see it. `false` if the task waits now.
    pub(super) fn left(&mut self, task: &mut Task) -> io::Result<bool> {
        task.fetch_exit()?;
        self.exit(task)?;
        if std::mem::take(&mut task.retry) {
            task.rewind();
            return Ok(true);
        }
        if let Some(wait) = task.again.take() {
            task.rewind();
            task.rewound = Some(wait.signals);
            task.begin_wait(wait);
            return Ok(false);
        }
        settle(task);
        task.wait = task.hold.take();
        Ok(task.wait.is_none())
    }

    /// Asks the handlers that wanted to see a call's exit. An error of theirs becomes its result.
    fn exit(&mut self, task: &mut Task) -> io::Result<()> {
        for exit in std::mem::take(&mut task.exits) {
            if let Err(error) = exit(&mut self.world, task) {
                if error.raw_os_error() == Some(libc::ESRCH) && self.is_gone(task) {
                    return Err(error);
                }
                task.set_result(negative(&error));
            }
        }
        Ok(())
    }

    /// Whether the kernel has killed a task while it stood still.
    pub(super) fn is_gone(&self, task: &Task) -> bool {
        trace::registers(task.host).is_err()
    }
}

/// Forgets what belonged to one call.
pub(super) fn settle(task: &mut Task) {
    task.deadline = None;
    task.written = 0;
    if task.woken != Some(Woken::Signal) {
        task.woken = None;
    }
}

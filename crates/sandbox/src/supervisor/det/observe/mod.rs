//! What of a traced job's doings enters its trace, and in which words.
//!
//! Owns the events: when one is made and what it names, as `docs/trace.md` says. Never answers a call, and never sends
//! an event away: the tracer takes them from [`State`].
//!
//! Files of the system and of an environment's image make no event when they are read: the class, or the image's own
//! id, stands for them.

mod closing;
mod contents;
mod programs;
mod tree;

use sandrun_types::{EntropySource, TaskEnd, TaskEvent, TaskId, TaskKind, TraceEvent};

use super::table::{Rule, When};
use super::virt::mappings::LOOKED_AT;
use super::{Task, World};
use crate::sys::WaitStatus;

pub(super) use programs::executed;

/// What has happened and was not taken yet.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct State {
    events: Vec<TraceEvent>,
    programs: programs::Known,
}

impl State {
    /// Takes the events that were made since the last time, in order.
    pub(in crate::supervisor) fn take(&mut self) -> impl Iterator<Item = TraceEvent> {
        self.events.drain(..)
    }

    /// An event of the task with this number.
    fn record(&mut self, task: u32, event: TaskEvent) {
        self.events.push(TraceEvent::Task {
            task: TaskId(task),
            event,
        });
    }
}

/// The lines of the table that are looked at here.
pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_close, When::Always, closing::close),
    Rule(libc::SYS_close_range, When::Always, closing::close_range),
    Rule(libc::SYS_dup2, When::Always, closing::replace),
    Rule(libc::SYS_dup3, When::Always, closing::replace),
    Rule(libc::SYS_exit_group, When::Always, closing::exit_group),
    Rule(libc::SYS_mmap, When::Unless(3, LOOKED_AT, 0), closing::map),
    Rule(libc::SYS_mkdir, When::Always, tree::watch),
    Rule(libc::SYS_mkdirat, When::Always, tree::watch),
    Rule(libc::SYS_mknod, When::Always, tree::watch),
    Rule(libc::SYS_mknodat, When::Always, tree::watch),
    Rule(libc::SYS_symlink, When::Always, tree::watch),
    Rule(libc::SYS_symlinkat, When::Always, tree::watch),
    Rule(libc::SYS_link, When::Always, tree::watch),
    Rule(libc::SYS_linkat, When::Always, tree::watch),
    Rule(libc::SYS_rmdir, When::Always, tree::watch),
    Rule(libc::SYS_unlink, When::Always, tree::watch_loss),
    Rule(libc::SYS_unlinkat, When::Always, tree::watch_loss),
    Rule(libc::SYS_rename, When::Always, tree::watch_loss),
    Rule(libc::SYS_renameat, When::Always, tree::watch_loss),
    Rule(libc::SYS_renameat2, When::Always, tree::watch_loss),
    Rule(libc::SYS_chmod, When::Always, tree::watch),
    Rule(libc::SYS_fchmod, When::Always, tree::watch),
    Rule(libc::SYS_fchmodat, When::Always, tree::watch),
    Rule(libc::SYS_fchmodat2, When::Always, tree::watch),
    Rule(libc::SYS_truncate, When::Always, tree::watch),
    Rule(libc::SYS_bind, When::Always, tree::watch),
];

/// A task was made by another one.
pub(super) fn started(world: &mut World, parent: &Task, child: &Task) {
    let kind = if child.id == child.process {
        TaskKind::Process
    } else {
        TaskKind::Thread
    };
    let parent = TaskId(parent.id);
    world
        .observe
        .record(child.id, TaskEvent::Started { parent, kind });
}

/// A process ended.
pub(super) fn ended(world: &mut World, process: u32, status: WaitStatus) {
    let end = match status {
        WaitStatus::Code(code) => TaskEnd::Code(code),
        WaitStatus::Signal(signal) => TaskEnd::Signal(signal),
    };
    world.observe.record(process, TaskEvent::Ended { end });
}

/// A task drew entropy.
pub(super) fn drawn(world: &mut World, task: &Task, source: EntropySource, bytes: u64) {
    world
        .observe
        .record(task.id, TaskEvent::Entropy { source, bytes });
}

/// The call that a task stands at was refused, with this error number.
pub(super) fn denied(world: &mut World, task: &Task, errno: i32) {
    let call = u32::try_from(task.call()).unwrap_or(u32::MAX);
    let errno = u16::try_from(errno).unwrap_or(u16::MAX);
    world.observe.record(task.id, TaskEvent::Denied { call, errno });
}

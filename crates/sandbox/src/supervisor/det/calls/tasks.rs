//! Making tasks: how many there may be in all, and in which relations to the one that makes them.

use std::io;

use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::{Task, TaskId};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_clone, When::Always, clone),
    Rule(libc::SYS_fork, When::Always, fork),
    Rule(libc::SYS_vfork, When::Always, fork),
    // CLOSE_RANGE_UNSHARE
    Rule(libc::SYS_close_range, When::If(2, 2, 2), close_range),
];

/// The last number that a task can have. The smallest of the usual limits of a kernel is 32,768, and where its own comes
/// they begin anew, with holes: no two machines would go on alike.
const LAST: TaskId = 32_000;

fn fork(world: &mut World, _: &mut Task) -> io::Result<Entry> {
    if world.last_id >= LAST {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    Ok(Entry::Pass)
}

/// Threads share their files, so that a file can be looked at through any of them; a child is its maker's.
fn clone(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let flags = task.int(0);
    let has = |flag: i32| flags & flag != 0;
    if has(libc::CLONE_THREAD) && !has(libc::CLONE_FILES) || has(libc::CLONE_PARENT) {
        observe::denied(world, task, libc::EINVAL);
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // what the one opens the other reads
    if has(libc::CLONE_FILES)
        && !has(libc::CLONE_THREAD)
        && let Some(first) = world.trace_blocking(task)?
    {
        return Ok(first);
    }
    fork(world, task)
}

/// A thread's own table of files would be another one than its process's.
fn close_range(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if world.threads_of(task.process).is_empty() {
        return Ok(Entry::Pass);
    }
    observe::denied(world, task, libc::EINVAL);
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

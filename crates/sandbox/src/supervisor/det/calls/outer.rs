//! The pipes that a job's output goes out by: nothing tells how fast the service reads them.

use std::io;

use rustix::fs::fstat;

use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;
use crate::supervisor::filter::det_calls::FIONREAD;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_ioctl, When::If(1, u32::MAX, FIONREAD), unread),
    Rule(
        libc::SYS_epoll_ctl,
        When::If(1, u32::MAX, libc::EPOLL_CTL_ADD.cast_unsigned()),
        watch,
    ),
];

fn is_outer(world: &mut World, task: &Task, fd: i32) -> bool {
    world
        .file(task, fd)
        .and_then(|file| Ok(fstat(&file)?))
        .is_ok_and(|stat| world.is_outer(stat.st_dev, stat.st_ino))
}

/// `FIONREAD`: all that was written has been read.
fn unread(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if !is_outer(world, task, task.int(0)) {
        return Ok(Entry::Pass);
    }
    task.write(task.argument(2), &0_i32.to_ne_bytes())?;
    Ok(Entry::Done(0))
}

/// `EPOLL_CTL_ADD`: it is no file that can be waited for, as a regular one is none.
fn watch(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if !is_outer(world, task, task.int(2)) {
        return Ok(Entry::Pass);
    }
    observe::denied(world, task, libc::EPERM);
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

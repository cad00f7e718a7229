//! The pipes that a job's output goes out by: nothing tells how fast the service reads them.

use std::io;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};

use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;
use crate::supervisor::filter::det_calls::{FIONBIO, FIONREAD};

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_ioctl, When::Always, request),
    Rule(
        libc::SYS_epoll_ctl,
        When::If(1, u32::MAX, libc::EPOLL_CTL_ADD.cast_unsigned()),
        watch,
    ),
];

/// Whether a task's file is one of them.
pub(super) fn is_outer(world: &mut World, task: &Task, fd: i32) -> bool {
    world
        .file(task, fd)
        .and_then(|file| Ok(fstat(&file)?))
        .is_ok_and(|stat| world.is_outer(stat.st_dev, stat.st_ino))
}

/// `FIONREAD`: all that was written has been read. `FIONBIO`: it can always be written to, as a regular file.
fn request(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let request = task.int(1).cast_unsigned();
    if ![FIONREAD, FIONBIO].contains(&request) || !is_outer(world, task, task.int(0)) {
        return Ok(Entry::Pass);
    }
    if request == FIONREAD {
        task.write(task.argument(2), &0_i32.to_ne_bytes())?;
    } else {
        // where there is no number to be read the call fails
        task.read_u32(task.argument(2))?;
    }
    Ok(Entry::Done(0))
}

/// One was opened once more: its writes wait, whatever the call has asked for.
pub(in crate::supervisor::det) fn opened(world: &mut World, task: &mut Task) -> io::Result<()> {
    let Some(fd) = i32::try_from(task.result()).ok().filter(|fd| *fd >= 0) else {
        return Ok(());
    };
    let file = world.file(task, fd)?;
    let flags = fcntl_getfl(&file)?;
    Ok(fcntl_setfl(&file, flags - OFlags::NONBLOCK)?)
}

/// `EPOLL_CTL_ADD`: it is no file that can be waited for, as a regular one is none.
fn watch(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if !is_outer(world, task, task.int(2)) {
        return Ok(Entry::Pass);
    }
    observe::denied(world, task, libc::EPERM);
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

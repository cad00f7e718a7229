//! `recvmmsg` and `sendmmsg`: as many messages as there are, or as there is room for, and at least one.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl};

use super::files::is_ready;
use super::sleep::timespec;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait, Woken};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_recvmmsg, When::Always, receive),
    Rule(libc::SYS_sendmmsg, When::Always, send),
];

/// The socket, where the call would wait for it: not for no messages at all.
fn blocking(world: &mut World, task: &Task) -> io::Result<Option<OwnedFd>> {
    if task.argument(2) == 0 {
        return Ok(None);
    }
    let fd = world.file(task, task.int(0))?;
    let waits = task.int(3) & libc::MSG_DONTWAIT == 0 && !fcntl_getfl(&fd)?.contains(OFlags::NONBLOCK);
    Ok(waits.then_some(fd))
}

fn with_flag(task: &mut Task, flag: i32) {
    let flags = task.int(3) | flag;
    task.set_argument(3, u64::from(flags.unsigned_abs()));
}

fn receive(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let Some(fd) = blocking(world, task)? else {
        return Ok(Entry::Pass);
    };
    if is_ready(&fd, PollFlags::IN) {
        with_flag(task, libc::MSG_WAITFORONE);
        // a timeout of the kernel's passes in real time
        task.set_argument(4, 0);
        return Ok(Entry::Pass);
    }
    if task.deadline.is_none() && task.argument(4) != 0 {
        let timeout = timespec(task, task.argument(4))?;
        task.deadline = Some(world.clock.now().saturating_add(timeout));
    }
    if task.woken == Some(Woken::Time) {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    Ok(Entry::Block(Wait {
        on: On::Files(vec![(fd, PollFlags::IN)]),
        until: task.deadline,
        signals: Signals::Fail,
    }))
}

fn send(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let Some(fd) = blocking(world, task)? else {
        return Ok(Entry::Pass);
    };
    if !is_ready(&fd, PollFlags::OUT) {
        return Ok(Entry::Block(room(fd)));
    }
    with_flag(task, libc::MSG_DONTWAIT);
    Ok(Entry::Make(sent))
}

fn room(fd: OwnedFd) -> Wait {
    Wait {
        on: On::Files(vec![(fd, PollFlags::OUT)]),
        until: None,
        signals: Signals::Make,
    }
}

fn sent(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == -i64::from(libc::EAGAIN) {
        task.again = Some(room(world.file(task, task.int(0))?));
    }
    Ok(())
}

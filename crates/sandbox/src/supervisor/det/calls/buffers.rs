//! Room in the kernel for what is on its way: sockets and pipes have the same on every machine, whatever its settings
//! say and whoever else's pipes there are.
//!
//! Owns the sizes, and the rest of a message that there was no room for at once. How much fits into this room is the
//! kernel's own affair, and in the class id.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::SocketType;
use rustix::net::sockopt;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

use super::pieces;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;
use crate::sys::room;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_accept, When::Always, accept),
    Rule(libc::SYS_accept4, When::Always, accept),
    Rule(libc::SYS_sendmsg, When::Always, message),
    Rule(libc::SYS_sendmmsg, When::Always, message),
];

/// The least that can be asked for, which no kernel makes more of.
const LEAST: usize = 2304;

fn accept(_: &mut World, _: &mut Task) -> io::Result<Entry> {
    Ok(Entry::Watch(socket_made))
}

/// A message may hold descriptors, of which so many can be on their way for each user of the host.
fn message(world: &mut World, _: &mut Task) -> io::Result<Entry> {
    Ok(if world.shares_user {
        Entry::Watch(message_sent)
    } else {
        Entry::Pass
    })
}

fn message_sent(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == -i64::from(libc::ETOOMANYREFS) {
        world.has_no_more("descriptors in messages");
    }
    Ok(())
}

fn number(value: i64) -> Option<i32> {
    i32::try_from(value).ok().filter(|number| *number >= 0)
}

/// The two descriptors that a call has put at an address.
fn two(task: &Task, at: u64) -> io::Result<[i32; 2]> {
    let first = task.read_u32(at)?.cast_signed();
    Ok([first, task.read_u32(at.wrapping_add(4))?.cast_signed()])
}

/// At the exit of `socket`, `socketpair`, `accept`.
pub(super) fn socket_made(world: &mut World, task: &mut Task) -> io::Result<()> {
    let Some(result) = number(task.result()) else {
        return Ok(());
    };
    let made = match task.call_at_entry() {
        libc::SYS_socketpair => two(task, task.argument(3))?,
        _ => [result, -1],
    };
    for fd in made.into_iter().filter(|fd| *fd >= 0) {
        let socket = world.file(task, fd)?;
        size(&socket, libc::SO_SNDBUF, room::SOCKET)?;
        size(&socket, libc::SO_RCVBUF, room::SOCKET)?;
    }
    Ok(())
}

/// Half of what the socket then has. ENOBUFS where the machine does not allow it.
fn size(socket: &OwnedFd, which: i32, bytes: usize) -> io::Result<()> {
    let has = if which == libc::SO_SNDBUF {
        sockopt::set_socket_send_buffer_size(socket, bytes)?;
        sockopt::socket_send_buffer_size(socket)?
    } else {
        sockopt::set_socket_recv_buffer_size(socket, bytes)?;
        sockopt::socket_recv_buffer_size(socket)?
    };
    if has == 2 * bytes {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ENOBUFS))
    }
}

/// `setsockopt` of either size: as much as every machine allows.
pub(super) fn resize(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let length = task.int(4);
    if length < 4 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let wanted = usize::try_from(task.read_u32(task.argument(3))?).unwrap_or(usize::MAX);
    let socket = world.file(task, task.int(0))?;
    sockopt::socket_type(&socket)?;
    size(&socket, task.int(2), wanted.clamp(LEAST, room::SOCKET))?;
    Ok(Entry::Done(0))
}

/// At the exit of `pipe`, `pipe2`. ENFILE where the machine has less room left for the user.
pub(super) fn pipe_made(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != 0 {
        return Ok(());
    }
    let [read, _] = two(task, task.argument(0))?;
    let pipe = world.file(task, read)?;
    size_pipe(world, &pipe)
}

/// Gives a pipe its size.
pub(super) fn size_pipe(world: &mut World, pipe: &OwnedFd) -> io::Result<()> {
    if fcntl_getpipe_size(pipe)? != room::PIPE && fcntl_setpipe_size(pipe, room::PIPE).is_err() {
        world.has_no_more("pages of pipes");
        return Err(io::Error::from_raw_os_error(libc::ENFILE));
    }
    Ok(())
}

/// Makes a `sendmsg` that has sent a part one that sends the next piece: what goes with a message has gone with the first.
pub(super) fn rest_of_message(task: &mut Task) -> io::Result<()> {
    let flags = task.int(2) | libc::MSG_DONTWAIT;
    let pieces = pieces::of(task, libc::SYS_sendmsg)?;
    if let Some((address, length)) = pieces::from(&pieces, task.written) {
        task.registers.orig_rax = u64::try_from(libc::SYS_sendto).unwrap_or(0);
        task.set_argument(1, address);
        task.set_argument(2, length);
        task.set_argument(3, u64::from(flags.unsigned_abs()));
        task.set_argument(4, 0);
        task.set_argument(5, 0);
    }
    Ok(())
}

/// At the exit of a `sendmsg`: whether a part of the message is still to be sent. Otherwise its result is all of it.
pub(super) fn is_message_left(world: &mut World, task: &mut Task) -> io::Result<bool> {
    let result = task.result();
    match u64::try_from(result) {
        Ok(more) => task.written = task.written.saturating_add(more),
        Err(_) if result == -i64::from(libc::EAGAIN) => return Ok(true),
        Err(_) if task.written > 0 => {
            task.set_result(i64::try_from(task.written).unwrap_or(i64::MAX));
            return Ok(false);
        }
        Err(_) => return Ok(false),
    }
    let socket = world.file(task, task.int(0))?;
    let total = pieces::total(&pieces::of(task, libc::SYS_sendmsg)?);
    if task.written < total && sockopt::socket_type(&socket)? == SocketType::STREAM {
        return Ok(true);
    }
    task.set_result(i64::try_from(task.written).unwrap_or(i64::MAX));
    Ok(false)
}

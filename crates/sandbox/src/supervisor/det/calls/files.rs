//! Reading and writing files that can block: a call is made when it will not, else its task waits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::net::SocketType;
use rustix::net::sockopt::{Timeout, socket_timeout, socket_type};

use super::pieces;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait, Woken};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_read, When::Blocking, read),
    Rule(libc::SYS_readv, When::Blocking, read),
    Rule(libc::SYS_write, When::Blocking, write),
    Rule(libc::SYS_writev, When::Blocking, writev),
    Rule(libc::SYS_recvfrom, When::Always, recvfrom),
    Rule(libc::SYS_recvmsg, When::Always, recvmsg),
    Rule(libc::SYS_sendto, When::Always, sendto),
    Rule(libc::SYS_sendmsg, When::Always, sendmsg),
    Rule(libc::SYS_accept, When::Always, accept),
    Rule(libc::SYS_accept4, When::Always, accept),
    Rule(libc::SYS_connect, When::Always, connect),
];

/// What fits into a pipe at once, or not at all.
const PIPE_BUF: u64 = 4096;

/// A file that may block, as it is now.
struct File {
    fd: OwnedFd,
    kind: FileType,
    nonblocking: bool,
    outer: bool,
}

/// The file behind a call's first argument; `None` where the call cannot block for it.
fn file(world: &mut World, task: &Task) -> Option<File> {
    // without such a file the kernel says so
    let fd = world.file(task, task.int(0)).ok()?;
    let stat = fstat(&fd).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if matches!(
        kind,
        FileType::RegularFile | FileType::Directory | FileType::BlockDevice | FileType::CharacterDevice
    ) {
        return None;
    }
    let nonblocking = fcntl_getfl(&fd).ok()?.contains(OFlags::NONBLOCK);
    let outer = world.is_outer(stat.st_dev, stat.st_ino);
    Some(File {
        fd,
        kind,
        nonblocking,
        outer,
    })
}

/// Whether a file is ready now.
pub(in crate::supervisor::det) fn is_ready(fd: &impl AsFd, events: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, events)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn wait_for(fd: OwnedFd, events: PollFlags) -> Wait {
    Wait {
        on: On::Files(vec![(fd, events)]),
        until: None,
        signals: Signals::Make,
    }
}

/// The same for a socket, as long as its own timeout lets a call wait. EAGAIN where that is over.
fn wait_within(world: &mut World, task: &mut Task, file: File, which: Timeout) -> io::Result<Entry> {
    let events = match which {
        Timeout::Recv => PollFlags::IN,
        Timeout::Send => PollFlags::OUT,
    };
    let mut wait = wait_for(file.fd, events);
    if let (FileType::Socket, On::Files(files)) = (file.kind, &wait.on)
        && let Some((socket, _)) = files.first()
        && let Some(until) = end_of_wait(world, task, socket, which)?
    {
        if until <= world.clock.now() || task.woken == Some(Woken::Time) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        wait.until = Some(until);
    }
    Ok(Entry::Block(wait))
}

/// When a socket's own timeout ends a call's waiting.
fn end_of_wait(
    world: &mut World,
    task: &mut Task,
    socket: &OwnedFd,
    which: Timeout,
) -> io::Result<Option<u64>> {
    if let (None, Some(longest)) = (task.deadline, socket_timeout(socket, which)?) {
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        task.deadline = Some(world.clock.now().saturating_add(longest));
    }
    Ok(task.deadline)
}

fn read(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    match file(world, task) {
        Some(file) if !file.nonblocking && !is_ready(&file.fd, PollFlags::IN) => {
            wait_within(world, task, file, Timeout::Recv)
        }
        Some(_) if task.call() == libc::SYS_read && world.timers.last_file > 0 => {
            Ok(Entry::Make(super::timers::expiries_read))
        }
        Some(_) | None => Ok(Entry::Pass),
    }
}

fn recvfrom(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    receive(world, task, 3)
}

fn recvmsg(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    receive(world, task, 2)
}

fn receive(world: &mut World, task: &mut Task, flags: usize) -> io::Result<Entry> {
    let asked = task.int(flags);
    if asked & libc::MSG_DONTWAIT != 0 {
        return Ok(Entry::Pass);
    }
    if asked & libc::MSG_WAITALL == 0 {
        return read(world, task);
    }
    let collects = asked & libc::MSG_PEEK == 0 && is_blocking_stream(world, task);
    let without = asked & !libc::MSG_WAITALL;
    let entry = match read(world, task) {
        // its time is over
        Err(_) if task.written > 0 => {
            return Ok(Entry::Done(i64::try_from(task.written).unwrap_or(i64::MAX)));
        }
        entry => entry?,
    };
    if matches!(entry, Entry::Block(_)) {
        return Ok(entry);
    }
    if task.written > 0 {
        rest(task, libc::SYS_recvfrom)?;
        task.set_argument(3, u64::from(without.unsigned_abs()));
        task.set_argument(4, 0);
        task.set_argument(5, 0);
    } else {
        task.set_argument(flags, u64::from(without.unsigned_abs()));
    }
    Ok(if collects { Entry::Make(received) } else { entry })
}

/// Whether a call waits for a socket whose bytes have no ends of messages between them.
fn is_blocking_stream(world: &mut World, task: &Task) -> bool {
    file(world, task).is_some_and(|file| {
        !file.nonblocking && socket_type(&file.fd).is_ok_and(|kind| kind == SocketType::STREAM)
    })
}

/// One piece of what is to come as a whole is there.
fn received(world: &mut World, task: &mut Task) -> io::Result<()> {
    let more = u64::try_from(task.result()).unwrap_or(0);
    task.written = task.written.saturating_add(more);
    if more > 0 && task.written < pieces::total(&pieces::of(task, task.call_at_entry())?) {
        let fd = world.file(task, task.int(0))?;
        let until = end_of_wait(world, task, &fd, Timeout::Recv)?;
        task.again = Some(Wait {
            until,
            ..wait_for(fd, PollFlags::IN)
        });
    } else if task.written > 0 {
        task.set_result(i64::try_from(task.written).unwrap_or(i64::MAX));
    }
    Ok(())
}

fn accept(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let entry = read(world, task)?;
    Ok(if matches!(entry, Entry::Pass) {
        Entry::Make(accepted)
    } else {
        entry
    })
}

/// There is room for one more that waits to be connected.
fn accepted(world: &mut World, _: &mut Task) -> io::Result<()> {
    world.wake_all(On::is_of_others);
    Ok(())
}

fn write(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let total = task.argument(2);
    send(world, task, total)
}

fn writev(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let total = pieces::total(&pieces::of(task, task.call())?);
    send(world, task, total)
}

fn send(world: &mut World, task: &mut Task, total: u64) -> io::Result<Entry> {
    let Some(file) = file(world, task) else {
        return Ok(Entry::Pass);
    };
    // what reads the job's output is no part of it: however long that takes, the job sees a write that goes through
    if file.outer || file.nonblocking {
        return Ok(Entry::Pass);
    }
    if !is_ready(&file.fd, PollFlags::OUT) {
        return Ok(Entry::Block(wait_for(file.fd, PollFlags::OUT)));
    }
    if file.kind == FileType::Fifo && total <= PIPE_BUF {
        return Ok(Entry::Pass);
    }
    if task.written > 0 {
        rest(task, libc::SYS_write)?;
    }
    set_nonblocking(&file.fd, true)?;
    Ok(Entry::Make(written))
}

/// Makes the call one that writes or receives the next piece of what is left.
fn rest(task: &mut Task, call: libc::c_long) -> io::Result<()> {
    if let Some((address, length)) = pieces::from(&pieces::of(task, task.call_at_entry())?, task.written) {
        task.registers.orig_rax = u64::try_from(call).unwrap_or(1);
        task.set_argument(1, address);
        task.set_argument(2, length);
    }
    Ok(())
}

fn set_nonblocking(fd: &OwnedFd, on: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(fd)?;
    flags.set(OFlags::NONBLOCK, on);
    Ok(fcntl_setfl(fd, flags)?)
}

/// One piece of a blocking write is through, as much as there was room for.
fn written(world: &mut World, task: &mut Task) -> io::Result<()> {
    let fd = world.file(task, task.int(0))?;
    set_nonblocking(&fd, false)?;
    let total = pieces::total(&pieces::of(task, task.call_at_entry())?);
    let result = task.result();
    match u64::try_from(result) {
        Ok(more) => task.written = task.written.saturating_add(more),
        Err(_) if result == -i64::from(libc::EAGAIN) => {}
        Err(_) if task.written > 0 => {
            task.set_result(i64::try_from(task.written).unwrap_or(i64::MAX));
            return Ok(());
        }
        Err(_) => return Ok(()),
    }
    if task.written < total {
        task.again = Some(wait_for(fd, PollFlags::OUT));
    } else {
        task.set_result(i64::try_from(task.written).unwrap_or(i64::MAX));
    }
    Ok(())
}

fn sendto(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    send_socket(world, task, 3)
}

fn sendmsg(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    send_socket(world, task, 2)
}

fn send_socket(world: &mut World, task: &mut Task, flags: usize) -> io::Result<Entry> {
    let asked = task.int(flags);
    let Some(file) = file(world, task) else {
        return Ok(Entry::Pass);
    };
    if file.nonblocking || asked & libc::MSG_DONTWAIT != 0 {
        return Ok(Entry::Pass);
    }
    if !is_ready(&file.fd, PollFlags::OUT) {
        return wait_within(world, task, file, Timeout::Send);
    }
    if task.written > 0 && flags == 3 {
        task.set_argument(1, task.argument(1).wrapping_add(task.written));
        task.set_argument(2, task.argument(2).saturating_sub(task.written));
    }
    if task.written > 0 && flags == 2 {
        super::buffers::rest_of_message(task)?;
        return Ok(Entry::Make(sent_message));
    }
    task.set_argument(flags, u64::from((asked | libc::MSG_DONTWAIT).unsigned_abs()));
    Ok(Entry::Make(if flags == 3 { sent_to } else { sent_message }))
}

fn sent_to(world: &mut World, task: &mut Task) -> io::Result<()> {
    let result = task.result();
    match u64::try_from(result) {
        Ok(more) => task.written = task.written.saturating_add(more),
        Err(_) if result == -i64::from(libc::EAGAIN) => {}
        Err(_) => return Ok(()),
    }
    if task.written < task.argument(2) {
        let fd = world.file(task, task.int(0))?;
        task.again = Some(wait_for(fd, PollFlags::OUT));
    } else {
        task.set_result(i64::try_from(task.written).unwrap_or(i64::MAX));
    }
    Ok(())
}

fn sent_message(world: &mut World, task: &mut Task) -> io::Result<()> {
    if super::buffers::is_message_left(world, task)? {
        let fd = world.file(task, task.int(0))?;
        task.again = Some(wait_for(fd, PollFlags::OUT));
    }
    Ok(())
}

fn connect(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    match file(world, task) {
        Some(file) if !file.nonblocking => {
            set_nonblocking(&file.fd, true)?;
            Ok(Entry::Make(connected))
        }
        Some(_) | None => Ok(Entry::Pass),
    }
}

fn connected(world: &mut World, task: &mut Task) -> io::Result<()> {
    let fd = world.file(task, task.int(0))?;
    set_nonblocking(&fd, false)?;
    if task.result() == -i64::from(libc::EAGAIN) {
        task.again = Some(Wait {
            on: On::Others,
            until: None,
            signals: Signals::Make,
        });
    }
    Ok(())
}

/// `sendfile`: as much as there is room for. How much that is where the job's output goes out depends on who reads it:
/// there it does not work, so that programs write.
pub(super) fn send_file(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let Some(file) = file(world, task) else {
        return Ok(Entry::Pass);
    };
    if file.outer {
        observe::denied(world, task, libc::EINVAL);
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    if file.nonblocking {
        return Ok(Entry::Pass);
    }
    if !is_ready(&file.fd, PollFlags::OUT) {
        return Ok(Entry::Block(wait_for(file.fd, PollFlags::OUT)));
    }
    set_nonblocking(&file.fd, true)?;
    Ok(Entry::Make(file_sent))
}

fn file_sent(world: &mut World, task: &mut Task) -> io::Result<()> {
    let fd = world.file(task, task.int(0))?;
    set_nonblocking(&fd, false)?;
    if task.result() == -i64::from(libc::EAGAIN) {
        task.again = Some(wait_for(fd, PollFlags::OUT));
    }
    Ok(())
}

//! `fcntl`: the commands that every kernel and every file system answers alike.
//!
//! Leases, notices and signals of files come when the machine has time for them, and are not among them.

use std::io;

use rustix::fs::{OFlags, fcntl_getfl, fstat};

use super::{locks, outer};
use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::virt::Place;
use crate::supervisor::det::world::World;
use crate::sys::room;

pub(super) const RULES: &[Rule] = &[Rule(libc::SYS_fcntl, When::Always, fcntl)];

/// Those that need no look.
const KNOWN: [i32; 10] = [
    libc::F_DUPFD,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_SETOWN,
    libc::F_GETOWN,
    F_SETOWN_EX,
    F_GETOWN_EX,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETPIPE_SZ,
    libc::F_GET_SEALS,
];
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn fcntl(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    match task.int(1) {
        libc::F_SETLK
        | libc::F_SETLKW
        | libc::F_GETLK
        | libc::F_OFD_SETLK
        | libc::F_OFD_SETLKW
        | libc::F_OFD_GETLK => locks::record(world, task),
        libc::F_SETFL => set_flags(world, task),
        libc::F_GETFL => flags(world, task),
        libc::F_GETPIPE_SZ if outer::is_outer(world, task, task.int(0)) => {
            Ok(Entry::Done(i64::try_from(room::PIPE).unwrap_or(0)))
        }
        libc::F_SETPIPE_SZ => set_pipe_size(world, task),
        command if KNOWN.contains(&command) => Ok(Entry::Pass),
        _ => Err(error(libc::EINVAL)),
    }
}

/// A job may make a pipe smaller but not larger: how much more there may be depends on the machine. How much its output
/// goes out by, and whether less would do just now, is the service's matter.
fn set_pipe_size(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let most = u64::try_from(room::PIPE).unwrap_or(0);
    if task.argument(2) > most || outer::is_outer(world, task, task.int(0)) {
        return Err(error(libc::EPERM));
    }
    Ok(Entry::Pass)
}

/// A file that was made for the job is told as it has opened it.
fn flags(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if !world.has_made() {
        return Ok(Entry::Pass);
    }
    let file = world.file(task, task.int(0))?;
    let flags = fcntl_getfl(&file)?.bits().cast_signed();
    let inode = world.look_at(task, &file)?.0.inode;
    let told = world.made_flags(inode, flags);
    Ok(told.map_or(Entry::Pass, |flags| Entry::Done(flags.into())))
}

fn set_flags(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let asked = task.int(2);
    if asked & libc::O_ASYNC != 0 {
        return Err(error(libc::EINVAL));
    }
    if asked & (libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME) == 0 {
        return Ok(Entry::Pass);
    }
    let file = world.file(task, task.int(0))?;
    // which files can be used past the machine's memory is up to their file systems; a pipe may have been made so
    if asked & libc::O_DIRECT != 0 && !fcntl_getfl(&file)?.contains(OFlags::DIRECT) {
        observe::denied(world, task, libc::EINVAL);
        return Err(error(libc::EINVAL));
    }
    // an image is its service's own user's, who may be the job's
    if asked & libc::O_NOATIME != 0 && world.look_at(task, &file)?.1 == Place::System {
        return Err(error(libc::EPERM));
    }
    let stat = fstat(&file)?;
    if asked & libc::O_NONBLOCK != 0 && world.is_outer(stat.st_dev, stat.st_ino) {
        // it can always be written to, as a regular file
        task.set_argument(2, u64::from((asked & !libc::O_NONBLOCK).unsigned_abs()));
    }
    Ok(Entry::Pass)
}

//! File locks: taken without waiting, and tried again when somebody may have let go.

use std::io;

use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_flock, When::Always, flock),
    Rule(libc::SYS_fcntl, When::Always, fcntl),
    Rule(libc::SYS_close, When::Blocking, close),
];

fn flock(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let operation = task.int(1);
    if operation & libc::LOCK_UN != 0 {
        world.wake_all(|on| matches!(on, On::Others));
        return Ok(Entry::Pass);
    }
    if operation & libc::LOCK_NB != 0 {
        return Ok(Entry::Pass);
    }
    task.set_argument(1, u64::from((operation | libc::LOCK_NB).unsigned_abs()));
    Ok(Entry::Make(tried))
}

/// A pipe's size, which a job may make smaller but not larger.
const PIPE_BYTES: u64 = 65_536;

/// Commands that every kernel and every file system answers alike. Leases, notices and signals of files come when the
/// machine has time for them.
const KNOWN: [i32; 15] = [
    libc::F_DUPFD,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_OFD_GETLK,
    libc::F_SETOWN,
    libc::F_GETOWN,
    F_SETOWN_EX,
    F_GETOWN_EX,
    libc::F_DUPFD_CLOEXEC,
    libc::F_SETPIPE_SZ,
    libc::F_GETPIPE_SZ,
    libc::F_GET_SEALS,
];
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

fn fcntl(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let instead = match task.int(1) {
        libc::F_SETLKW => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_OFD_SETLK,
        libc::F_SETLK | libc::F_OFD_SETLK => {
            // it may let go of one
            world.wake_all(|on| matches!(on, On::Others));
            return Ok(Entry::Pass);
        }
        libc::F_SETPIPE_SZ if task.argument(2) > PIPE_BYTES => {
            // how much more there may be depends on the machine
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        libc::F_SETFL if task.int(2) & libc::O_ASYNC != 0 => return Err(invalid()),
        command if KNOWN.contains(&command) => return Ok(Entry::Pass),
        _ => return Err(invalid()),
    };
    task.set_argument(1, u64::from(instead.unsigned_abs()));
    Ok(Entry::Make(tried))
}

/// A file that is closed loses its locks.
fn close(world: &mut World, _: &mut Task) -> io::Result<Entry> {
    world.wake_all(|on| matches!(on, On::Others));
    Ok(Entry::Pass)
}

fn tried(_: &mut World, task: &mut Task) -> io::Result<()> {
    let result = task.result();
    if result == -i64::from(libc::EAGAIN) || result == -i64::from(libc::EACCES) {
        task.again = Some(Wait {
            on: On::Others,
            until: None,
            signals: Signals::Make,
        });
    }
    Ok(())
}

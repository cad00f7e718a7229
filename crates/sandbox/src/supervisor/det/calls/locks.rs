//! File locks: taken without waiting, and tried again when somebody may have let go.
//!
//! The system's files are those of every job of the machine, so that no lock of theirs is taken: one that shuts nobody
//! out is had at once, one that does is refused.

use std::io;
use std::rc::Rc;

use rustix::fs::OFlags;

use crate::supervisor::det::held::OpenFile;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::virt::Place;
use crate::supervisor::det::wait::{On, Signals, Wait};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_flock, When::Always, flock),
    Rule(libc::SYS_close, When::Blocking, close),
];

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn flock(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let operation = task.int(1);
    let kind = operation & !libc::LOCK_NB;
    // kernels differ about what else there may be
    if ![libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN].contains(&kind) {
        return Err(error(libc::EINVAL));
    }
    let file = world.open_file(task, task.int(0))?;
    if file.flags().contains(OFlags::PATH) {
        return Err(error(libc::EBADF));
    }
    if is_everybodys(world, task, &file)? {
        return if kind == libc::LOCK_EX {
            refuse(world, task)
        } else {
            Ok(Entry::Done(0))
        };
    }
    if kind == libc::LOCK_UN {
        world.wake_all(|on| matches!(on, On::Others));
        return Ok(Entry::Pass);
    }
    if operation & libc::LOCK_NB != 0 {
        return Ok(Entry::Pass);
    }
    task.set_argument(1, u64::from((operation | libc::LOCK_NB).unsigned_abs()));
    Ok(Entry::Make(tried))
}

/// Whether a file's locks are held against others of the machine: of the system's files, and of what has no inode of
/// its own (events, timers).
fn is_everybodys(world: &mut World, task: &Task, file: &Rc<OpenFile>) -> io::Result<bool> {
    let (real, place) = world.look_at(task, file)?;
    Ok(match place {
        Place::System => true,
        Place::Nowhere => real.mode & libc::S_IFMT == 0,
        Place::Job | Place::Proc | Place::Memory => false,
    })
}

fn refuse(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    observe::denied(world, task, libc::ENOLCK);
    Err(error(libc::ENOLCK))
}

/// The commands of `fcntl` that lock records, or ask for locks.
pub(super) fn record(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let command = task.int(1);
    let kind = i32::from(task.read_u32(task.argument(2))?.to_ne_bytes()[0]);
    if command == libc::F_OFD_GETLK && kind == libc::F_UNLCK {
        // newer kernels have an answer
        return Err(error(libc::EINVAL));
    }
    let file = world.open_file(task, task.int(0))?;
    if is_everybodys(world, task, &file)? {
        return record_of_everybodys(world, task, kind, file.flags());
    }
    let instead = match command {
        libc::F_SETLKW => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_OFD_SETLK,
        libc::F_SETLK | libc::F_OFD_SETLK => {
            // it may let go of one
            world.wake_all(|on| matches!(on, On::Others));
            return Ok(Entry::Pass);
        }
        _ => return Ok(Entry::Pass),
    };
    task.set_argument(1, u64::from(instead.unsigned_abs()));
    Ok(Entry::Make(tried))
}

fn record_of_everybodys(world: &mut World, task: &mut Task, kind: i32, flags: OFlags) -> io::Result<Entry> {
    let mode = flags & OFlags::RWMODE;
    let asks = matches!(task.int(1), libc::F_GETLK | libc::F_OFD_GETLK);
    match kind {
        _ if flags.contains(OFlags::PATH) => Err(error(libc::EBADF)),
        libc::F_RDLCK | libc::F_WRLCK if asks => {
            // nobody stands in its way
            let unlocked = i16::try_from(libc::F_UNLCK).unwrap_or(2);
            task.write(task.argument(2), &unlocked.to_ne_bytes())?;
            Ok(Entry::Done(0))
        }
        libc::F_RDLCK if mode == OFlags::WRONLY => Err(error(libc::EBADF)),
        libc::F_WRLCK if mode == OFlags::RDONLY => Err(error(libc::EBADF)),
        libc::F_WRLCK => refuse(world, task),
        libc::F_RDLCK | libc::F_UNLCK if !asks => Ok(Entry::Done(0)),
        _ => Err(error(libc::EINVAL)),
    }
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

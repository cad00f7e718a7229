//! File locks: taken without waiting, and tried again when somebody may have let go, or taken less.
//!
//! Whoever lets go of a lock, takes a weaker one instead, closes a file, executes a program or ends, wakes those that wait
//! for one. What no call tells (the last mapping of a file goes, a message that it was in is lost) they find out
//! by looking again from time to time.
//!
//! The system's files are those of every job of the machine, so that no lock of theirs is taken: one that shuts nobody
//! out is had at once, one that does is refused.

use std::io;
use std::rc::Rc;

use rustix::fs::OFlags;

use crate::supervisor::det::held::OpenFile;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::{Task, TaskId};
use crate::supervisor::det::virt::Place;
use crate::supervisor::det::wait::{On, Signals, Wait};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_flock, When::Always, flock),
    Rule(libc::SYS_close, When::Blocking, close),
    Rule(libc::SYS_close_range, When::Blocking, close),
    Rule(libc::SYS_dup2, When::Blocking, close),
    Rule(libc::SYS_dup3, When::Blocking, close),
];

/// Virtual nanoseconds after which a task that waits for a lock looks for it in any case.
const LOOK_NANOS: u64 = 100_000_000;

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
    if kind == libc::LOCK_UN || operation & libc::LOCK_NB != 0 {
        // whom an exclusive one shuts out is shut out by others where it is not to be had
        if kind != libc::LOCK_EX {
            wake(world);
        }
        return Ok(Entry::Pass);
    }
    task.set_argument(1, u64::from((operation | libc::LOCK_NB).unsigned_abs()));
    Ok(Entry::Make(tried_file))
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
        _ if kind == libc::F_UNLCK => command,
        libc::F_SETLKW if task.seeks_owner => libc::F_GETLK,
        libc::F_SETLKW => libc::F_SETLK,
        libc::F_OFD_SETLKW => libc::F_OFD_SETLK,
        _ => command,
    };
    if instead == command {
        if !is_question(command) && kind != libc::F_WRLCK {
            wake(world);
        }
        return Ok(Entry::Pass);
    }
    task.set_argument(1, u64::from(instead.unsigned_abs()));
    if instead == libc::F_GETLK {
        return seek_owner(task);
    }
    Ok(Entry::Make(tried_record))
}

const fn is_question(command: i32) -> bool {
    matches!(command, libc::F_GETLK | libc::F_OFD_GETLK)
}

fn record_of_everybodys(world: &mut World, task: &mut Task, kind: i32, flags: OFlags) -> io::Result<Entry> {
    let mode = flags & OFlags::RWMODE;
    let asks = is_question(task.int(1));
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
    wake(world);
    Ok(Entry::Pass)
}

/// Lets everybody who waits for a lock try again.
fn wake(world: &mut World) {
    world.wake_all(On::is_of_others);
}

fn is_taken(task: &Task) -> bool {
    [-i64::from(libc::EAGAIN), -i64::from(libc::EACCES)].contains(&task.result())
}

/// Lets a task wait for a lock.
fn wait(world: &mut World, task: &mut Task, on: On) {
    task.again = Some(Wait {
        on,
        until: Some(world.clock.now().saturating_add(LOOK_NANOS)),
        signals: Signals::Make,
    });
}

/// At the exit of a `flock` that is to wait.
fn tried_file(world: &mut World, task: &mut Task) -> io::Result<()> {
    if is_taken(task) {
        wait(world, task, On::Others);
    } else if task.result() == 0 {
        // it may be a weaker one than there was
        wake(world);
    }
    Ok(())
}

/// At the exit of a lock of records that is to be waited for.
fn tried_record(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == 0 {
        // it may be a weaker one than there was
        wake(world);
    } else if is_taken(task) && task.int(1) == libc::F_SETLKW {
        task.seeks_owner = true;
        task.retry_unseen();
    } else if is_taken(task) {
        wait(world, task, On::Others);
    }
    Ok(())
}

/// Bytes of a `flock` structure, and where in it the process is.
const RECORD_BYTES: usize = 32;
const RECORD_PROCESS: u64 = 24;

/// Asks for the process that has a lock in the place of taking it: the answer comes where the question is.
fn seek_owner(task: &mut Task) -> io::Result<Entry> {
    let place = task.argument(2);
    task.question = task.read_bytes(place, RECORD_BYTES)?;
    Ok(Entry::Make(owner_found))
}

/// Who has the lock is known: waits for it, unless that one waits for the asker.
fn owner_found(world: &mut World, task: &mut Task) -> io::Result<()> {
    task.seeks_owner = false;
    let question = std::mem::take(&mut task.question);
    let place = task.argument(2);
    let owner = task.read_u32(place.wrapping_add(RECORD_PROCESS));
    let is_free = task
        .read_u32(place)
        .map(|kind| i32::from(kind.to_ne_bytes()[0]) == libc::F_UNLCK);
    let is_known = task.result() == 0;
    // where it cannot be written to nothing was
    let _ = task.write(place, &question);
    match (is_known, is_free, owner) {
        (true, Ok(true), _) => task.retry_unseen(),
        // of an open file, or of nobody that there is
        (true, Ok(false), Ok(owner)) if world.processes.contains_key(&owner) => {
            if waits_for(world, owner, task.process) {
                return Err(error(libc::EDEADLK));
            }
            wait(world, task, On::Owner(owner));
        }
        (..) => wait(world, task, On::Others),
    }
    Ok(())
}

/// Whether a process waits for a lock of another one, or for one of somebody's that does, as far as the kernel looks.
fn waits_for(world: &World, process: TaskId, other: TaskId) -> bool {
    const MOST: usize = 10;
    let owner_that_stops = |process: TaskId| {
        let of_process = world.tasks.values().filter(|task| task.process == process);
        let mut owners = of_process.filter_map(|task| match task.wait.as_ref()?.on {
            On::Owner(owner) => Some(owner),
            On::Nothing | On::Files(_) | On::Futex(_) | On::Child | On::Writer(..) | On::Others => None,
        });
        owners.next()
    };
    std::iter::successors(owner_that_stops(process), |owner| owner_that_stops(*owner))
        .take(MOST)
        .any(|owner| owner == other)
}

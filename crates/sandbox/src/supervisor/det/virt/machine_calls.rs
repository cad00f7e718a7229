//! Calls that ask about the machine.

use std::io;

use rustix::process::{Resource, getrlimit as own_limit};

use super::machine::{self, RUSAGE_BYTES};
use crate::supervisor::det::clock::SECOND;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// When a job's virtual time begins, in nanoseconds since its boot.
const START: u64 = SECOND;
/// `RLIM_INFINITY`.
const NONE: u64 = u64::MAX;

fn invalid() -> Entry {
    Entry::Done(-i64::from(libc::EINVAL))
}

/// `uname`.
pub(super) fn uname(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    task.write(task.argument(0), &machine::utsname())?;
    Ok(Entry::Done(0))
}

/// `sysinfo`.
pub(super) fn sysinfo(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let uptime = world.clock.now() / SECOND;
    task.write(
        task.argument(0),
        &machine::sysinfo(uptime, world.det.memory_bytes),
    )?;
    Ok(Entry::Done(0))
}

/// `getrusage`: all of virtual time is the time of whoever asks; children have none.
pub(super) fn getrusage(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let usage: [u8; RUSAGE_BYTES] = match task.int(0) {
        libc::RUSAGE_SELF | libc::RUSAGE_THREAD => machine::rusage(world.clock.now().saturating_sub(START)),
        libc::RUSAGE_CHILDREN => machine::rusage(0),
        _ => return Ok(invalid()),
    };
    task.write(task.argument(1), &usage)?;
    Ok(Entry::Done(0))
}

/// `times`.
pub(super) fn times(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let now = world.clock.now();
    if task.argument(0) != 0 {
        task.write(task.argument(0), &machine::tms(now.saturating_sub(START)))?;
    }
    Ok(Entry::Done(i64::try_from(machine::ticks(now)).unwrap_or(0)))
}

/// `getcpu`: there is one.
pub(super) fn getcpu(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    for place in [task.argument(0), task.argument(1)] {
        if place != 0 {
            task.write(place, &[0; 4])?;
        }
    }
    Ok(Entry::Done(0))
}

/// `sched_getaffinity`: a mask of eight bytes, with one processor.
pub(super) fn sched_getaffinity(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (room, place) = (task.argument(1) & 0xffff_ffff, task.argument(2));
    if room < 8 || !room.is_multiple_of(8) {
        return Ok(invalid());
    }
    if !exists(world, task) {
        return Ok(Entry::Done(-i64::from(libc::ESRCH)));
    }
    task.write(place, &1_u64.to_le_bytes())?;
    Ok(Entry::Done(8))
}

/// `sched_setaffinity`: whoever wants the one processor among others gets it.
pub(super) fn sched_setaffinity(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (room, place) = (task.argument(1) & 0xffff_ffff, task.argument(2));
    if room == 0 {
        return Ok(invalid());
    }
    let mut first = [0];
    task.read(place, &mut first)?;
    if first[0] & 1 == 0 {
        return Ok(invalid());
    }
    if !exists(world, task) {
        return Ok(Entry::Done(-i64::from(libc::ESRCH)));
    }
    Ok(Entry::Done(0))
}

/// Whether the task that argument 0 names is one of the job's; 0 is the caller.
fn exists(world: &World, task: &Task) -> bool {
    let id = u32::try_from(task.int(0)).unwrap_or(u32::MAX);
    id == 0 || id == task.id || world.tasks.contains_key(&id)
}

/// `prlimit64`: limits that come from the machine are none.
pub(super) fn prlimit(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    if task.argument(2) != 0 && machine::is_without_effect(resource(task, 1)) {
        task.set_argument(2, 0);
    }
    let is_asked = task.argument(3) != 0 && machine::is_machines_limit(resource(task, 1));
    Ok(if is_asked {
        Entry::Make(limit_seen)
    } else {
        Entry::Pass
    })
}

/// `getrlimit`.
pub(super) fn getrlimit(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    let is_asked = machine::is_machines_limit(resource(task, 0));
    Ok(if is_asked {
        Entry::Make(limit_seen)
    } else {
        Entry::Pass
    })
}

/// `setrlimit`.
pub(super) fn setrlimit(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    Ok(if machine::is_without_effect(resource(task, 0)) {
        Entry::Done(0)
    } else {
        Entry::Pass
    })
}

fn resource(task: &Task, argument: usize) -> u32 {
    u32::try_from(task.int(argument)).unwrap_or(u32::MAX)
}

fn limit_seen(_: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != 0 {
        return Ok(());
    }
    let (which, place) = match task.call() {
        libc::SYS_prlimit64 => (resource(task, 1), task.argument(3)),
        _ => (resource(task, 0), task.argument(1)),
    };
    // What the job has set itself differs from what this process has inherited as well.
    let inherited = match which {
        libc::RLIMIT_AS => own_limit(Resource::As),
        libc::RLIMIT_RSS => own_limit(Resource::Rss),
        libc::RLIMIT_LOCKS => own_limit(Resource::Locks),
        libc::RLIMIT_RTTIME => own_limit(Resource::Rttime),
        // These are limits of the sandbox, which depend on how the machine enforces them.
        _ => return task.write_pair(place, (NONE, NONE)),
    };
    let told = |value: u64, inherited: Option<u64>| {
        if value == inherited.unwrap_or(NONE) {
            NONE
        } else {
            value
        }
    };
    let (soft, hard) = (task.read_u64(place)?, task.read_u64(place.saturating_add(8))?);
    task.write_pair(
        place,
        (told(soft, inherited.current), told(hard, inherited.maximum)),
    )
}

/// `getpriority`: 20 less the niceness, which begins at 0 and has no effect on one that runs alone.
pub(super) fn getpriority(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let Some(process) = whose(world, task)? else {
        return Ok(Entry::Done(-i64::from(libc::ESRCH)));
    };
    Ok(Entry::Done(20 - i64::from(niceness(world, process))))
}

/// `setpriority`: upwards only, as for everybody without rights.
pub(super) fn setpriority(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let Some(process) = whose(world, task)? else {
        return Ok(Entry::Done(-i64::from(libc::ESRCH)));
    };
    let wanted = task.int(2).clamp(-20, 19);
    if wanted < niceness(world, process) {
        return Ok(Entry::Done(-i64::from(libc::EACCES)));
    }
    world.virt.niceness.insert(process, wanted);
    Ok(Entry::Done(0))
}

/// The process that a call's first two arguments name; a group or user is the caller's, and stands for the caller.
fn whose(world: &World, task: &Task) -> io::Result<Option<u32>> {
    let which = u32::try_from(task.int(0)).unwrap_or(u32::MAX);
    let id = u32::try_from(task.int(1)).unwrap_or(u32::MAX);
    match which {
        libc::PRIO_PROCESS if id == 0 || id == task.id => Ok(Some(task.process)),
        libc::PRIO_PROCESS => Ok(world.tasks.get(&id).map(|other| other.process)),
        libc::PRIO_PGRP | libc::PRIO_USER => Ok(Some(task.process)),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// What a process has set, or else the one that made it.
fn niceness(world: &World, process: u32) -> i32 {
    let mut next = Some(process);
    while let Some(id) = next {
        if let Some(set) = world.virt.niceness.get(&id) {
            return *set;
        }
        next = world.processes.get(&id).map(|process| process.parent);
    }
    0
}

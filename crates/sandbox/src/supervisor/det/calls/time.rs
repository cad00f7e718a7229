//! What the time is, for those that ask by a call.

use std::io;

use crate::supervisor::det::clock::SECOND;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;
use crate::sys::vdso::CLOCK_STEP;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_clock_gettime, When::Always, clock_gettime),
    Rule(libc::SYS_gettimeofday, When::Always, gettimeofday),
    Rule(libc::SYS_time, When::Always, time),
    Rule(libc::SYS_clock_getres, When::Always, clock_getres),
];

/// Lets a look at the clock take its time, and others whose time has come run first next time.
fn look(world: &mut World, task: &mut Task) {
    world.clock.advance(CLOCK_STEP);
    world.look();
    if !world.ready.is_empty() {
        world.give_way(task);
    }
}

/// What a clock shows in nanoseconds. `None` for one that there is not.
pub(super) fn reading(world: &mut World, clock: i32) -> Option<u64> {
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI | libc::CLOCK_REALTIME_ALARM => {
            Some(world.clock.unix())
        }
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME
        | libc::CLOCK_BOOTTIME_ALARM
        | libc::CLOCK_PROCESS_CPUTIME_ID
        | libc::CLOCK_THREAD_CPUTIME_ID => Some(world.clock.now()),
        // another task's CPU time; those of descriptors end with bits 011
        clock if clock < 0 && clock & 7 != 3 => Some(world.clock.now()),
        _ => None,
    }
}

const INVALID: i64 = -(libc::EINVAL as i64);

fn clock_gettime(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    look(world, task);
    let Some(now) = reading(world, task.int(0)) else {
        return Ok(Entry::Done(INVALID));
    };
    task.write_pair(task.argument(1), (now / SECOND, now % SECOND))?;
    Ok(Entry::Done(0))
}

fn gettimeofday(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    look(world, task);
    let now = world.clock.unix();
    if task.argument(0) != 0 {
        task.write_pair(task.argument(0), (now / SECOND, now % SECOND / 1000))?;
    }
    if task.argument(1) != 0 {
        task.write(task.argument(1), &[0; 8])?;
    }
    Ok(Entry::Done(0))
}

fn time(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    look(world, task);
    let seconds = world.clock.unix() / SECOND;
    if task.argument(0) != 0 {
        task.write(task.argument(0), &seconds.to_ne_bytes())?;
    }
    Ok(Entry::Done(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

fn clock_getres(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if reading(world, task.int(0)).is_none() {
        return Ok(Entry::Done(INVALID));
    }
    if task.argument(1) != 0 {
        task.write_pair(task.argument(1), (0, 1))?;
    }
    Ok(Entry::Done(0))
}

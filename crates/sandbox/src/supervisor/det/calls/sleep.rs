//! `nanosleep` and `clock_nanosleep`: nobody sleeps, virtual time jumps.

use std::io;

use super::time::reading;
use crate::supervisor::det::clock::SECOND;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait, Woken};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_nanosleep, When::Always, nanosleep),
    Rule(libc::SYS_clock_nanosleep, When::Always, clock_nanosleep),
];

const INVALID: i64 = -(libc::EINVAL as i64);

/// A `timespec` in a task's memory, in nanoseconds. EINVAL for one that is none.
pub(super) fn timespec(task: &Task, address: u64) -> io::Result<u64> {
    let (seconds, nanos) = (task.read_u64(address)?, task.read_u64(address.wrapping_add(8))?);
    if nanos >= SECOND || seconds > i64::MAX.unsigned_abs() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanos))
}

fn nanosleep(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let until = match task.deadline {
        Some(until) => until,
        None => world
            .clock
            .now()
            .saturating_add(timespec(task, task.argument(0))?),
    };
    sleep(world, task, until, task.argument(1))
}

fn clock_nanosleep(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const ABSOLUTE: i32 = 1;
    let Some(reading) = reading(world, task.int(0)) else {
        return Ok(Entry::Done(INVALID));
    };
    let is_absolute = task.int(1) & ABSOLUTE != 0;
    let until = match task.deadline {
        Some(until) => until,
        None => {
            let time = timespec(task, task.argument(2))?;
            let left = if is_absolute {
                time.saturating_sub(reading)
            } else {
                time
            };
            world.clock.now().saturating_add(left)
        }
    };
    sleep(world, task, until, if is_absolute { 0 } else { task.argument(3) })
}

fn sleep(world: &mut World, task: &mut Task, until: u64, rest: u64) -> io::Result<Entry> {
    task.deadline = Some(until);
    let left = until.saturating_sub(world.clock.now());
    if left == 0 || task.woken == Some(Woken::Time) {
        return Ok(Entry::Done(0));
    }
    if rest != 0 {
        // read only where a signal ends the sleep
        task.write_pair(rest, (left / SECOND, left % SECOND))?;
    }
    Ok(Entry::Block(Wait {
        on: On::Nothing,
        until: Some(until),
        signals: Signals::Fail,
    }))
}

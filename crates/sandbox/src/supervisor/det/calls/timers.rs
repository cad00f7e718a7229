//! Setting timers: none of the kernel's own ever runs.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

use crate::supervisor::det::clock::SECOND;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::timers::{Effect, Name, Setting, Timer};
use crate::supervisor::det::world::World;
use crate::sys::trace;
use crate::sys::vdso::EPOCH_SECONDS;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_alarm, When::Always, alarm),
    Rule(libc::SYS_setitimer, When::Always, setitimer),
    Rule(libc::SYS_getitimer, When::Always, getitimer),
    Rule(libc::SYS_timer_create, When::Always, timer_create),
    Rule(libc::SYS_timer_settime, When::Always, timer_settime),
    Rule(libc::SYS_timer_gettime, When::Always, timer_gettime),
    Rule(libc::SYS_timer_getoverrun, When::Always, timer_getoverrun),
    Rule(libc::SYS_timer_delete, When::Always, timer_delete),
    Rule(libc::SYS_timerfd_settime, When::Always, timerfd_set),
    Rule(libc::SYS_timerfd_gettime, When::Always, timerfd_get),
];

/// Timer descriptors at once whose settings are remembered.
const MOST_FILES: usize = 1024;
/// So few are not looked through for closed ones.
const FEW_FILES: usize = 64;

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// What is left until an expiry, and the interval.
fn left(world: &mut World, setting: Setting) -> (u64, u64) {
    let now = world.clock.now();
    // one that is on is never shown as off
    let left = setting.due.map_or(0, |due| due.saturating_sub(now).max(1000));
    (left, setting.interval)
}

/// Sets a timer; what was left of its last setting.
fn set(world: &mut World, name: Name, effect: Effect, value: u64, interval: u64) -> (u64, u64) {
    let now = world.clock.now();
    let old = world
        .timers
        .all
        .get(&name)
        .map(|timer| timer.setting)
        .unwrap_or_default();
    let due = (value > 0).then(|| now.saturating_add(value));
    let setting = Setting::new(due, interval);
    world.timers.all.insert(name, Timer { setting, effect });
    world.due_changed = true;
    left(world, old)
}

const fn alarm_effect() -> Effect {
    Effect::Signal {
        signal: libc::SIGALRM,
        value: 0,
        thread: None,
    }
}

fn alarm(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let seconds = u64::from(u32::from_ne_bytes(task.int(0).to_ne_bytes()));
    let (left, _) = set(
        world,
        Name::Alarm(task.process),
        alarm_effect(),
        seconds.saturating_mul(SECOND),
        0,
    );
    Ok(Entry::Done(
        i64::try_from(left.div_ceil(SECOND)).unwrap_or(i64::MAX),
    ))
}

/// A `timeval` in nanoseconds.
fn timeval(task: &Task, address: u64) -> io::Result<u64> {
    let (seconds, micros) = (task.read_u64(address)?, task.read_u64(address.wrapping_add(8))?);
    if micros >= 1_000_000 || seconds > i64::MAX.unsigned_abs() {
        return Err(invalid());
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(micros * 1000))
}

fn write_timevals(task: &Task, address: u64, (value, interval): (u64, u64)) -> io::Result<()> {
    if address == 0 {
        return Ok(());
    }
    task.write_pair(address, (interval / SECOND, interval % SECOND / 1000))?;
    task.write_pair(address.wrapping_add(16), (value / SECOND, value % SECOND / 1000))
}

fn setitimer(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let new = task.argument(1);
    let (interval, value) = if new == 0 {
        (0, 0)
    } else {
        (timeval(task, new)?, timeval(task, new.wrapping_add(16))?)
    };
    let old = match task.int(0) {
        libc::ITIMER_REAL => set(world, Name::Alarm(task.process), alarm_effect(), value, interval),
        // CPU time does not pass
        libc::ITIMER_VIRTUAL | libc::ITIMER_PROF => (0, 0),
        _ => return Err(invalid()),
    };
    write_timevals(task, task.argument(2), old)?;
    Ok(Entry::Done(0))
}

fn getitimer(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let setting = match task.int(0) {
        libc::ITIMER_REAL => world
            .timers
            .all
            .get(&Name::Alarm(task.process))
            .map(|timer| timer.setting),
        libc::ITIMER_VIRTUAL | libc::ITIMER_PROF => None,
        _ => return Err(invalid()),
    };
    let shown = left(world, setting.unwrap_or_default());
    write_timevals(task, task.argument(1), shown)?;
    Ok(Entry::Done(0))
}

/// The kernel makes it, for its number; it is never started.
fn timer_create(_: &mut World, _: &mut Task) -> io::Result<Entry> {
    Ok(Entry::Make(timer_created))
}

fn timer_created(world: &mut World, task: &mut Task) -> io::Result<()> {
    const THREAD: u32 = 4;
    const NONE: u32 = 1;
    if task.result() != 0 {
        return Ok(());
    }
    let number = task.read_u32(task.argument(2))?;
    let mut effect = Effect::Signal {
        signal: libc::SIGALRM,
        value: number.into(),
        thread: None,
    };
    let event = task.argument(1);
    if event != 0 {
        let notify = task.read_u32(event.wrapping_add(12))?;
        let signal = i32::try_from(task.read_u32(event.wrapping_add(8))?).unwrap_or(libc::SIGALRM);
        let value = task.read_u64(event)?;
        let thread = if notify & THREAD == 0 {
            None
        } else {
            Some(task.read_u32(event.wrapping_add(16))?)
        };
        effect = if notify == NONE {
            Effect::Nothing
        } else {
            Effect::Signal {
                signal,
                value,
                thread,
            }
        };
    }
    let timer = Timer {
        setting: Setting::default(),
        effect,
    };
    world.timers.all.insert(Name::Posix(task.process, number), timer);
    Ok(())
}

/// The `itimerspec` at an address: value and interval.
fn itimerspec(task: &Task, address: u64) -> io::Result<(u64, u64)> {
    Ok((
        super::sleep::timespec(task, address.wrapping_add(16))?,
        super::sleep::timespec(task, address)?,
    ))
}

fn write_itimerspec(task: &Task, address: u64, (value, interval): (u64, u64)) -> io::Result<()> {
    if address == 0 {
        return Ok(());
    }
    task.write_pair(address, (interval / SECOND, interval % SECOND))?;
    task.write_pair(address.wrapping_add(16), (value / SECOND, value % SECOND))
}

/// A value from now on, of one that may be a time of a clock.
fn relative(world: &mut World, value: u64, absolute: bool) -> u64 {
    if !absolute || value == 0 {
        return value;
    }
    let now = world.clock.now();
    let epoch = EPOCH_SECONDS * SECOND;
    // a time of the clock that counts from 1970 is far beyond any of the other
    let time = if value >= epoch / 2 {
        value.saturating_sub(epoch)
    } else {
        value
    };
    time.saturating_sub(now).max(1)
}

fn posix(task: &Task) -> Name {
    Name::Posix(task.process, u32::from_ne_bytes(task.int(0).to_ne_bytes()))
}

fn timer_settime(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (value, interval) = itimerspec(task, task.argument(2))?;
    let value = relative(world, value, task.int(1) & 1 != 0);
    let old = world.timers.all.get(&posix(task)).ok_or_else(invalid)?.setting;
    let old = left(world, old);
    let now = world.clock.now();
    world.due_changed = true;
    if let Some(timer) = world.timers.all.get_mut(&posix(task)) {
        let due = (value > 0).then(|| now.saturating_add(value));
        timer.setting = Setting::new(due, interval);
    }
    write_itimerspec(task, task.argument(3), old)?;
    Ok(Entry::Done(0))
}

fn timer_gettime(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let setting = world.timers.all.get(&posix(task)).ok_or_else(invalid)?.setting;
    let shown = left(world, setting);
    write_itimerspec(task, task.argument(1), shown)?;
    Ok(Entry::Done(0))
}

fn timer_getoverrun(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    world.timers.all.get(&posix(task)).ok_or_else(invalid)?;
    Ok(Entry::Done(0))
}

fn timer_delete(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    world.timers.all.remove(&posix(task));
    Ok(Entry::Pass)
}

/// The remembered timer behind a descriptor.
fn behind(world: &World, task: &Task) -> Option<Name> {
    let number = u64::from(task.int(0).unsigned_abs());
    let mut known = world
        .timers
        .all
        .iter()
        .filter_map(|(name, timer)| match &timer.effect {
            Effect::Readable { file, .. } => Some((*name, file)),
            Effect::Signal { .. } | Effect::Nothing => None,
        });
    known
        .find(|(_, file)| trace::is_same_file(file.as_raw_fd(), task.host, number))
        .map(|(name, _)| name)
}

fn switch_off(file: &OwnedFd) -> io::Result<()> {
    let none = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let off = Itimerspec {
        it_interval: none,
        it_value: none,
    };
    timerfd_settime(file, TimerfdTimerFlags::empty(), &off)?;
    Ok(())
}

fn timerfd_set(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let file = world.file(task, task.int(0))?;
    // also tells whether it is one
    switch_off(&file)?;
    let (value, interval) = itimerspec(task, task.argument(2))?;
    let value = relative(world, value, task.int(1) & 1 != 0);
    let known = behind(world, task);
    if known.is_none() && world.timers.all.len() >= world.timers.look_at.clamp(FEW_FILES, MOST_FILES) {
        world.forget_closed_timers(|_| true);
        world.timers.look_at = 2 * world.timers.all.len();
    }
    let name = match known {
        Some(name) => name,
        None if world.timers.all.len() < MOST_FILES => {
            world.timers.last_file += 1;
            Name::File(world.timers.last_file)
        }
        None => return Err(io::Error::from_raw_os_error(libc::ENOMEM)),
    };
    let old = set(world, name, Effect::Readable { file, count: 0 }, value, interval);
    write_itimerspec(task, task.argument(3), old)?;
    Ok(Entry::Done(0))
}

fn timerfd_get(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let Some(name) = behind(world, task) else {
        return Ok(Entry::Pass);
    };
    let setting = world
        .timers
        .all
        .get(&name)
        .map(|timer| timer.setting)
        .unwrap_or_default();
    let shown = left(world, setting);
    write_itimerspec(task, task.argument(1), shown)?;
    Ok(Entry::Done(0))
}

/// A read has taken a descriptor's expiries: it gets their virtual number.
pub(super) fn expiries_read(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != 8 {
        return Ok(());
    }
    let Some(name) = behind(world, task) else {
        return Ok(());
    };
    if let Some(Timer {
        effect: Effect::Readable { count, .. },
        ..
    }) = world.timers.all.get_mut(&name)
    {
        let expiries = std::mem::take(count).max(1);
        task.write(task.argument(1), &expiries.to_ne_bytes())?;
    }
    Ok(())
}

//! Timers in virtual time: `alarm` and `setitimer`, POSIX timers, timer descriptors.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

use super::calls::is_ready;
use super::task::TaskId;
use super::wait::On;
use super::world::World;
use crate::sys::trace;

/// What a timer is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// `ITIMER_REAL` of a process.
    Alarm(TaskId),
    /// A POSIX timer: process and number.
    Posix(TaskId, u32),
    /// A timer descriptor, by a number of ours.
    File(u32),
}

/// When a timer is due, and again after that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Setting {
    /// Virtual time; `None` while it is off.
    pub(super) due: Option<u64>,
    /// Nanoseconds from one expiry to the next; 0: one expiry.
    pub(super) interval: u64,
}

impl Setting {
    /// A setting. What comes more often than once in a microsecond comes as often as that.
    pub(super) fn new(due: Option<u64>, interval: u64) -> Self {
        const SHORTEST: u64 = 1_000;
        let interval = if interval == 0 { 0 } else { interval.max(SHORTEST) };
        Self { due, interval }
    }
}

/// What an expiry does.
#[derive(Debug)]
pub(super) enum Effect {
    /// A signal, with this value, to a process or to one thread of it.
    Signal {
        signal: i32,
        value: u64,
        thread: Option<TaskId>,
    },
    /// The descriptor becomes readable. The copy stands for all copies; the count is of expiries not read yet.
    Readable { file: OwnedFd, count: u64 },
    /// Nothing.
    Nothing,
}

/// A timer.
#[derive(Debug)]
pub(super) struct Timer {
    pub(super) setting: Setting,
    pub(super) effect: Effect,
}

/// All timers of a job.
#[derive(Debug, Default)]
pub(super) struct Timers {
    pub(super) all: BTreeMap<Name, Timer>,
    pub(super) last_file: u32,
    /// So many timers are looked through for closed ones.
    pub(super) look_at: usize,
}

impl Timers {
    /// When the next one is due.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.all.values().filter_map(|timer| timer.setting.due).min()
    }

    /// Forgets what a process that executes a program loses: its POSIX timers.
    pub(super) fn forget_posix(&mut self, process: TaskId) {
        self.all
            .retain(|name, _| !matches!(name, Name::Posix(of, _) if *of == process));
    }

    /// Forgets a process's timers.
    pub(super) fn forget(&mut self, process: TaskId) {
        self.all.retain(|name, _| match name {
            Name::Alarm(of) | Name::Posix(of, _) => *of != process,
            Name::File(_) => true,
        });
    }
}

impl World {
    /// Lets every timer expire whose time has come, in order of time.
    pub(super) fn expire(&mut self, now: u64) {
        loop {
            let due = self
                .timers
                .all
                .iter()
                .filter_map(|(name, timer)| Some((timer.setting.due?, *name)));
            let Some((due, name)) = due.min().filter(|(due, _)| *due <= now) else {
                return;
            };
            let Some(timer) = self.timers.all.get_mut(&name) else {
                return;
            };
            let interval = timer.setting.interval;
            // of many expiries that nobody could see one by one, all count
            let missed = (now - due).checked_div(interval).unwrap_or(0);
            // a job can set its clock to the end of time: nothing is due after that
            timer.setting.due = (interval > 0)
                .then(|| due.saturating_add(missed.saturating_add(1).saturating_mul(interval)))
                .filter(|next| *next > now);
            match &mut timer.effect {
                Effect::Readable { file, count } => {
                    // that nobody reads it may be because nobody can any more
                    let is_left = *count > 0 && count.is_power_of_two();
                    *count = count.saturating_add(missed).saturating_add(1);
                    make_readable(file);
                    if is_left {
                        self.forget_closed_timers(|known| known == name);
                    }
                }
                Effect::Signal {
                    signal,
                    value,
                    thread,
                } => {
                    let (signal, value, thread) = (*signal, *value, *thread);
                    self.send(name, signal, value, thread);
                }
                Effect::Nothing => {}
            }
        }
    }

    /// Forgets timers whose descriptors every process has closed, of those that are asked for.
    pub(super) fn forget_closed_timers(&mut self, asked: impl Fn(Name) -> bool) {
        let files = self
            .timers
            .all
            .iter()
            .filter_map(|(name, timer)| match &timer.effect {
                Effect::Readable { file, .. } if asked(*name) => Some((*name, file)),
                Effect::Readable { .. } | Effect::Signal { .. } | Effect::Nothing => None,
            });
        let closed = files.filter(|(_, file)| !self.is_open(file));
        let closed: Vec<Name> = closed.map(|(name, _)| name).collect();
        for name in closed {
            self.timers.all.remove(&name);
        }
    }

    /// Whether a process has a timer descriptor open. One whose files cannot be looked at may have it.
    fn is_open(&self, file: &OwnedFd) -> bool {
        let has = |id: TaskId, host: i32| -> io::Result<bool> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(&self.proc, format!("{id}/fd"), flags, Mode::empty())?;
            for entry in Dir::read_from(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                let is_timer = readlinkat(&directory, name, Vec::new())
                    .is_ok_and(|link| link.as_bytes() == b"anon_inode:[timerfd]");
                let number = name.to_str().ok().and_then(|name| name.parse().ok());
                if is_timer
                    && number.is_some_and(|number| trace::is_same_file(file.as_raw_fd(), host, number))
                {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        self.processes
            .iter()
            .any(|(id, process)| has(*id, process.host).unwrap_or(true))
    }

    fn send(&mut self, name: Name, signal: i32, value: u64, thread: Option<TaskId>) {
        let (Name::Alarm(process) | Name::Posix(process, _)) = name else {
            return;
        };
        let Some(leader) = self.processes.get(&process).map(|process| process.host) else {
            return;
        };
        let own = thread.and_then(|thread| self.host_of(thread));
        // fails for one that is dead, which needs no signal
        let _ = match name {
            Name::Alarm(_) => trace::signal_process(leader, signal),
            Name::Posix(_, number) => trace::send_expiry(leader, own, signal, (number.cast_signed(), value)),
            Name::File(_) => Ok(()),
        };
        self.note_sent(signal);
        if signal == libc::SIGKILL {
            self.dying.push(process);
        }
    }

    fn host_of(&self, id: TaskId) -> Option<i32> {
        self.by_host
            .iter()
            .find(|(_, known)| **known == id)
            .map(|(host, _)| *host)
    }

    /// Somebody has got a signal.
    pub(super) fn note_signal(&mut self) {
        self.signals += 1;
        self.wake_all(On::is_of_others);
    }
}

/// Lets the real timer behind a descriptor expire once, now.
fn make_readable(file: &OwnedFd) {
    /// Looks until it has: the kernel takes some microseconds.
    const MOST: u32 = 1_000_000;
    let none = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let at_once = Itimerspec {
        it_interval: none,
        it_value: Timespec {
            tv_sec: 0,
            tv_nsec: 1,
        },
    };
    if timerfd_settime(file, TimerfdTimerFlags::empty(), &at_once).is_err() {
        return;
    }
    for _ in 0..MOST {
        if is_ready(file, PollFlags::IN) {
            return;
        }
        std::thread::yield_now();
    }
}

//! Signals: whether one is waiting for a task, and job control.

use std::fs::File;
use std::io::{self, Read as _};

use rustix::fs::{Mode, OFlags, openat};

use super::run::Engine;
use super::task::{Next, Task, TaskId};
use super::wait::{Signals, Woken};
use super::world::World;

/// Signals whose default is to do nothing: CHLD, CONT, URG, WINCH.
const HARMLESS: u64 = mask(libc::SIGCHLD) | mask(libc::SIGCONT) | mask(libc::SIGURG) | mask(libc::SIGWINCH);

/// Signals of job control that others may send to all of a machine's processes.
const CONTROL: u64 = mask(libc::SIGSTOP) | mask(libc::SIGCONT);

/// A signal's bit in a set.
pub(super) const fn mask(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The sets of /proc/pid/status.
#[derive(Debug, Clone, Copy, Default)]
struct Sets {
    own: u64,
    shared: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

impl Sets {
    /// Signals that would do something to a task which blocks `blocked`.
    const fn effective(self, blocked: u64) -> u64 {
        let ignored = self.ignored | (HARMLESS & !self.caught);
        (self.own | self.shared) & !blocked & !ignored
    }

    const fn ends(self, how: Signals) -> bool {
        match how {
            Signals::Make | Signals::Fail => self.effective(self.blocked) != 0,
            Signals::MakeUnder(blocked) => self.effective(blocked) != 0,
            Signals::Take(wanted) => {
                (self.own | self.shared) & wanted != 0 || self.effective(self.blocked & !wanted) != 0
            }
        }
    }
}

impl World {
    /// A file of the job's `/proc`.
    pub(super) fn proc_text(&self, name: &str) -> io::Result<String> {
        let file = openat(&self.proc, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        // names of tasks and files are any bytes
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The job has sent this signal to somebody.
    pub(super) fn note_sent(&mut self, signal: i32) {
        if matches!(signal, libc::SIGSTOP | libc::SIGCONT) {
            self.own_control |= mask(signal);
        }
        self.note_signal();
    }

    fn sets(&self, id: TaskId) -> Sets {
        let Ok(text) = self.proc_text(&format!("{id}/status")) else {
            return Sets::default();
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
                .unwrap_or(0)
        };
        let foreign = CONTROL & !self.own_control;
        Sets {
            own: field("SigPnd:") & !foreign,
            shared: field("ShdPnd:") & !foreign,
            blocked: field("SigBlk:"),
            ignored: field("SigIgn:"),
            caught: field("SigCgt:"),
        }
    }

    /// Whether a signal would end this wait of a task.
    pub(super) fn is_pending(&self, task: &Task, how: Signals) -> bool {
        self.sets(task.id).ends(how)
    }

    /// Lets every task go on that job control has stopped.
    pub(super) fn release_stopped(&mut self) {
        let held = self.tasks.values().filter(|task| task.next == Next::Held);
        let held: Vec<TaskId> = held.map(|task| task.id).collect();
        let waiting: Vec<TaskId> = self
            .processes
            .values()
            .filter_map(|process| process.releases)
            .collect();
        for id in held.into_iter().filter(|id| !waiting.contains(id)) {
            self.release(id);
        }
        self.wake_all(|on| matches!(on, super::wait::On::Child));
    }

    /// A task has killed others, whose deaths are waited for: of whole processes, each after the other.
    pub(super) fn reap_killed(&mut self, killer: &Task) {
        // the one that is named, if one is; a descriptor names none here
        let named = (killer.call_at_entry() != libc::SYS_pidfd_send_signal)
            .then(|| TaskId::try_from(killer.int(0)).ok())
            .flatten();
        let processes: Vec<TaskId> = self
            .processes
            .keys()
            .copied()
            .filter(|id| *id != killer.process)
            .collect();
        for process in processes {
            // one that is gone has been reported already
            let text = self.proc_text(&format!("{process}/status"));
            let is_dying = text.map_or(true, |text| {
                let state = text.lines().find_map(|line| line.strip_prefix("State:"));
                let shared = text.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
                let shared = shared
                    .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
                    .unwrap_or(0);
                state.is_some_and(|state| state.trim().starts_with(['Z', 'X']))
                    || shared & mask(libc::SIGKILL) != 0
            });
            if is_dying || named == Some(process) {
                self.dying.push(process);
            }
        }
    }

    /// Wakes the tasks whose waits are ended by signals that have come.
    pub(super) fn deliver(&mut self) {
        let signals = self.signals;
        let waiting = self
            .tasks
            .values()
            .filter(|task| task.signals_seen != Some(signals))
            .filter_map(|task| Some((task.id, task.wait.as_ref()?.signals)));
        let waiting: Vec<(TaskId, Signals)> = waiting.collect();
        for (id, how) in waiting {
            if self.sets(id).ends(how) {
                self.wake(id, Woken::Signal);
            } else if let Some(task) = self.tasks.get_mut(&id) {
                task.signals_seen = Some(signals);
            }
        }
    }

    /// A task whose call was rewound goes on: with a signal the kernel would run its handler now, whose own calls are
    /// none of this one, so that this one ends first.
    pub(super) fn end_rewound(&mut self, task: &mut Task) {
        if let Some(how) = task.rewound.take()
            && task.signals_seen != Some(self.signals)
            && self.is_pending(task, Signals::Make)
        {
            task.interrupt(how);
        }
    }
}

impl Engine {
    /// A task's group stop, or the news that it may go on.
    pub(super) fn stopped(&mut self, task: &mut Task, signal: i32) -> io::Result<bool> {
        let held = matches!(
            signal,
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
        );
        task.next = if held { Next::Held } else { Next::Run(0) };
        if !held {
            task.note_repeat()?;
        }
        if held {
            self.world
                .wake_all(|on| matches!(on, super::wait::On::Child) || on.is_of_others());
            self.world.note_signal();
        }
        Ok(!held)
    }
}

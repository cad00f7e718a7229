//! Tasks that end.

use std::io;

use super::observe;
use super::patience::Patience;
use super::run::{Engine, Step};
use super::task::{Next, Task, TaskId};
use super::wait::On;
use super::world::World;
use crate::sys::WaitStatus;
use crate::sys::trace::{self, HostId, Report};
use crate::wire::End;

/// The job's main process, inside.
const MAIN: TaskId = 2;

impl Engine {
    /// A task is dead.
    pub(super) fn died(&mut self, task: Box<Task>, report: Report) -> Step {
        self.forget(&task);
        let process = task.process;
        if task.id == process {
            return self.process_died(&task, report);
        }
        // a signal ends the whole process; the others are reported one by one, its leader last
        let known = self.world.processes.get_mut(&process);
        let ending = known.is_some_and(|process| {
            process.ending |= matches!(report, Report::Killed(_));
            process.ending
        });
        if ending || self.world.has_only_leader(process, Next::Dead) {
            self.reap_process(process)
        } else {
            self.world.let_leader_go(process);
            Step::Over
        }
    }

    /// A leader is dead: the kernel reports it last, so that all of its process is.
    fn process_died(&mut self, leader: &Task, report: Report) -> Step {
        for id in self.world.threads_of(leader.process) {
            if let Some(task) = self.world.tasks.remove(&id) {
                self.forget(&task);
            }
        }
        let world = &mut self.world;
        let status = match report {
            Report::Killed(signal) => WaitStatus::Signal(signal),
            Report::Exited(code) => WaitStatus::Code(code),
            Report::Event(..) | Report::Call | Report::Signal(_) => WaitStatus::Code(0),
        };
        if let Some(parent) = world
            .processes
            .remove(&leader.process)
            .and_then(|process| process.releases)
        {
            world.release(parent);
        }
        world.held.forget(leader.process);
        world.virt.forget_directory(leader.process);
        observe::ended(world, leader.process, status);
        world.wake_all(|on| matches!(on, On::Child) || on.is_of_others());
        world.timers.forget(leader.process);
        world.note_signal();
        if leader.process == MAIN {
            return Step::End(End::Exit(status));
        }
        if matches!(report, Report::Killed(signal) if i32::from(signal) == libc::SIGKILL) {
            // what it sent to itself may have gone to others as well
            world.reap_killed(leader);
        }
        match world.await_reaper(leader.process) {
            Ok(()) => Step::Over,
            Err(error) => lost(leader.process, &error),
        }
    }

    /// Forgets a dead task, and does for others what the kernel does at its end.
    pub(super) fn forget(&mut self, task: &Task) {
        self.deaths.remove(&task.id);
        self.world.by_host.remove(&task.host);
        self.world.futexes.forget(task.id);
        self.world.clock.lose(task);
        self.world.forget_space(task.space);
        self.world.wake_exit(task);
    }

    /// Waits for the deaths of all tasks of a process that is ending, in order of their numbers.
    pub(super) fn reap_process(&mut self, process: TaskId) -> Step {
        while self.world.processes.contains_key(&process) {
            let threads = self.world.threads_of(process);
            // not the leader as long as there are others: the kernel reports it last
            let next = threads
                .iter()
                .filter(|id| **id != process)
                .chain(threads.iter())
                .next()
                .copied();
            let Some(next) = next else { break };
            if !self.deaths.contains_key(&next) && !self.world.is_dying(next) {
                // a filter of the job's own, say, has killed one thread alone
                if let Some(process) = self.world.processes.get_mut(&process) {
                    process.ending = false;
                }
                self.world.let_leader_go(process);
                break;
            }
            let report = match self.death(next) {
                Ok(report) => report,
                Err(error) => return lost(next, &error),
            };
            let Some(task) = self.world.tasks.remove(&next) else {
                continue;
            };
            if next == process {
                return self.died(task, report);
            }
            self.forget(&task);
        }
        Step::Over
    }

    /// Waits for the report of a task's death, unless that has come already.
    fn death(&mut self, id: TaskId) -> io::Result<Report> {
        let host = self.world.tasks.get(&id).map(|task| task.host);
        let patience = Patience::new();
        loop {
            if let Some(report) = self.deaths.remove(&id) {
                return Ok(report);
            }
            match host.map(|host| trace::wait(host, true)) {
                Some(Ok(Some((_, report @ (Report::Exited(_) | Report::Killed(_)))))) => return Ok(report),
                Some(Ok(_)) if patience.is_over() => return Err(io::ErrorKind::TimedOut.into()),
                Some(Ok(_)) => {}
                // nothing is left of it
                Some(Err(_)) | None => return Ok(Report::Exited(0)),
            }
        }
    }

    /// Takes note of the death of a task whose turn it is not. When that is reported depends on the moment, so that
    /// it is looked at only where the task is known to be dead.
    pub(super) fn note_death(&mut self, host: HostId, report: Report) {
        if let Some(id) = self.world.by_host.get(&host) {
            self.deaths.insert(*id, report);
        }
    }

    /// Deals with deaths between two stops of the living: of what has been killed, and of what has died by itself.
    pub(super) fn bury(&mut self) -> Option<End> {
        loop {
            let dying = std::mem::take(&mut self.world.dying);
            for process in &dying {
                if let Some(process) = self.world.processes.get_mut(process) {
                    process.ending = true;
                }
                if let Step::End(end) = self.reap_process(*process) {
                    return Some(end);
                }
            }
            if !dying.is_empty() {
                continue;
            }
            let (id, report) = self.deaths.pop_first()?;
            if let Some(task) = self.world.tasks.remove(&id)
                && let Step::End(end) = self.died(task, report)
            {
                return Some(end);
            }
        }
    }

    /// Waits for the report of a task's death, which has happened.
    pub(super) fn await_death(&mut self, task: Box<Task>) -> Step {
        let process = task.process;
        if task.id == process && !self.world.threads_of(process).is_empty() {
            if let Err(error) = self.await_zombie(task.id) {
                return lost(task.id, &error);
            }
            if self.is_lonely(&task) {
                return self.stay_dead(task);
            }
            self.world.tasks.insert(process, task);
            return self.reap_process(process);
        }
        let id = task.id;
        self.world.tasks.insert(id, task);
        match (self.death(id), self.world.tasks.remove(&id)) {
            (Ok(report), Some(task)) => self.died(task, report),
            (Ok(_), None) => Step::Over,
            (Err(error), _) => lost(id, &error),
        }
    }

    /// Whether a leader is dead while its other threads live: where they die as well, they have been told before it was
    /// dead.
    pub(super) fn is_lonely(&self, task: &Task) -> bool {
        let threads = self.world.threads_of(task.process);
        task.id == task.process
            && !threads.is_empty()
            && self.world.is_zombie(task.id)
            && !threads
                .iter()
                .any(|id| self.deaths.contains_key(id) || self.world.is_dying(*id))
    }

    /// A leader ends while its other threads live. It stands there until it is the last one, since nobody could look up
    /// the files of a process without a leader; the others see it dead.
    pub(super) fn leave_alone(&mut self, mut task: Box<Task>) -> Step {
        self.world.clock.now();
        self.world.abandon_locks(&task);
        task.robust_list = 0;
        if task.clear_at_exit != 0 {
            // where there is no such place the kernel does not mind either
            let _ = task.write(task.clear_at_exit, &[0; 4]);
        }
        self.world.wake_exit(&task);
        task.clear_at_exit = 0;
        task.next = Next::Left;
        self.world.tasks.insert(task.id, task);
        Step::Over
    }

    /// Waits until a leader is dead, whatever becomes of its threads.
    fn await_zombie(&self, leader: TaskId) -> io::Result<()> {
        let patience = Patience::new();
        while !self.world.is_zombie(leader) {
            patience.wait()?;
        }
        Ok(())
    }

    /// A leader is dead, and its other threads live.
    pub(super) fn stay_dead(&mut self, mut task: Box<Task>) -> Step {
        self.world.clock.lose(&task);
        self.world.wake_exit(&task);
        task.clear_at_exit = 0;
        task.robust_list = 0;
        task.next = Next::Dead;
        self.world.tasks.insert(task.id, task);
        Step::Over
    }
}

/// A task neither runs nor ends: no job can go on with it.
fn lost(task: TaskId, error: &io::Error) -> Step {
    tracing::error!(task, %error, "a task is lost");
    Step::End(End::Lost)
}

impl World {
    /// Waits until the sandbox's first process has waited for what has no parent any more: a dead process, or its dead
    /// children. It is no task of the job, and would do so now or later.
    fn await_reaper(&mut self, dead: TaskId) -> io::Result<()> {
        const FIRST: &str = "1";
        self.zombies.push(dead);
        let mut zombies = std::mem::take(&mut self.zombies);
        let patience = Patience::new();
        let mut failed = Ok(());
        zombies.retain(|id| {
            loop {
                // fields behind the name: state, parent
                let parent = self.proc_text(&format!("{id}/stat")).ok().and_then(|text| {
                    let (_, rest) = text.rsplit_once(") ")?;
                    rest.split(' ').nth(1).map(str::to_owned)
                });
                match parent.as_deref() {
                    None => return false,
                    Some(FIRST) => {}
                    Some(_) => return true,
                }
                if let Err(error) = patience.wait() {
                    failed = Err(error);
                    return true;
                }
            }
        });
        self.zombies = zombies;
        failed
    }

    /// A task has left this address space; the last one takes it along.
    pub(super) fn forget_space(&mut self, space: u32) {
        if !self.tasks.values().any(|task| task.space == space) {
            self.clock.forget(space);
        }
    }

    /// Whether nothing is left of a process but a leader that goes on like this.
    fn has_only_leader(&self, process: TaskId, next: Next) -> bool {
        let leader = self.tasks.get(&process);
        leader.is_some_and(|leader| leader.next == next) && self.threads_of(process) == [process]
    }

    /// Lets a leader end that has stood at its end until it is the last one.
    fn let_leader_go(&mut self, process: TaskId) {
        if self.has_only_leader(process, Next::Left)
            && let Some(leader) = self.tasks.get_mut(&process)
        {
            leader.next = Next::Decide;
            self.ready.push_back(process);
        }
    }

    /// Whether a task that stood still is on its way to death.
    fn is_dying(&self, id: TaskId) -> bool {
        let field = |name: &str| {
            let text = self.proc_text(&format!("{id}/status")).ok()?;
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(value.trim().to_owned())
        };
        // in this order: it stands still as long as the signal has not been taken
        let pending = field("SigPnd:").and_then(|set| u64::from_str_radix(&set, 16).ok());
        let Some(pending) = pending else { return true };
        pending & super::signal::mask(libc::SIGKILL) != 0
            || !field("State:").is_some_and(|state| state.starts_with('t'))
    }

    pub(super) fn is_zombie(&self, id: TaskId) -> bool {
        let Ok(text) = self.proc_text(&format!("{id}/stat")) else {
            return true;
        };
        let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('Z' | 'X') | None)
    }
}

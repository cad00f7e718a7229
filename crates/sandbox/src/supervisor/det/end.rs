//! Tasks that end.

use super::observe;
use super::run::{Engine, Step};
use super::task::{Next, Task, TaskId};
use super::wait::On;
use super::world::World;
use crate::sys::WaitStatus;
use crate::sys::trace::{self, Report};
use crate::wire::End;

/// The job's main process, inside.
const MAIN: TaskId = 2;

impl Engine {
    /// A task is dead.
    pub(super) fn died(&mut self, task: Box<Task>, report: Report) -> Step {
        let world = &mut self.world;
        world.by_host.remove(&task.host);
        world.futexes.forget(task.id);
        let is_leader = task.id == task.process;
        if let (false, Report::Killed(_)) = (is_leader, report)
            && let Some(process) = world.processes.get_mut(&task.process)
        {
            process.ending = true;
        }
        world.wake_exit(&task);
        if is_leader {
            let status = match report {
                Report::Killed(signal) => WaitStatus::Signal(signal),
                Report::Exited(code) => WaitStatus::Code(code),
                Report::Event(..) | Report::Call | Report::Signal(_) => WaitStatus::Code(0),
            };
            if let Some(parent) = world
                .processes
                .remove(&task.process)
                .and_then(|process| process.releases)
            {
                world.release(parent);
            }
            world.held.forget(task.process);
            observe::ended(world, task.process, status);
            world.wake_all(|on| matches!(on, On::Child | On::Others));
            world.timers.forget(task.process);
            world.note_signal();
            if task.process == MAIN {
                return Step::End(End::Exit(status));
            }
            return Step::Over;
        }
        // the others of a process that ends are reported one by one, its leader last
        let ending = world
            .processes
            .get(&task.process)
            .is_some_and(|process| process.ending);
        if ending {
            self.reap_process(task.process)
        } else {
            Step::Over
        }
    }

    /// Waits for the deaths of all tasks of a process that is ending.
    pub(super) fn reap_process(&mut self, process: TaskId) -> Step {
        while let Some(leader) = self.world.processes.get(&process).map(|process| process.host) {
            let threads = self.world.threads_of(process);
            // not the leader as long as there are others: the kernel reports it last
            let next = threads
                .iter()
                .filter(|id| **id != process)
                .chain(threads.iter())
                .next()
                .copied();
            let Some(next) = next else { break };
            if !self.world.is_dying(next) {
                // a filter of the job's own, say, has killed one thread alone
                if let Some(process) = self.world.processes.get_mut(&process) {
                    process.ending = false;
                }
                break;
            }
            let host = self.world.tasks.get(&next).map_or(leader, |task| task.host);
            match trace::wait(host, true) {
                Ok(Some((_, report @ (Report::Exited(_) | Report::Killed(_))))) => {
                    let Some(task) = self.world.tasks.remove(&next) else {
                        continue;
                    };
                    if next != process {
                        self.world.by_host.remove(&host);
                        self.world.futexes.forget(next);
                        self.world.wake_exit(&task);
                        continue;
                    }
                    return self.died(task, report);
                }
                Ok(_) => {}
                Err(_) => {
                    self.world.drop_task(next);
                }
            }
        }
        Step::Over
    }

    /// Waits for the report of a task's death, which has happened.
    pub(super) fn await_death(&mut self, task: Box<Task>) -> Step {
        let host = task.host;
        loop {
            let is_leader = task.id == task.process;
            if is_leader && !self.world.threads_of(task.process).is_empty() && self.world.is_zombie(task.id) {
                return self.stay_dead(task);
            }
            match trace::wait(host, false) {
                Ok(Some((_, report @ (Report::Exited(_) | Report::Killed(_))))) => {
                    return self.died(task, report);
                }
                Ok(None) => std::thread::yield_now(),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "a task is lost");
                    return Step::End(End::Lost);
                }
            }
        }
    }

    /// Waits until a leader that ends alone is dead; the kernel reports it only after its last thread.
    pub(super) fn leave_alone(&mut self, task: Box<Task>) -> Step {
        self.world.clock.now();
        if trace::resume(task.host, 0).is_err() {
            return self.await_death(task);
        }
        while !self.world.is_zombie(task.id) {
            std::thread::yield_now();
        }
        self.stay_dead(task)
    }

    /// A leader is dead, and its other threads live.
    pub(super) fn stay_dead(&mut self, mut task: Box<Task>) -> Step {
        self.world.wake_exit(&task);
        task.clear_at_exit = 0;
        task.robust_list = 0;
        task.next = Next::Dead;
        self.world.tasks.insert(task.id, task);
        Step::Over
    }
}

impl World {
    /// Forgets a task.
    pub(super) fn drop_task(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.remove(&id) {
            self.by_host.remove(&task.host);
            self.futexes.forget(id);
        }
    }

    /// Whether a task that stood still is on its way to death.
    fn is_dying(&self, id: TaskId) -> bool {
        let Ok(text) = self.proc_text(&format!("{id}/status")) else {
            return true;
        };
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let pending = field("SigPnd:").and_then(|set| u64::from_str_radix(set, 16).ok());
        let kill = super::signal::mask(libc::SIGKILL);
        !field("State:").is_some_and(|state| state.starts_with('t')) || pending.unwrap_or(0) & kill != 0
    }

    pub(super) fn is_zombie(&self, id: TaskId) -> bool {
        let Ok(text) = self.proc_text(&format!("{id}/stat")) else {
            return true;
        };
        let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('Z' | 'X') | None)
    }
}

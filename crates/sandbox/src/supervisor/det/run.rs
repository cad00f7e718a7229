//! The loop: gives one task after the other its turn, and waits for what it reports.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use super::decide::Decision;
use super::orders::Orders;
use super::quick::Heard;
use super::table::Table;
use super::task::{Next, Task, TaskId};
use super::watchdog::{self, Watchdog};
use super::world::{Process, World};
use crate::events::{EventSender, RecordError};
use crate::sys::trace::{self, HostId, Report};
use crate::sys::tsc;
use crate::wire::{Det, End};

/// What a traced task is stopped for.
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_EXITKILL;

/// Number of the job's main process, inside: its first process is 1.
const MAIN: TaskId = 2;

/// What happened to the task whose turn it is.
#[derive(Debug)]
pub(super) enum Step {
    /// It goes on.
    On(Box<Task>),
    /// It is not runnable any more, or another one's turn has come.
    Over,
    /// The job is over.
    End(End),
}

/// Asked now and then while a job runs: whether it has to end, and how.
pub(in crate::supervisor) type Watching<'a> = &'a mut dyn FnMut() -> Option<End>;

/// A job's tracer.
#[derive(Debug)]
pub(in crate::supervisor) struct Engine {
    pub(super) world: World,
    pub(super) table: Table,
    /// Whether the program has begun: before, the main process runs our own code.
    pub(super) begun: bool,
    /// New tasks that reported before the one that made them.
    pub(super) early: Vec<HostId>,
    /// Deaths of tasks that have been reported and not been looked at.
    pub(super) deaths: BTreeMap<TaskId, Report>,
    watchdog: Watchdog,
    /// Set where a call of one task has ended the job.
    pub(super) ended: Option<End>,
}

/// Attaches to a job's first process, before it has made the main one.
pub(in crate::supervisor) fn attach(init: HostId) -> io::Result<()> {
    trace::seize(init, OPTIONS)
}

/// Waits until the first process has made the main one: its number. `Err` with the end where there will be none.
pub(in crate::supervisor) fn main_process(init: HostId, watch: Watching<'_>) -> Result<HostId, Option<End>> {
    let lost = |_| Some(End::Lost);
    let mut main = None;
    loop {
        match trace::wait(-1, true).map_err(lost)? {
            None => {
                if let Some(end) = watch() {
                    return Err(Some(end));
                }
            }
            Some((host, Report::Event(libc::PTRACE_EVENT_FORK, _))) if host == init => {
                let message = trace::event_message(init).map_err(lost)?;
                let new = HostId::try_from(message).map_err(|_| Some(End::Lost))?;
                trace::detach(init).map_err(lost)?;
                if main == Some(new) {
                    return Ok(new);
                }
                main = Some(new);
            }
            Some((host, Report::Exited(_) | Report::Killed(_))) if host == init => return Err(None),
            Some((host, Report::Event(libc::PTRACE_EVENT_STOP, _))) if host != init => {
                if main == Some(host) {
                    return Ok(host);
                }
                main = Some(host);
            }
            Some((host, Report::Signal(signal))) => trace::resume(host, signal).map_err(lost)?,
            Some((host, Report::Event(..) | Report::Call)) => trace::resume(host, 0).map_err(lost)?,
            Some((_, Report::Exited(_) | Report::Killed(_))) => return Err(None),
        }
    }
}

impl Engine {
    /// The tracer of a job whose main process stands at its beginning, and whose user on the host others may have as well.
    pub(in crate::supervisor) fn new(
        main: HostId,
        det: Det,
        proc: OwnedFd,
        orders: Orders,
        shares_user: bool,
    ) -> io::Result<Self> {
        let mut world = World::new(det, proc, orders);
        world.shares_user = shares_user;
        let task = Task::new(MAIN, MAIN, main, 0, trace::registers(main)?);
        world.last_id = MAIN;
        world.processes.insert(MAIN, Process::new(main, 1));
        world.by_host.insert(main, MAIN);
        world.tasks.insert(MAIN, Box::new(task));
        world.ready.push_back(MAIN);
        Ok(Self {
            world,
            table: Table::new(),
            begun: false,
            early: Vec::new(),
            deaths: BTreeMap::new(),
            watchdog: Watchdog::default(),
            ended: None,
        })
    }

    /// Runs the job to its end.
    pub(in crate::supervisor) fn run(&mut self, events: &mut EventSender<'_>, watch: Watching<'_>) -> End {
        let end = self.turns(events, watch);
        self.world.keep_listeners();
        match self.hand_over(events) {
            Some(other) if !matches!(end, End::Lost | End::Stopped | End::UsedUp(_)) => other,
            Some(_) | None => end,
        }
    }

    /// Hands over the events that were made; how the job ends where they cannot be taken.
    fn hand_over(&mut self, events: &mut EventSender<'_>) -> Option<End> {
        self.world
            .observe
            .take()
            .find_map(|event| match events.record(&event) {
                Ok(()) => None,
                Err(RecordError::Budget) => Some(End::Budget),
                Err(RecordError::Closed(_)) => Some(End::Stopped),
            })
    }

    fn turns(&mut self, events: &mut EventSender<'_>, watch: Watching<'_>) -> End {
        loop {
            if let Some(end) = self.bury() {
                return end;
            }
            let next = match self.world.next(watch) {
                Ok(id) => id,
                Err(end) => return end,
            };
            let Some(task) = self.world.tasks.remove(&next) else {
                continue;
            };
            let mut step = Step::On(task);
            loop {
                if let Some(end) = self.hand_over(events).or_else(|| self.world.end.take()) {
                    return end;
                }
                // a stream of stops, or slow answers to them, may leave no wait to be interrupted
                if trace::take_tick()
                    && let Some(end) = self.tick(watch)
                {
                    return end;
                }
                tsc::fault_again();
                step = match step {
                    Step::On(task) => self.step(task, watch),
                    Step::Over => break,
                    Step::End(end) => return end,
                };
            }
        }
    }

    /// Lets a task go on to its next stop.
    fn step(&mut self, mut task: Box<Task>, watch: Watching<'_>) -> Step {
        let leaves_alone = self.begun
            && task.next == Next::Decide
            && task.call() == libc::SYS_exit
            && task.id == task.process
            && !self.world.threads_of(task.process).is_empty();
        if leaves_alone {
            return self.leave_alone(task);
        }
        match self.go_on(&mut task) {
            Ok(true) => {}
            Ok(false) => {
                self.world.tasks.insert(task.id, task);
                return Step::Over;
            }
            // killed meanwhile; its death is reported next
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) && self.is_gone(&task) => {}
            Err(error) => {
                tracing::error!(%error, "the tracer cannot go on");
                return Step::End(End::Lost);
            }
        }
        self.await_report(task, watch)
    }

    /// Resumes a task; `false` if it waits or has to.
    fn go_on(&mut self, task: &mut Task) -> io::Result<bool> {
        let mut to_exit = false;
        let mut signal = 0;
        match task.next {
            Next::Held | Next::Dead | Next::Left => return Ok(false),
            Next::Run(number) => signal = number,
            Next::Decide if task.notified.is_some() => return self.answer_notified(task),
            Next::Decide => match self.decide(task)? {
                Decision::Make => {}
                Decision::MakeAndSee => to_exit = true,
                Decision::Wait => return Ok(false),
            },
        }
        task.next = Next::Run(signal);
        if !to_exit && std::mem::take(&mut task.gives_way) {
            self.world.ready.push_back(task.id);
            return Ok(false);
        }
        task.next = Next::Run(0);
        self.world.end_rewound(task);
        if to_exit {
            task.keep_mark();
        }
        task.store()?;
        self.lend_time(task)?;
        if to_exit {
            trace::resume_to_exit(task.host, signal)?;
        } else {
            trace::resume(task.host, signal)?;
        }
        Ok(true)
    }

    /// Hands the time to a task that is about to run.
    pub(super) fn lend_time(&mut self, task: &Task) -> io::Result<()> {
        if std::mem::take(&mut self.world.due_changed) {
            self.world.set_due();
        }
        self.world.clock.lend(task)
    }

    fn await_report(&mut self, mut task: Box<Task>, watch: Watching<'_>) -> Step {
        loop {
            if let Some(report) = self.deaths.remove(&task.id) {
                return self.react(task, report);
            }
            let (host, report) = match self.hear(&task) {
                Ok(Heard::Report(host, report)) => (host, report),
                Ok(Heard::Call(call)) if call.task == task.host => return self.react_to_call(task, &call),
                // nobody else runs
                Ok(Heard::Call(_)) => return Step::End(End::Lost),
                Ok(Heard::Nothing) => match self.tick(watch) {
                    Some(end) => return Step::End(end),
                    // a leader that something has killed alone is not reported
                    None if self.is_lonely(&task) => return self.stay_dead(task),
                    None => continue,
                },
                Err(_) => return Step::End(End::Lost),
            };
            if host == task.host {
                return self.react(task, report);
            }
            let leader = self
                .world
                .processes
                .get(&task.process)
                .map(|process| process.host);
            if leader == Some(host) && matches!(report, Report::Event(libc::PTRACE_EVENT_EXEC, _)) {
                // a thread that executes a program becomes its process's leader
                task = self.become_leader(task, host);
                return self.react(task, report);
            }
            self.other(host, report);
        }
    }

    /// Now and then while a task runs: whether the job has to end.
    fn tick(&mut self, watch: Watching<'_>) -> Option<End> {
        trace::take_tick();
        let end = watch();
        let silent = self.watchdog.look(self.world.calls);
        // alone it may compute as long as it likes
        let others = !self.world.ready.is_empty() || self.world.is_time_awaited();
        match end {
            Some(End::WallClock | End::CpuTime) if others && silent >= watchdog::SUSPICIOUS => {
                Some(End::Spin)
            }
            None if others && silent >= watchdog::LONGEST => Some(End::Spin),
            end => end,
        }
    }
}

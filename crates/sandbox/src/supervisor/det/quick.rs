//! Calls that are quick to answer, in processes that make many of them: they come by a filter's listener, without a stop.
//!
//! Owns the way there and back; what is answered is the table's matter, as ever. Who has made enough of these calls gets
//! the filter by a call that is made in its name. A call that turns out to need a stop (its exit is to be seen, the task
//! waits, another one's turn has come) is made again with a mark in its last argument, which none of these calls has: the
//! filter leaves a marked one to the tracer. The program sees neither. A task that is not the one whose turn it is always
//! stands at a stop.

use std::io;
use std::rc::Rc;

use super::calls::place_filter;
use super::decide::{negative, settle};
use super::patience::Patience;
use super::run::{Engine, Step};
use super::table::Entry;
use super::task::{Next, Task};
use super::virt;
use super::world::World;
use crate::supervisor::filter;
use crate::sys::notify::{self, Listener, Notification};
use crate::sys::trace::{self, HostId, Report};

/// These calls; those with an argument and bits only where one of the bits is set. None has an argument 5.
pub(in crate::supervisor) const QUICK: &[(libc::c_long, Option<(u8, u32)>)] = &[
    (libc::SYS_close, None),
    (libc::SYS_fstat, None),
    (
        libc::SYS_newfstatat,
        Some((3, libc::AT_EMPTY_PATH.unsigned_abs())),
    ),
    (libc::SYS_openat, None),
];

/// What the last argument of a marked call holds. A program that has it there itself gets a stop.
const MARK: u32 = 0x7a3c_91e5;

/// By how many more stops for quick calls than for others a process is worth a filter: as long as one listens, a stop costs
/// about as much more as an answer without one costs less.
const ENOUGH: u32 = 1000;

/// How the tracer is told of a process's quick calls.
#[derive(Debug)]
pub(super) enum Route {
    /// By stops; so many more of them were for quick calls than for others.
    Stops(u32),
    /// By stops, as the kernel or the process has no room for a listener.
    Always,
    /// By a listener.
    Listener(Rc<Listener>),
}

impl Route {
    /// That of a process that is forked off one with this.
    pub(super) fn of_child(&self) -> Self {
        match self {
            Self::Stops(_) => Self::Stops(0),
            Self::Always => Self::Always,
            Self::Listener(listener) => Self::Listener(Rc::clone(listener)),
        }
    }

    /// The listener.
    pub(super) const fn listener(&self) -> Option<&Rc<Listener>> {
        match self {
            Self::Listener(listener) => Some(listener),
            Self::Stops(_) | Self::Always => None,
        }
    }
}

/// How far a call is that is made again for a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// There is none.
    None,
    /// The task was asked to stop; this was in its last argument.
    Asked(u64),
    /// The call is marked, and will be made again; this was in its last argument, and the task blocked these signals.
    Set { former: u64, blocked: u64 },
    /// The task stands at the marked call.
    There,
}

impl Mark {
    pub(super) const fn is_asked(self) -> bool {
        matches!(self, Self::Asked(_))
    }
}

/// What was heard of the tasks.
pub(super) enum Heard {
    /// One has stopped or ended.
    Report(HostId, Report),
    /// One waits for the answer of a call.
    Call(Notification),
    /// Nothing: a signal came.
    Nothing,
}

/// What becomes of a quick call.
enum Answer {
    Made,
    Given(i64),
    /// It needs a stop.
    Stop,
}

fn is_quick(task: &Task) -> bool {
    QUICK.iter().any(|(call, only)| {
        let bits = |(argument, bits): (u8, u32)| task.int(argument.into()).cast_unsigned() & bits != 0;
        task.call() == *call && only.is_none_or(bits)
    })
}

/// At the exit of a marked call: its argument is put back, as at every exit that is seen.
fn unmarked(_: &mut World, task: &mut Task) -> io::Result<()> {
    task.mark = Mark::None;
    Ok(())
}

impl Task {
    /// It has stopped where its call is about to be made again: marks the call.
    pub(super) fn set_mark(&mut self) -> io::Result<bool> {
        if let Mark::Asked(former) = self.mark {
            trace::set_last_argument(self.host, MARK.into())?;
            // a handler runs behind the call, as it does where that was stopped in the first place
            let blocked = trace::block_signals(self.host, u64::MAX)?;
            self.mark = Mark::Set { former, blocked };
        }
        self.next = Next::Run(0);
        Ok(true)
    }

    /// Whether it stands at the entry of a call that is marked.
    pub(super) fn take_mark(&mut self) -> io::Result<bool> {
        match self.mark {
            Mark::Set { former, blocked } if self.int(5).cast_unsigned() == MARK => {
                trace::block_signals(self.host, blocked)?;
                self.fetch()?;
                self.entry = self.registers;
                self.entry.r9 = former;
                self.mark = Mark::There;
                self.exits.push(unmarked);
                Ok(true)
            }
            Mark::There => {
                self.mark = Mark::None;
                Ok(false)
            }
            Mark::None | Mark::Asked(_) | Mark::Set { .. } => Ok(false),
        }
    }

    /// A marked call is made: without its mark it would go to the listener.
    pub(super) fn keep_mark(&mut self) {
        if self.mark == Mark::There {
            self.registers.r9 = MARK.into();
        }
    }
}

impl World {
    /// A task stands at a call's exit: one more stop that no listener saves.
    pub(super) fn note_exit(&mut self, task: &Task) {
        if let Some(process) = self.processes.get_mut(&task.process)
            && let Route::Stops(more) = &mut process.route
        {
            *more = more.saturating_sub(1);
        }
    }

    /// A task stands at a call's entry: whether its process shall have a listener.
    pub(super) fn is_to_listen(&mut self, task: &Task) -> bool {
        let is_looked_into = self.virt.are_names_indirect() || self.has_fifos;
        let Some(process) = self.processes.get_mut(&task.process) else {
            return false;
        };
        let Route::Stops(more) = &mut process.route else {
            return false;
        };
        let is_quick = is_quick(task);
        *more = if is_quick {
            more.saturating_add(1)
        } else {
            more.saturating_sub(1)
        };
        is_quick && *more >= ENOUGH && !is_looked_into
    }

    /// The job is to end: who waits for an answer must not be told meanwhile that there is no listener any more, and run on.
    pub(super) fn keep_listeners(&self) {
        for listener in self
            .processes
            .values()
            .filter_map(|process| process.route.listener())
        {
            // it goes with this process, which is the job's alone
            std::mem::forget(Rc::clone(listener));
        }
    }

    fn listener(&self, task: &Task) -> Option<&Rc<Listener>> {
        self.processes.get(&task.process)?.route.listener()
    }
}

impl Engine {
    /// Waits for a report of any task, or for a call of this one.
    pub(super) fn hear(&self, task: &Task) -> io::Result<Heard> {
        let told = |report: Option<(HostId, Report)>| match report {
            Some((host, report)) => Heard::Report(host, report),
            None => Heard::Nothing,
        };
        let Some(listener) = self.world.listener(task) else {
            notify::hear_stops(false)?;
            return Ok(told(trace::wait(-1, true)?));
        };
        notify::hear_stops(true)?;
        loop {
            if notify::take_stopped()
                && let Some((host, report)) = trace::wait(-1, false)?
            {
                notify::set_stopped();
                return Ok(Heard::Report(host, report));
            }
            match listener.receive() {
                Ok(Some(call)) => return Ok(Heard::Call(call)),
                Ok(None) if trace::has_ticked() => return Ok(Heard::Nothing),
                Ok(None) => {}
                // what took the call back is reported
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    return Ok(told(trace::wait(-1, true)?));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A task waits for the answer of a call.
    pub(super) fn react_to_call(&mut self, mut task: Box<Task>, call: &Notification) -> Step {
        task.notified_of(call);
        task.next = Next::Decide;
        if !std::mem::take(&mut task.repeats) {
            self.count();
        }
        match self.ended.take() {
            Some(end) => Step::End(end),
            None => Step::On(task),
        }
    }

    /// Answers the call that a task waits for, or lets it be made.
    pub(super) fn answer_notified(&mut self, task: &mut Task) -> io::Result<bool> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let id = task.notified.take().ok_or_else(gone)?;
        let listener = self.world.listener(task).map(Rc::clone).ok_or_else(gone)?;
        let answer = if self.has_to_give_way() {
            Answer::Stop
        } else {
            self.answer_of(task, &|| listener.is_valid(id))?
        };
        task.next = Next::Run(0);
        settle(task);
        self.lend_time(task)?;
        let sent = match answer {
            Answer::Made => listener.let_make(id),
            Answer::Given(result) => listener.answer(id, result),
            Answer::Stop => {
                /// ERESTARTNOINTR: behind the stop the call is made again.
                const AGAIN: i64 = -513;
                task.mark = Mark::Asked(task.argument(5));
                trace::interrupt(task.host)?;
                listener.answer(id, AGAIN)
            }
        };
        match sent {
            // killed meanwhile
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(gone()),
            other => other.map(|()| true),
        }
    }

    fn answer_of(&mut self, task: &mut Task, is_there: &dyn Fn() -> bool) -> io::Result<Answer> {
        if task.call() == libc::SYS_openat {
            let is_plain = virt::is_plain_open(&mut self.world, task);
            return Ok(if is_plain { Answer::Made } else { Answer::Stop });
        }
        for index in 0.. {
            let Some(handler) = self.table.of(task.call()).get(index) else {
                break;
            };
            match handler(&mut self.world, task) {
                Ok(Entry::Pass) => {}
                Ok(Entry::Done(result)) => return Ok(Answer::Given(result)),
                // those of quick calls have done nothing yet where they say so
                Ok(Entry::Watch(_) | Entry::Make(_) | Entry::Block(_)) => return Ok(Answer::Stop),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) && !is_there() => return Err(error),
                Err(error) => return Ok(Answer::Given(negative(&error))),
            }
        }
        Ok(Answer::Made)
    }

    /// Gives the process of a task that stands at a call's entry a listener; the call is made again behind that.
    pub(super) fn listen(&mut self, task: &mut Task) -> io::Result<()> {
        task.fetch()?;
        task.entry = task.registers;
        // no handler of the program's runs before the call is made again
        let blocked = trace::block_signals(task.host, u64::MAX)?;
        let route = match self.listener_of(task) {
            Ok(listener) => Route::Listener(Rc::new(listener)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, task = task.id, "a process's calls all stop");
                Route::Always
            }
        };
        trace::block_signals(task.host, blocked)?;
        if let Some(process) = self.world.processes.get_mut(&task.process) {
            process.route = route;
        }
        task.rewind();
        task.repeats = true;
        task.next = Next::Run(0);
        Ok(())
    }

    fn listener_of(&mut self, task: &mut Task) -> io::Result<Listener> {
        const SET_FILTER: u64 = 1;
        let code = place_filter(task, &filter::quick(MARK))?;
        task.registers.orig_rax = number(libc::SYS_seccomp);
        task.set_argument(0, SET_FILTER);
        task.set_argument(1, notify::FLAGS);
        task.set_argument(2, code);
        trace::set_registers(task.host, &task.registers)?;
        trace::resume_to_exit(task.host, 0)?;
        let file = self.result(task)?;
        let copy = self.world.file(task, i32::try_from(file).unwrap_or(-1));
        task.rewind();
        task.registers.rax = number(libc::SYS_close_range);
        task.set_argument(0, file);
        task.set_argument(1, file);
        task.set_argument(2, 0);
        trace::set_registers(task.host, &task.registers)?;
        trace::resume(task.host, 0)?;
        self.result(task)?;
        copy.map(Listener::of)
    }

    /// Waits for the end of a call that is made in a task's name, and says what it gave.
    fn result(&mut self, task: &mut Task) -> io::Result<u64> {
        let patience = Patience::new();
        loop {
            match trace::wait(task.host, true)? {
                Some((_, Report::Call)) => break,
                Some((host, report @ (Report::Exited(_) | Report::Killed(_)))) => {
                    self.note_death(host, report);
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                // at the call's entry, or stopped from outside
                Some(_) => trace::resume_to_exit(task.host, 0)?,
                None if patience.is_over() => return Err(io::ErrorKind::TimedOut.into()),
                None => {}
            }
        }
        task.fetch()?;
        let result = task.result();
        u64::try_from(result).map_err(|_| {
            io::Error::from_raw_os_error(i32::try_from(result.unsigned_abs()).unwrap_or(libc::EINVAL))
        })
    }
}

fn number(call: libc::c_long) -> u64 {
    call.unsigned_abs()
}

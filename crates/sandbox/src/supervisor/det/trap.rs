//! What a task reported, and what follows from it.

use std::io;

use super::information;
use super::run::{Engine, Step};
use super::task::{Next, Task};
use super::virt;
use crate::sys::trace::{self, HostId, Report};
use crate::wire::End;

/// Traced calls after which another runnable task gets its turn.
const SLICE: u64 = 2_000;
/// How often timers are looked at, in traced calls.
const LOOK: u64 = 64;

impl Engine {
    /// Deals with the report of the task whose turn it is.
    pub(super) fn react(&mut self, mut task: Box<Task>, report: Report) -> Step {
        let result = match report {
            Report::Exited(_) | Report::Killed(_) => return self.died(task, report),
            Report::Event(libc::PTRACE_EVENT_SECCOMP, _) => self.at_entry(&mut task),
            Report::Call => self.at_exit(&mut task),
            Report::Event(
                event @ (libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE),
                _,
            ) => self.forked(&mut task, event),
            Report::Event(libc::PTRACE_EVENT_EXEC, _) => self.executed_or_killed(&mut task),
            Report::Event(libc::PTRACE_EVENT_STOP, libc::SIGTRAP) if task.mark.is_asked() => task.set_mark(),
            Report::Event(libc::PTRACE_EVENT_STOP, signal) => self.stopped(&mut task, signal),
            Report::Event(..) => Ok(true),
            Report::Signal(signal) => self.signalled(&mut task, signal),
        };
        if let Some(end) = self.ended.take() {
            return Step::End(end);
        }
        match result {
            Ok(true) => Step::On(task),
            Ok(false) => {
                self.world.tasks.insert(task.id, task);
                Step::Over
            }
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) && self.is_gone(&task) => {
                // killed while it stood still: its death is the next report
                self.await_death(task)
            }
            Err(error) => {
                tracing::error!(%error, task = task.id, "the tracer cannot go on");
                Step::End(End::Lost)
            }
        }
    }

    fn at_entry(&mut self, task: &mut Task) -> io::Result<bool> {
        task.fetch_entry()?;
        task.next = Next::Decide;
        // one that was only to stop was counted when it was heard of
        let is_known = task.take_mark()?;
        if !is_known && (!self.begun || std::mem::take(&mut task.repeats)) {
            return Ok(true);
        }
        if !is_known {
            self.count();
        }
        if self.has_to_give_way() {
            self.world.ready.push_back(task.id);
            return Ok(false);
        }
        if !is_known && self.world.is_to_listen(task) {
            self.listen(task)?;
        }
        Ok(true)
    }

    /// A task is at a call: time passes.
    pub(super) fn count(&mut self) {
        self.world.calls += 1;
        self.world.clock.spend();
        self.world.slice += 1;
        if self.world.calls.is_multiple_of(LOOK) {
            self.world.look();
            // a clock may have been set by the program itself, and no other way leads to the limit
            if self.world.clock.now() > self.world.det.budget_nanos {
                self.ended = Some(End::Budget);
            }
        }
    }

    /// Whether another task's turn has come.
    pub(super) fn has_to_give_way(&self) -> bool {
        self.world.slice >= SLICE && !self.world.ready.is_empty()
    }

    fn at_exit(&mut self, task: &mut Task) -> io::Result<bool> {
        self.world.note_exit(task);
        let goes_on = self.left(task)?;
        task.next = Next::Run(0);
        if !self.world.dying.is_empty() {
            self.ended = self.bury();
        }
        Ok(goes_on)
    }

    fn signalled(&mut self, task: &mut Task, signal: i32) -> io::Result<bool> {
        task.next = Next::Run(signal);
        task.repeats = false;
        // who stops a machine's processes for a while stops the supervisor as well, and the job learns nothing of it
        if matches!(signal, libc::SIGSTOP | libc::SIGCONT) && trace::is_from_outside(task.host)? {
            task.next = Next::Run(0);
            task.note_repeat()?;
            // one whose files or memory cannot be looked at has what it has written
            let _ = self.finish_output(task);
        }
        if signal == libc::SIGSEGV && self.emulated(task)? {
            task.next = Next::Run(0);
            return Ok(true);
        }
        let mut told = trace::information(task.host)?;
        if let Some(told_of) = told.first_chunk_mut()
            && information::settle(told_of)
        {
            trace::set_information(task.host, told)?;
        }
        Ok(true)
    }

    /// Emulates the instruction that a task stands at, if it is one of those that fault here.
    fn emulated(&mut self, task: &mut Task) -> io::Result<bool> {
        task.fetch()?;
        let mut code = [0; 3];
        let rip = task.registers.rip;
        // the last instruction of a page is read as far as it goes
        if trace::read_memory(task.host, rip, &mut code).is_err() {
            return Ok(false);
        }
        let registers = &mut task.registers;
        let (low, high) = (|value: u64| value & 0xffff_ffff, |value: u64| value >> 32);
        let length = match code {
            [0x0f, 0xa2, _] => {
                let word = |value: u64| u32::try_from(low(value)).unwrap_or(0);
                let [a, b, c, d] = virt::cpuid::leaf(word(registers.rax), word(registers.rcx));
                (registers.rax, registers.rbx) = (a.into(), b.into());
                (registers.rcx, registers.rdx) = (c.into(), d.into());
                2
            }
            [0x0f, 0x31, _] | [0x0f, 0x01, 0xf9] => {
                self.world.clock.advance(crate::sys::vdso::CLOCK_STEP);
                let now = self.world.clock.now();
                (registers.rax, registers.rdx) = (low(now), high(now));
                if code[1] == 0x01 {
                    registers.rcx = 0;
                    3
                } else {
                    2
                }
            }
            _ => return Ok(false),
        };
        registers.rip = registers.rip.wrapping_add(length);
        task.changed = true;
        Ok(true)
    }

    /// A report of a task whose turn it is not: a new one's first stop, or a death.
    pub(super) fn other(&mut self, host: HostId, report: Report) {
        match report {
            Report::Exited(_) | Report::Killed(_) => self.note_death(host, report),
            Report::Event(libc::PTRACE_EVENT_STOP, _) => self.early.push(host),
            Report::Event(..) | Report::Call | Report::Signal(_) => {}
        }
    }
}

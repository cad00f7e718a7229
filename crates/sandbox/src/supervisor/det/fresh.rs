//! A program that has just been executed, before its first instruction: its vDSO is replaced, its clock page made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Mode, OFlags, openat};

use super::patience::Patience;
use super::run::Engine;
use super::task::{Next, Task};
use super::vdso::{self, Patch};
use super::{observe, virt};
use crate::sys::trace::{self, HostId, Report};

/// Code segment of a 32-bit program.
const CODE_32: u64 = 0x23;

impl Engine {
    /// A thread that executes a program takes its process's number; all other threads are gone.
    pub(super) fn become_leader(&mut self, mut task: Box<Task>, host: HostId) -> Box<Task> {
        self.world.by_host.remove(&task.host);
        let threads = self.world.threads_of(task.process);
        let gone: Vec<_> = threads
            .iter()
            .filter_map(|id| self.world.tasks.remove(id))
            .collect();
        for thread in gone {
            self.forget(&thread);
        }
        // the former leader's turn is not the new one's
        self.world.ready.retain(|id| *id != task.process);
        task.id = task.process;
        task.host = host;
        self.world.by_host.insert(host, task.id);
        task
    }

    /// Prepares a program that has just been executed. One that cannot be prepared is killed, as the kernel kills one
    /// that it cannot load; only the first shows that the machine is none for this class.
    pub(super) fn executed_or_killed(&mut self, task: &mut Task) -> io::Result<bool> {
        match self.executed(task) {
            Err(error)
                if error.raw_os_error() != Some(libc::ESRCH)
                    && (self.world.patch.is_some() || task.registers.cs == CODE_32) =>
            {
                tracing::warn!(%error, task = task.id, "a program cannot be traced");
                trace::signal_process(task.host, libc::SIGKILL)?;
                task.next = Next::Run(0);
                Ok(true)
            }
            other => other,
        }
    }

    /// Prepares a program that has just been executed.
    pub(super) fn executed(&mut self, task: &mut Task) -> io::Result<bool> {
        if !std::mem::replace(&mut self.begun, true) {
            self.world.note_outer(task);
        }
        self.world.last_space += 1;
        task.space = self.world.last_space;
        task.exits.clear();
        self.world.held.forget(task.process);
        self.world.timers.forget_posix(task.process);
        task.deadline = None;
        task.clear_at_exit = 0;
        task.robust_list = 0;
        task.fetch()?;
        // it was none when its call was looked at, and could change to the machine's own code from here
        if task.registers.cs == CODE_32 {
            return Err(io::Error::other("a 32-bit program"));
        }
        let auxiliary = vdso::auxiliary(task)?;
        let base = auxiliary
            .iter()
            .find(|entry| entry.kind == libc::AT_SYSINFO_EHDR)
            .map(|entry| entry.value);
        if let Some(base) = base {
            self.replace(task, base)?;
        }
        if let Some(parent) = self
            .world
            .processes
            .get_mut(&task.process)
            .and_then(|process| process.releases.take())
        {
            self.world.release(parent);
        }
        virt::executed(&mut self.world, task, &auxiliary)?;
        observe::executed(&mut self.world, task)?;
        task.store()?;
        task.next = Next::Run(0);
        Ok(true)
    }

    fn replace(&mut self, task: &mut Task, base: u64) -> io::Result<()> {
        let patch = match self.world.patch.take() {
            Some(patch) => patch,
            None => Patch::plan(task, base, self.world.det.cpuid)?,
        };
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let memory = File::from(openat(
            &self.world.proc,
            format!("{}/mem", task.process),
            flags,
            Mode::empty(),
        )?);
        let applied = patch.apply(base, |at, bytes| memory.write_all_at(bytes, at));
        let start = patch.start(base);
        self.world.patch = Some(patch);
        applied?;
        let before = task.registers;
        task.registers.rip = start;
        trace::set_registers(task.host, &task.registers)?;
        trace::resume(task.host, 0)?;
        let patience = Patience::new();
        loop {
            match trace::wait(task.host, true)? {
                Some((_, Report::Signal(libc::SIGTRAP))) => break,
                // it would fault for ever
                Some((_, Report::Signal(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL))) => {
                    return Err(io::Error::other("the clock has no room in the program"));
                }
                Some((_, Report::Exited(_) | Report::Killed(_))) => {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                Some(_) => trace::resume(task.host, 0)?,
                None if patience.is_over() => return Err(io::ErrorKind::TimedOut.into()),
                None => {}
            }
        }
        task.registers = before;
        task.registers.rax = 0;
        task.registers.orig_rax = u64::MAX;
        task.changed = true;
        Ok(())
    }
}

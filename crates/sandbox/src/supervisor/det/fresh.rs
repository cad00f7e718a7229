//! A program that has just been executed, before its first instruction: its vDSO is replaced, its clock page made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Mode, OFlags, openat};

use super::patience::Patience;
use super::run::Engine;
use super::task::{Next, Task};
use super::vdso::{self, Patch};
use super::wait::On;
use super::world::World;
use super::{observe, virt};
use crate::sys::page::{self, SharedPage};
use crate::sys::trace::{self, HostId, Report};
use crate::sys::vdso::CLOCK_PAGE;

/// Code segment of a 32-bit program.
const CODE_32: u64 = 0x23;

impl Engine {
    /// A thread that executes a program takes its process's number; all other threads are gone.
    pub(super) fn become_leader(&mut self, mut task: Box<Task>, host: HostId) -> Box<Task> {
        self.world.by_host.remove(&task.host);
        self.world.clock.lose(&task);
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
        self.world.clock.lose(task);
        self.world.last_space += 1;
        let former = std::mem::replace(&mut task.space, self.world.last_space);
        self.world.forget_space(former);
        task.exits.clear();
        self.world.held.forget(task.process);
        // files that it does not keep lose their locks
        self.world.wake_all(On::is_of_others);
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
        run(task)?;
        self.share_clock(task);
        task.registers = before;
        task.registers.rax = 0;
        task.registers.orig_rax = u64::MAX;
        task.changed = true;
        Ok(())
    }

    /// Puts a page that the tracer has as well in the place of a program's clock page, which stays the program's own
    /// where that cannot be: its files may be as many as it can have.
    fn share_clock(&mut self, task: &mut Task) {
        match shared_page(&mut self.world, task) {
            Ok(page) => self.world.clock.share(task.space, page),
            Err(error) => tracing::debug!(%error, task = task.id, "a program's clock is its own"),
        }
    }
}

/// Lets a fresh program map a file in memory that it makes and closes again, and maps it here.
fn shared_page(world: &mut World, task: &mut Task) -> io::Result<SharedPage> {
    const RIGHTS: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
    const HOW: libc::c_int = libc::MAP_SHARED | libc::MAP_FIXED;
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    let flags = u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
    // no name: the clock page holds zeros
    let fd = call(task, libc::SYS_memfd_create, [CLOCK_PAGE, flags, 0, 0, 0, 0])?;
    let length = u64::try_from(page::LENGTH).unwrap_or(0);
    let number_there = i32::try_from(fd).unwrap_or(-1);
    let page = world.file(task, number_there).and_then(SharedPage::of);
    let mapped = page.and_then(|page| {
        let arguments = [CLOCK_PAGE, length, number(RIGHTS), number(HOW), fd, 0];
        call(task, libc::SYS_mmap, arguments).map(|_| page)
    });
    // `close` may be one of those that go to a listener
    let is_listening = world
        .processes
        .get(&task.process)
        .is_some_and(|process| process.route.listener().is_some());
    if is_listening {
        call(task, libc::SYS_close_range, [fd, fd, 0, 0, 0, 0])?;
    } else {
        call(task, libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    }
    mapped
}

/// Lets a task that stands behind the last call of what a fresh program runs first make that call once more, as another
/// one.
fn call(task: &mut Task, number: libc::c_long, arguments: [u64; 6]) -> io::Result<u64> {
    /// Lengths of `syscall` and of `int3`.
    const BOTH: u64 = 3;
    let now = &mut task.registers;
    [now.rdi, now.rsi, now.rdx, now.r10, now.r8, now.r9] = arguments;
    now.rax = number.unsigned_abs();
    now.orig_rax = u64::MAX;
    now.rip = now.rip.wrapping_sub(BOTH);
    run(task)?;
    let result = task.result();
    u64::try_from(result).map_err(|_| {
        io::Error::from_raw_os_error(i32::try_from(result.unsigned_abs()).unwrap_or(libc::EINVAL))
    })
}

/// Lets a task run with its registers to the next breakpoint.
fn run(task: &mut Task) -> io::Result<()> {
    trace::set_registers(task.host, &task.registers)?;
    trace::resume(task.host, 0)?;
    let patience = Patience::new();
    loop {
        match trace::wait(task.host, true)? {
            Some((_, Report::Signal(libc::SIGTRAP))) => return task.fetch(),
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
}

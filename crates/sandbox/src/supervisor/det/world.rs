//! The state of a traced job: all its tasks, virtual time, and what handlers remember.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::clock::Clock;
use super::futex::Futexes;
use super::held::{Held, OpenFile};
use super::memory;
use super::orders::Orders;
use super::quick::Route;
use super::task::{Next, Task, TaskId};
use super::timers::Timers;
use super::vdso::Patch;
use super::wait::{On, Woken};
use super::{observe, virt};
use crate::sys::trace::HostId;
use crate::wire::{Det, End};

/// One process: what its threads share.
#[derive(Debug)]
pub(in crate::supervisor) struct Process {
    /// Its number for the kernel's calls.
    pub(in crate::supervisor) host: HostId,
    /// Number of the process that made it.
    pub(in crate::supervisor) parent: TaskId,
    /// A thread of it has begun to end it.
    pub(super) ending: bool,
    /// Its reads and writes are traced.
    pub(super) blocking: bool,
    /// A task that goes on when this one has executed a program or ended: its `vfork` parent.
    pub(super) releases: Option<TaskId>,
    /// How it is heard of the calls that are quick to answer.
    pub(super) route: Route,
    pidfd: Option<OwnedFd>,
    /// The memory of its present program, by the number of the address space.
    memory: Option<(u32, OwnedFd)>,
}

impl Process {
    pub(super) const fn new(host: HostId, parent: TaskId) -> Self {
        Self {
            host,
            parent,
            ending: false,
            blocking: false,
            releases: None,
            route: Route::Stops(0),
            pidfd: None,
            memory: None,
        }
    }
}

/// A traced job.
#[derive(Debug)]
pub(in crate::supervisor) struct World {
    /// The order: the seed, and what the class allows.
    pub(in crate::supervisor) det: Det,
    /// The job's `/proc`, by the job's own numbers.
    pub(in crate::supervisor) proc: OwnedFd,
    /// What may end the job while something takes long.
    pub(super) orders: Orders,
    /// The job has to end like this.
    pub(super) end: Option<End>,
    /// Virtual time.
    pub(in crate::supervisor) clock: Clock,
    /// State of [`virt`].
    pub(in crate::supervisor) virt: virt::State,
    /// State of [`observe`].
    pub(in crate::supervisor) observe: observe::State,
    /// Files of the job that are looked at again.
    pub(in crate::supervisor) held: Held,
    /// Processes by their number inside.
    pub(in crate::supervisor) processes: BTreeMap<TaskId, Process>,
    /// Tasks by their number inside, without the one that is being looked at.
    pub(super) tasks: BTreeMap<TaskId, Box<Task>>,
    pub(super) by_host: HashMap<HostId, TaskId>,
    pub(super) ready: VecDeque<TaskId>,
    pub(super) futexes: Futexes,
    pub(super) timers: Timers,
    pub(super) patch: Option<Patch>,
    pub(super) last_id: TaskId,
    pub(super) last_space: u32,
    /// Traced calls so far.
    pub(super) calls: u64,
    /// Traced calls since the running task's turn began.
    pub(super) slice: u64,
    /// Signals of job control that the job itself has sent: others come from outside, and it learns nothing of them.
    pub(super) own_control: u64,
    /// How often somebody may have got a signal.
    pub(super) signals: u64,
    /// Processes that have been killed, whose deaths are still to be waited for.
    pub(super) dying: Vec<TaskId>,
    /// Dead processes that nobody has waited for.
    pub(super) zombies: Vec<TaskId>,
    /// When programs have to ask for the time may have changed.
    pub(super) due_changed: bool,
    /// The job's user on the host may be that of others, who use up what the kernel has for one.
    pub(super) shares_user: bool,
    /// There are named pipes.
    pub(super) has_fifos: bool,
    /// Device and inode of the job's standard output and error.
    outer: Vec<(u64, u64)>,
}

/// Hashing so many bytes takes no longer than other things that are done for a call.
const SMALL: u64 = 1 << 20;

/// A descriptor of a thread whose leader is dead, so that its files are found by itself alone (Linux 6.9).
fn thread(task: &Task) -> std::io::Result<OwnedFd> {
    const PIDFD_THREAD: u32 = libc::O_EXCL.cast_unsigned();
    let pid = Pid::from_raw(task.host).ok_or(std::io::ErrorKind::NotFound)?;
    Ok(pidfd_open(pid, PidfdFlags::from_bits_retain(PIDFD_THREAD))?)
}

impl World {
    pub(super) fn new(det: Det, proc: OwnedFd, orders: Orders) -> Self {
        Self {
            det,
            proc,
            orders,
            end: None,
            clock: Clock::new(),
            virt: virt::State::default(),
            observe: observe::State::default(),
            held: Held::default(),
            processes: BTreeMap::new(),
            tasks: BTreeMap::new(),
            by_host: HashMap::new(),
            ready: VecDeque::new(),
            futexes: Futexes::default(),
            timers: Timers::default(),
            patch: None,
            last_id: 1,
            last_space: 0,
            calls: 0,
            slice: 0,
            own_control: 0,
            signals: 0,
            dying: Vec::new(),
            zombies: Vec::new(),
            due_changed: false,
            shares_user: false,
            has_fifos: false,
            outer: Vec::new(),
        }
    }

    /// Takes note of where the main process's output goes.
    pub(super) fn note_outer(&mut self, main: &Task) {
        for number in [1, 2] {
            let stat = self.file(main, number).and_then(|fd| Ok(rustix::fs::fstat(&fd)?));
            self.outer
                .extend(stat.ok().map(|stat| (stat.st_dev, stat.st_ino)));
        }
    }

    /// Lets virtual time pass for so many bytes that are about to be read and hashed. An error where the job has not so
    /// much left: then it ends.
    pub(in crate::supervisor) fn spend_on_hashing(&mut self, bytes: u64) -> std::io::Result<()> {
        // about a nanosecond each
        self.clock.spend_nanos(bytes);
        if bytes > SMALL && self.clock.now() > self.det.budget_nanos {
            self.end = Some(End::Budget);
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// The kernel has no more of something for the job's user. Where others may have used it up the job ends: it would
    /// see of them what it got or not.
    pub(super) fn has_no_more(&mut self, what: &str) {
        if self.shares_user {
            self.end = Some(End::UsedUp(what.to_owned()));
        }
    }

    /// A copy of a task's file, for looking at it from here. EBADF where it has none by this number. Where there is no
    /// room for one the job ends: what it would see of that is the machine's matter.
    pub(in crate::supervisor) fn file(&mut self, task: &Task, fd: i32) -> std::io::Result<OwnedFd> {
        let file = self.copy(task, fd);
        if let Err(error) = &file
            && matches!(
                error.raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
            )
        {
            tracing::error!(%error, task = task.id, "a job's file cannot be looked at");
            self.end = Some(End::Lost);
        }
        file
    }

    fn copy(&mut self, task: &Task, fd: i32) -> std::io::Result<OwnedFd> {
        let bad = || std::io::Error::from_raw_os_error(libc::EBADF);
        if fd < 0 {
            return Err(bad());
        }
        if self
            .tasks
            .get(&task.process)
            .is_some_and(|leader| leader.next == Next::Dead)
        {
            return Ok(pidfd_getfd(thread(task)?, fd, PidfdGetfdFlags::empty())?);
        }
        let process = self.processes.get_mut(&task.process).ok_or_else(bad)?;
        if process.pidfd.is_none() {
            let pid = Pid::from_raw(process.host).ok_or_else(bad)?;
            process.pidfd = Some(pidfd_open(pid, PidfdFlags::empty())?);
        }
        let pidfd = process.pidfd.as_ref().ok_or_else(bad)?;
        Ok(pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())?)
    }

    /// Reads a string that ends with NUL of a task that waits for its listener, for looking at it: what the kernel would
    /// not let the task itself read may be read here.
    pub(super) fn look_at_text(
        &mut self,
        task: &Task,
        address: u64,
        limit: usize,
    ) -> std::io::Result<Vec<u8>> {
        let gone = || std::io::Error::from_raw_os_error(libc::ESRCH);
        let process = self.processes.get_mut(&task.process).ok_or_else(gone)?;
        // a file of it stays that of the memory that it was opened with
        if process
            .memory
            .as_ref()
            .is_none_or(|(space, _)| *space != task.space)
        {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let name = format!("{}/mem", task.process);
            let opened = openat(&self.proc, name, flags, Mode::empty());
            process.memory = opened.ok().map(|file| (task.space, file));
        }
        match &process.memory {
            Some((_, memory)) => memory::look_at_text(memory, task.host, address, limit),
            None => task.read_text(address, limit),
        }
    }

    /// A copy as of [`World::file`]; if there is one from before it is that one. Who knows that it cannot block may keep it.
    pub(in crate::supervisor) fn open_file(&mut self, task: &Task, fd: i32) -> std::io::Result<Rc<OpenFile>> {
        match self.held.get(task.process, fd) {
            Some(file) => Ok(file),
            None => Ok(Rc::new(OpenFile::new(self.file(task, fd)?)?)),
        }
    }

    /// Whether a file is one of the pipes that the job's output goes out by.
    pub(super) fn is_outer(&self, device: u64, inode: u64) -> bool {
        self.outer.contains(&(device, inode))
    }

    /// Puts a waiting task at the end of the queue.
    pub(super) fn wake(&mut self, id: TaskId, why: Woken) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let Some(wait) = task.wait.take() else { return };
        // one that does not stand at its call's entry has none to be interrupted, or was rewound
        let at_entry = task.next == Next::Decide;
        task.interrupted = (why == Woken::Signal && at_entry).then_some(wait.signals);
        if matches!(wait.on, On::Futex(..)) && why != Woken::Ready {
            self.futexes.forget(id);
        }
        task.woken = Some(why);
        self.due_changed = true;
        self.ready.push_back(id);
    }

    /// Wakes every task that waits for something which `matches`, in order of their numbers.
    pub(super) fn wake_all(&mut self, matches: impl Fn(&On) -> bool) {
        let waiting = self
            .tasks
            .values()
            .filter(|task| task.wait.as_ref().is_some_and(|wait| matches(&wait.on)));
        let ids: Vec<TaskId> = waiting.map(|task| task.id).collect();
        for id in ids {
            self.wake(id, Woken::Ready);
        }
    }

    /// Lets a held task run on.
    pub(super) fn release(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        if task.next == Next::Held {
            task.next = Next::Run(0);
            self.ready.push_back(id);
        }
    }

    /// Lets the running task give way to those that are ready when its call is over.
    pub(super) fn give_way(&mut self, task: &mut Task) {
        task.gives_way = true;
    }

    /// Numbers of all tasks of a process but the one that is being looked at.
    pub(super) fn threads_of(&self, process: TaskId) -> Vec<TaskId> {
        let threads = self.tasks.values().filter(|task| task.process == process);
        threads.map(|task| task.id).collect()
    }
}

//! The supervisor of one job: a process of its own, parent of the job's first process.
//!
//! Owns the job's deadline and limits in time, its end, and the clearing up. Reports once all processes are dead.
//! In the classes with a tracer (`det`) it hands the job's processes to that and keeps the limits.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::cgroup::JobGroups;
use super::init::{self, Inside};
use super::launcher::Machine;
use super::watch::Watch;
use super::{det, stage};
use crate::events::EventSender;
use crate::sys::{self, Forked};
use crate::wire::{Det, End, Ended, Note, Spec, receive, send};
use crate::{Layer, Layers, MemoryControl};

/// The namespaces that the job's first process is born into. Its network namespace is the supervisor's, which the
/// launcher has made for this job; those for users and control groups come later.
const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// How often a tracer looks at limits and orders, in milliseconds.
const TICK_MILLIS: u64 = 25;

/// What travels with a job.
#[derive(Debug)]
pub(super) struct JobFds {
    socket: OwnedFd,
    spec: OwnedFd,
    workspace: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl JobFds {
    /// In the order of [`Spec`]; `None` if it is not as many.
    pub(super) fn from_message(fds: Vec<OwnedFd>) -> Option<Self> {
        let [socket, spec, workspace, stdout, stderr] = <[OwnedFd; 5]>::try_from(fds).ok()?;
        Some(Self {
            socket,
            spec,
            workspace,
            stdout,
            stderr,
        })
    }
}

/// The name of a job's control groups.
pub(super) fn group_name(job: u32) -> String {
    format!("job-{job}")
}

/// Runs one job and ends this process.
pub(super) fn supervise(machine: &Machine, job: u32, fds: JobFds, launcher_socket: &OwnedFd) -> ! {
    // It must not look open when the launcher dies.
    sys::close_forked_copy(launcher_socket);
    let started = Instant::now();
    let JobFds {
        socket,
        spec,
        workspace,
        stdout,
        stderr,
    } = fds;
    let code = match read_spec(spec) {
        Ok(spec) => {
            let (ended, work) = run(machine, job, &spec, &socket, (workspace, stdout, stderr), started);
            let work: Vec<_> = work.iter().map(AsFd::as_fd).collect();
            // Fails only if the service is gone, and then nobody waits.
            i32::from(send(socket.as_fd(), &ended, &work).is_err())
        }
        Err(_) => 1,
    };
    sys::exit_now(code)
}

fn read_spec(file: OwnedFd) -> io::Result<Spec> {
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Sets up, waits, clears up. The work directory is there if the program ran.
fn run(
    machine: &Machine,
    job: u32,
    spec: &Spec,
    socket: &OwnedFd,
    (workspace, stdout, stderr): (OwnedFd, OwnedFd, OwnedFd),
    started: Instant,
) -> (Ended, Option<OwnedFd>) {
    let layers = |on: Vec<Layer>| Layers {
        on,
        memory: machine.groups.memory(),
        processes: machine.groups.processes(),
    };
    let refuse = |what: &str, error: io::Error| {
        let end = End::Refused(format!("{what}: {error}"));
        let wall_micros = micros(started.elapsed());
        Ended {
            end,
            cpu_micros: 0,
            memory_peak_bytes: 0,
            wall_micros,
            layers: layers(Vec::new()),
        }
    };
    let outside = machine.identity.outside(job);
    let stage = match stage::prepare(spec, workspace.as_fd(), outside) {
        Ok(stage) => stage,
        Err(error) => return (refuse("prepare the job's files", error), None),
    };
    for stream in [&stdout, &stderr] {
        if let Err(error) = stage::give(stream.as_fd(), outside) {
            return (refuse("give the job its streams", error), None);
        }
    }
    let groups = match machine.groups.create(&group_name(job), &spec.limits) {
        Ok(groups) => groups,
        Err(error) => return (refuse("make the job's control groups", error), None),
    };
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    );
    let (mine, theirs) = match pair {
        Ok(pair) => pair,
        Err(error) => return (refuse("make a socket", error.into()), None),
    };
    match sys::fork_into(NAMESPACES, groups.birthplace()) {
        Err(error) => (refuse("make namespaces", error), None),
        Ok(Forked::Child) => {
            drop(mine);
            sys::close_forked_copy(socket);
            let inside = Inside {
                machine,
                spec,
                groups: &groups,
                mount: &stage.mount,
                outside,
                stdout,
                stderr,
            };
            init::first_process(inside, theirs)
        }
        Ok(Forked::Parent(pid)) => {
            drop((theirs, stdout, stderr, workspace, stage.mount));
            let mut supervision = Supervision::new(spec, &groups, machine, started);
            let end = match spec.det {
                Some(det) => supervision.trace(job, pid, det, socket, &mine),
                None => supervision.wait(socket, &mine),
            };
            let ended = supervision.account(pid, end, layers(supervision.layers_on()));
            (ended, Some(stage.work))
        }
    }
}

/// What a supervisor knows while it waits.
struct Supervision<'a> {
    spec: &'a Spec,
    groups: &'a JobGroups<'a>,
    watch: Watch,
    /// The job's `/proc`, for a tracer.
    proc: Option<OwnedFd>,
    sums_memory: bool,
    shares_user: bool,
    started: Instant,
    ready: Option<bool>,
    exit: Option<End>,
}

impl<'a> Supervision<'a> {
    fn new(spec: &'a Spec, groups: &'a JobGroups<'a>, machine: &Machine, started: Instant) -> Self {
        let sums_memory = machine.groups.memory() == MemoryControl::Rlimit;
        Self {
            spec,
            groups,
            watch: Watch::default(),
            proc: None,
            sums_memory,
            shares_user: machine.identity.shares_users(),
            started,
            ready: None,
            exit: None,
        }
    }

    /// Waits for the job's end, or for a reason to end it. The first process may still live.
    fn wait(&mut self, socket: &OwnedFd, notes: &OwnedFd) -> Option<End> {
        let deadline = self.started + self.spec.limits.wall;
        let tick = Duration::from_millis(if self.sums_memory { 25 } else { 100 });
        loop {
            let now = Instant::now();
            let Some(left) = deadline
                .checked_duration_since(now)
                .filter(|left| !left.is_zero())
            else {
                break Some(End::WallClock);
            };
            let mut fds = [
                PollFd::new(socket, PollFlags::IN),
                PollFd::new(notes, PollFlags::IN),
            ];
            let ready = match poll(&mut fds, Some(&timespec(left.min(tick)))) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break Some(End::Lost),
            };
            if !fds[1].revents().is_empty() && !self.take_note(notes) {
                break None;
            }
            if !fds[0].revents().is_empty() {
                // Whatever comes from the service while its job runs, or its death, is the order to stop.
                break Some(End::Stopped);
            }
            if ready == 0
                && let Some(end) = self.over_limit()
            {
                break Some(end);
            }
        }
    }

    /// Traces the job to its end, or to a reason to end it.
    fn trace(&mut self, job: u32, init: i32, det: Det, socket: &OwnedFd, notes: &OwnedFd) -> Option<End> {
        let mut events = EventSender::new(socket.as_fd());
        let attached = det::attach(init).and_then(|()| {
            settle(job, init, det)?;
            // it looks at the job's files through copies of its own
            let most = sys::get_hard_rlimit(libc::RLIMIT_NOFILE)?;
            sys::set_rlimit(libc::RLIMIT_NOFILE, most)?;
            sys::trace::hear_no_stops()?;
            sys::trace::interrupt_regularly(Duration::from_millis(TICK_MILLIS))?;
            sys::trace::restart_no_sequences();
            sys::tsc::fault_until_read()?;
            send(notes.as_fd(), &(), &[])
        });
        if let Err(error) = attached {
            return Some(End::Refused(format!("trace the job: {error}")));
        }
        let main = match det::main_process(init, &mut || self.glance(socket, notes)) {
            Ok(main) => main,
            Err(end) => {
                self.glance(socket, notes);
                return end;
            }
        };
        while self.proc.is_none() && self.take_note(notes) {}
        let deadline = self.started.checked_add(self.spec.limits.wall);
        let engine = self.proc.take().map(|proc| {
            let orders = det::Orders::new(deadline, socket.try_clone()?);
            det::Engine::new(main, det, proc, orders, self.shares_user)
        });
        match engine {
            Some(Ok(mut engine)) => {
                let end = engine.run(&mut events, &mut || self.glance(socket, notes));
                self.glance(socket, notes);
                // where nobody takes them any more the job's end is known elsewhere
                let _ = events.flush();
                Some(end)
            }
            Some(Err(error)) => Some(End::Refused(format!("trace the job: {error}"))),
            None => None,
        }
    }

    /// Looks for notes, orders and limits without waiting.
    fn glance(&mut self, socket: &OwnedFd, notes: &OwnedFd) -> Option<End> {
        if self.started.elapsed() >= self.spec.limits.wall {
            return Some(End::WallClock);
        }
        loop {
            let mut fds = [
                PollFd::new(socket, PollFlags::IN),
                PollFd::new(notes, PollFlags::IN),
            ];
            match poll(&mut fds, Some(&timespec(Duration::ZERO))) {
                Ok(_) => {}
                Err(_) => return None,
            }
            if !fds[0].revents().is_empty() {
                return Some(End::Stopped);
            }
            if fds[1].revents().is_empty() || !self.take_note(notes) {
                break;
            }
        }
        self.over_limit()
    }

    /// Takes one note; `false` when there will be none any more.
    fn take_note(&mut self, notes: &OwnedFd) -> bool {
        let Ok(Some((note, mut fds))) = receive::<Note>(notes.as_fd()) else {
            return false;
        };
        match note {
            Note::Inside => {
                let proc = fds.pop();
                if self.spec.det.is_some() {
                    self.proc = proc.as_ref().and_then(|proc| proc.try_clone().ok());
                }
                self.watch = Watch::new(proc);
            }
            Note::Ready { landlock } => self.ready = Some(landlock),
            Note::Failed(what) => self.exit = Some(End::Refused(what)),
            Note::NotExecutable(error) => self.exit = Some(End::NotExecutable(error)),
            Note::Exit(status) => self.exit = self.exit.take().or(Some(End::Exit(status))),
        }
        !matches!(self.exit, Some(End::Exit(_) | End::Refused(_)))
    }

    fn over_limit(&self) -> Option<End> {
        if self.groups.killed_for_memory().unwrap_or(false) {
            return Some(End::Memory);
        }
        if self.sums_memory && self.watch.memory() > self.spec.limits.memory_bytes {
            return Some(End::Memory);
        }
        let cpu = self.groups.cpu().unwrap_or_else(|| self.watch.cpu());
        (cpu >= self.spec.limits.cpu).then_some(End::CpuTime)
    }

    fn layers_on(&self) -> Vec<Layer> {
        let Some(landlock) = self.ready else {
            return Vec::new();
        };
        Layer::ALL
            .into_iter()
            .filter(|layer| landlock || *layer != Layer::Landlock)
            .collect()
    }

    /// Kills what is left, waits until every process is dead, and judges the end by what the kernel counted.
    fn account(&self, pid: i32, end: Option<End>, layers: Layers) -> Ended {
        sys::kill_child(pid);
        let mut reaped = None;
        // A tracer gets the deaths of all tasks; the first process's is the last.
        while let Ok(Some(dead)) = sys::wait4(-1, true) {
            if dead.pid == pid {
                reaped = Some(dead);
                break;
            }
        }
        let wall_micros = micros(self.started.elapsed());
        let cpu = self
            .groups
            .cpu()
            .or(reaped.map(|reaped| reaped.cpu))
            .unwrap_or_default();
        let peak = self
            .groups
            .memory_peak()
            .or(reaped.map(|reaped| reaped.largest_rss))
            .unwrap_or(0);
        let natural = match self.exit.clone() {
            Some(refused @ End::Refused(_)) => Some(refused),
            _ if self.groups.killed_for_memory().unwrap_or(true) => Some(End::Memory),
            natural => end
                .or_else(|| (cpu >= self.spec.limits.cpu).then_some(End::CpuTime))
                .or(natural),
        };
        Ended {
            end: natural.unwrap_or(End::Lost),
            cpu_micros: micros(cpu),
            memory_peak_bytes: peak,
            wall_micros,
            layers,
        }
    }
}

/// Makes this process, and the job that it traces, share one processor, so that it hands over to the job and back
/// without waking another; and sees the CPUID that the job sees, else every change between them would cost a change of
/// the processor's settings, as it would for the counter of time (see [`sys::tsc`]).
fn settle(job: u32, init: i32, det: Det) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let place = usize::try_from(job).unwrap_or(0) % usable.len().max(1);
    if let Some(cpu) = usable.get(place) {
        let mut one = CpuSet::new();
        one.set(*cpu);
        sched_setaffinity(None, &one)?;
        sched_setaffinity(rustix::process::Pid::from_raw(init), &one)?;
    }
    if det.cpuid && !sys::trace::fault_on_cpuid() {
        return Err(io::Error::other("this processor cannot mask its features"));
    }
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn timespec(time: Duration) -> rustix::time::Timespec {
    rustix::time::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

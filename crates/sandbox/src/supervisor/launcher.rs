//! The launcher process: prepares the machine once, then forks a supervisor for each job.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use sha2::{Digest as _, Sha256};

use super::cgroup::Groups;
use super::filter::{self, SharedMemory};
use super::identity::{Identity, RANGE};
use super::job::{self, JobFds};
use super::proc_files::Covers;
use super::template;
use super::usr::UsrView;
use crate::MemoryControl;
use crate::sys::{self, Forked, Instruction};
use crate::wire::{Ready, Setup, SetupReply, receive, send};

/// How often dead supervisors are collected when nothing else happens, in milliseconds.
const REAP_MILLIS: i64 = 200;

/// Everything that is the same for all jobs.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) identity: Identity,
    /// Keeps the jobs' users from other launchers.
    _users: Option<OwnedFd>,
    pub(super) groups: Groups,
    pub(super) covers: Covers,
    pub(super) usr: UsrView,
    pub(super) filter: Vec<Instruction>,
    pub(super) traced_filter: Vec<Instruction>,
    pub(super) dirs: Vec<PathBuf>,
}

/// The launcher process: call it first thing in `main` when the command line says so. It has to be single-threaded,
/// takes its orders from the socket on standard input, and never returns.
pub fn supervisor_main() -> ! {
    let code = match serve() {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the sandbox launcher ends");
            1
        }
    };
    sys::exit_now(code)
}

fn serve() -> io::Result<()> {
    let socket = own_socket()?;
    // A group of its own: Ctrl-C on a terminal is for the service, which may want to drain. Fails for a group leader.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::empty());
    let Some((setup, _)) = receive::<Setup>(socket.as_fd())? else {
        return Ok(());
    };
    let machine = match Machine::prepare(setup) {
        Ok(machine) => machine,
        Err(reason) => return send(socket.as_fd(), &SetupReply::Failed(reason), &[]),
    };
    let ready = Ready {
        memory: machine.groups.memory(),
        processes: machine.groups.processes(),
        privileged: matches!(machine.identity, Identity::Privileged { .. }),
    };
    send(socket.as_fd(), &SetupReply::Ready(ready), &[])?;
    let result = machine.take_jobs(&socket);
    machine.groups.remove();
    result
}

/// The socket, moved away from standard input, which becomes `/dev/null`.
fn own_socket() -> io::Result<OwnedFd> {
    let inherited = sys::inherited_fd(0)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(&inherited, 3)?;
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    drop(inherited);
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// Lets everything that looks at the processor's features do so now: a tracer must never ask for them itself.
fn know_the_processor() {
    // The standard library and the hash functions remember what they have found.
    #[cfg(target_arch = "x86_64")]
    std::hint::black_box(is_x86_feature_detected!("avx2"));
    std::hint::black_box(Sha256::digest([0]));
}

impl Machine {
    fn prepare(setup: Setup) -> Result<Self, String> {
        know_the_processor();
        let (identity, users) = Identity::establish()
            .map_err(|error| format!("user namespaces cannot be made here ({error})"))?;
        let groups = Groups::establish(setup.cgroups).map_err(|error| format!("control groups: {error}"))?;
        let usr = template::build(&setup.dirs, setup.environments.as_deref(), identity)?;
        let covers = Covers::load().map_err(|error| format!("static /proc files: {error}"))?;
        let shared_memory = match groups.memory() {
            MemoryControl::CgroupV1 | MemoryControl::CgroupV2 => SharedMemory::Bounded,
            MemoryControl::Rlimit => SharedMemory::Unbounded,
        };
        Ok(Self {
            identity,
            _users: users,
            groups,
            covers,
            filter: filter::program(shared_memory),
            traced_filter: filter::traced(),
            usr,
            dirs: setup
                .dirs
                .into_iter()
                .filter(|dir| !dir.starts_with("/usr"))
                .collect(),
        })
    }

    /// Forks a supervisor for each message, until the service is gone; then waits for the supervisors.
    fn take_jobs(&self, socket: &OwnedFd) -> io::Result<()> {
        let mut running: Vec<(i32, u32)> = Vec::new();
        let mut job = 0_u32;
        // A job is born into the network namespace that the launcher is in, and the launcher leaves it at once: each
        // gets one of its own, and making it, which is the slowest part of a start, is done before it comes.
        sys::unshare(libc::CLONE_NEWNET)?;
        loop {
            self.reap(&mut running, false)?;
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            let timeout = rustix::time::Timespec {
                tv_sec: 0,
                tv_nsec: REAP_MILLIS * 1_000_000,
            };
            let timeout = (!running.is_empty()).then_some(&timeout);
            match poll(&mut fds, timeout) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let Some(((), fds)) = receive::<()>(socket.as_fd())? else {
                break;
            };
            let Some(fds) = JobFds::from_message(fds) else {
                continue;
            };
            job = next_number(job, &running);
            match sys::fork(0) {
                Ok(Forked::Parent(pid)) => running.push((pid, job)),
                Ok(Forked::Child) => job::supervise(self, job, fds, socket),
                // The job's socket closes, and the service sees that.
                Err(error) => tracing::error!(%error, "cannot fork a supervisor"),
            }
            // The job's pipes must be open in the job only.
            drop(fds);
            // Where this fails no second job may come here: the launcher ends, and another is started.
            sys::unshare(libc::CLONE_NEWNET)?;
        }
        while !running.is_empty() {
            self.reap(&mut running, true)?;
        }
        Ok(())
    }

    fn reap(&self, running: &mut Vec<(i32, u32)>, mut block: bool) -> io::Result<()> {
        while !running.is_empty() {
            let Some(dead) = sys::wait4(-1, block)? else { break };
            block = false;
            running.retain(|(pid, job)| {
                if *pid == dead.pid {
                    self.groups.sweep(&job::group_name(*job));
                }
                *pid != dead.pid
            });
        }
        Ok(())
    }
}

/// The next job's number: one whose user none of those that run has, as far as there are so many.
fn next_number(last: u32, running: &[(i32, u32)]) -> u32 {
    let has_its_user = |job: u32| running.iter().any(|(_, other)| other % RANGE == job % RANGE);
    let mut following = (1..=RANGE).map(|step| last.wrapping_add(step));
    following
        .find(|job| !has_its_user(*job))
        .unwrap_or_else(|| last.wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_running_jobs_have_one_user() {
        assert_eq!(next_number(7, &[(100, 7)]), 8);
        assert_eq!(next_number(RANGE, &[(100, 1), (101, 2), (102, RANGE)]), RANGE + 3);
        assert_eq!(next_number(u32::MAX, &[(100, 0)]), 1);
        let all: Vec<(i32, u32)> = (0..RANGE).map(|job| (100, job)).collect();
        assert_eq!(next_number(RANGE - 1, &all), RANGE);
    }
}

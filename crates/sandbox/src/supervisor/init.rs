//! The first process of a job: builds what is seen inside, starts the main process, reaps, and takes everything along
//! when it ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, mount, mount_bind, move_mount};
use rustix::process::{DumpableBehavior, Signal};

use super::cgroup::JobGroups;
use super::launcher::Machine;
use super::template::{IMAGES, STORE};
use super::{child, harden, stage};
use crate::environment::IMAGE;
use crate::sys::{self, Forked};
use crate::wire::{Note, Spec, receive, send};

/// What the first process works with.
pub(super) struct Inside<'a> {
    pub(super) machine: &'a Machine,
    pub(super) spec: &'a Spec,
    pub(super) groups: &'a JobGroups<'a>,
    pub(super) mount: &'a OwnedFd,
    pub(super) outside: u32,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Never returns. When it ends, the kernel kills every process of the job.
pub(super) fn first_process(inside: Inside<'_>, supervisor: OwnedFd) -> ! {
    if let Err(what) = prepare(&inside, &supervisor) {
        give_up(&supervisor, what);
    }
    if inside.spec.det.is_some() && !matches!(receive::<()>(supervisor.as_fd()), Ok(Some(_))) {
        give_up(&supervisor, "wait for the tracer".to_owned());
    }
    match sys::fork(0) {
        Ok(Forked::Child) => child::become_program(inside, &supervisor),
        Ok(Forked::Parent(main)) => {
            // The pipes have to close when the job's own processes are dead.
            drop((inside.stdout, inside.stderr));
            reap_until(main, &supervisor)
        }
        Err(error) => give_up(&supervisor, format!("start the main process: {error}")),
    }
}

/// Says what failed, and ends.
pub(super) fn give_up(supervisor: &OwnedFd, what: String) -> ! {
    let _ = send(supervisor.as_fd(), &Note::Failed(what), &[]);
    sys::exit_now(1)
}

fn prepare(inside: &Inside<'_>, supervisor: &OwnedFd) -> Result<(), String> {
    let step = |what: &str, result: io::Result<()>| result.map_err(|error| format!("{what}: {error}"));
    step("bind to the supervisor's life", die_with(supervisor))?;
    step("enter the control groups", inside.groups.enter())?;
    step(
        "make a control group namespace",
        sys::unshare(libc::CLONE_NEWCGROUP),
    )?;
    step("attach the job's files", attach(inside.mount))?;
    if let Some(image) = inside.spec.environment {
        // The images' own mount is read-only, without devices and set-user-id bits, and so is a bind of a part of it.
        let bound = mount_bind(format!("{IMAGES}/{}", image.cid()), IMAGE);
        step("mount the environment", bound.map_err(Into::into))?;
    }
    if inside.spec.det.is_some() {
        step("show the class's part of /usr", inside.machine.usr.apply())?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    step(
        "mount /proc",
        mount("proc", "/proc", "proc", flags, None).map_err(Into::into),
    )?;
    step("cover /proc", inside.machine.covers.apply())?;
    step(
        "hide the store",
        mount_bind(format!("{STORE}/empty"), STORE).map_err(Into::into),
    )?;
    step(
        "set the host name",
        rustix::system::sethostname(b"sandbox").map_err(Into::into),
    )?;
    let proc = rustix::fs::open(
        "/proc",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let proc = proc.map_err(|error| format!("open /proc: {error}"))?;
    step("report", send(supervisor.as_fd(), &Note::Inside, &[proc.as_fd()]))
}

/// Dies when the supervisor does, also if that has happened already.
fn die_with(supervisor: &OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut fds = [PollFd::new(supervisor, PollFlags::empty())];
    poll(
        &mut fds,
        Some(&rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )?;
    if fds[0].revents().contains(PollFlags::HUP) {
        return Err(io::Error::other("the supervisor is gone"));
    }
    Ok(())
}

fn attach(job: &OwnedFd) -> io::Result<()> {
    let store = format!("{STORE}/job");
    move_mount(
        job.as_fd(),
        "",
        CWD,
        store.as_str(),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    for (name, _, target) in stage::PARTS {
        mount_bind(format!("{store}/{name}"), target)?;
    }
    Ok(())
}

/// Waits for everybody, reports the main process's end, and ends.
fn reap_until(main: i32, supervisor: &OwnedFd) -> ! {
    // Nothing that runs from here on needs any right.
    let bare = harden::set_no_capabilities();
    let closed = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if bare.is_err() || closed.is_err() {
        give_up(supervisor, "give up the first process's rights".to_owned());
    }
    loop {
        match sys::wait4(-1, true) {
            Ok(Some(dead)) if dead.pid == main => {
                let _ = send(supervisor.as_fd(), &Note::Exit(dead.status), &[]);
                sys::exit_now(0)
            }
            Ok(_) => {}
            Err(error) => give_up(supervisor, format!("wait for the job: {error}")),
        }
    }
}

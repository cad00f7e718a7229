//! The main process of a job, from its fork to the program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::init::{Inside, give_up};
use super::{harden, probe};
use crate::wire::{Note, Program, send};
use crate::{MemoryControl, sys};

/// Never returns: becomes the program, or says why it could not.
pub(super) fn become_program(inside: Inside<'_>, supervisor: &OwnedFd) -> ! {
    if let Err(what) = put_on_everything(&inside, supervisor) {
        give_up(supervisor, what);
    }
    match &inside.spec.program {
        Program::Exec { path, argv } => {
            let error = match strings(path, argv, &inside.spec.env) {
                Ok((path, argv, env)) => sys::exec(&path, &argv, &env),
                Err(error) => error,
            };
            let number = error.raw_os_error().unwrap_or(libc::EINVAL);
            let _ = send(supervisor.as_fd(), &Note::NotExecutable(number), &[]);
            sys::exit_now(if number == libc::ENOENT { 127 } else { 126 })
        }
        Program::Probe(plan) => probe::run(plan),
    }
}

type Strings = (CString, Vec<CString>, Vec<CString>);

fn strings(path: &str, argv: &[String], env: &[(String, String)]) -> io::Result<Strings> {
    let argv = argv
        .iter()
        .map(|text| CString::new(text.as_str()))
        .collect::<Result<_, _>>()?;
    let env = env
        .iter()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    Ok((CString::new(path)?, argv, env))
}

fn put_on_everything(inside: &Inside<'_>, supervisor: &OwnedFd) -> Result<(), String> {
    let step = |what: &str, result: io::Result<()>| result.map_err(|error| format!("{what}: {error}"));
    let Inside {
        machine,
        spec,
        outside,
        ..
    } = inside;
    step(
        "take standard streams",
        take_streams(&inside.stdout, &inside.stderr),
    )?;
    step(
        "enter the work directory",
        rustix::process::chdir("/work").map_err(Into::into),
    )?;
    step(
        "make a user namespace",
        harden::enter_user_namespace(machine.identity, *outside),
    )?;
    step("drop capabilities", harden::drop_capabilities())?;
    let file_bytes = spec.limits.tmpfs_bytes.saturating_add(spec.input_bytes);
    // two machines of class det refuse the same memory, whether or not a group counts it as well
    let memory = match spec.det {
        Some(_) => MemoryControl::Rlimit,
        None => machine.groups.memory(),
    };
    let rlimits = harden::set_rlimits(&spec.limits, memory, file_bytes);
    step("set resource limits", rlimits)?;
    step(
        "set no_new_privs",
        rustix::thread::set_no_new_privs(true).map_err(Into::into),
    )?;
    let landlock =
        harden::restrict_paths(&machine.dirs).map_err(|error| format!("put up Landlock: {error}"))?;
    step("close descriptors", sys::close_from_at_exec(3))?;
    sys::reset_signals();
    step("report", send(supervisor.as_fd(), &Note::Ready { landlock }, &[]))?;
    let filter = match spec.det {
        Some(_) => {
            step("fault on RDTSC", sys::tsc::fault())?;
            step("fix addresses", sys::trace::fix_addresses())?;
            &machine.traced_filter
        }
        None => &machine.filter,
    };
    step("install the system call filter", sys::install_filter(filter))
}

fn take_streams(stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    rustix::process::setsid()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}

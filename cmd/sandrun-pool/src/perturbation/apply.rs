//! `__perturb`: changes what this process is and has, and becomes the sandbox's launcher. Owns the changes that the
//! launcher inherits; called while the process has one thread.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::personality::{self, Persona};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, fexecve, getgid, getuid, setgroups, sethostname, setresgid, setresuid};

use super::{Change, Conditions, Kind};
use crate::output::remark;

/// The hidden first argument; then the conditions as JSON, the file for the report, and the command.
pub(crate) const COMMAND: &str = "__perturb";

/// `CLONE_NEWTIME` (`linux/sched.h`).
const NEW_TIME: i32 = 0x80;

/// Makes the changes, writes down which came out, and executes the command; returns only where that fails.
pub(crate) fn apply_and_execute(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let error = match execute(arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    remark(&format!("error: {error}"));
    ExitCode::FAILURE
}

fn execute(mut arguments: impl Iterator<Item = OsString>) -> Result<std::convert::Infallible, String> {
    let missing = || format!("{COMMAND} needs conditions, a file for the report, and a command");
    let conditions = arguments.next().ok_or_else(missing)?;
    let conditions: Conditions =
        serde_json::from_str(&conditions.to_string_lossy()).map_err(|error| error.to_string())?;
    let report = arguments.next().ok_or_else(missing)?;
    let program = arguments.next().ok_or_else(missing)?;
    // both are opened by the user that this process still is
    let mut report = fs::File::create(&report).map_err(|error| error.to_string())?;
    let opened = fs::File::open(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    let changes = apply(&conditions);
    let text = serde_json::to_vec(&changes).map_err(|error| error.to_string())?;
    report.write_all(&text).map_err(|error| error.to_string())?;
    drop(report);
    let texts = |all: Vec<OsString>| -> Vec<CString> {
        all.into_iter()
            .filter_map(|text| CString::new(text.into_vec()).ok())
            .collect()
    };
    let mut command = vec![OsString::from("sandrun-supervisor")];
    command.extend(arguments);
    fexecve(
        &opened,
        &texts(command),
        &texts(environment(conditions.variables)),
    )
    .map_err(|error| format!("{}: {error}", program.display()))
}

/// The variables in the reverse order, and more of them.
fn environment(more: u32) -> Vec<OsString> {
    let mut all: Vec<OsString> = std::env::vars_os()
        .map(|(name, value)| {
            let mut text = name;
            text.push("=");
            text.push(value);
            text
        })
        .collect();
    all.extend(
        (0..more).map(|number| format!("SANDRUN_MORE_{number}={}", "x".repeat(number as usize)).into()),
    );
    all.reverse();
    all
}

/// Makes every change that can be made; the user last, as it takes the right to the others.
fn apply(wanted: &Conditions) -> Vec<Change> {
    let mut changes = vec![
        Change::new(
            Kind::OpenFiles,
            format!("{} more", wanted.open_files),
            said(open_files(wanted.open_files)),
        ),
        Change::new(
            Kind::Environment,
            format!("other order, {} more variables", wanted.variables),
            Ok(()),
        ),
        Change::new(
            Kind::Stack,
            format!("{} MiB", wanted.stack_mib),
            said(stack(wanted.stack_mib)),
        ),
        addresses(wanted.fixed_addresses),
        cpu(wanted.cpu),
    ];
    let user = if getuid().is_root() {
        None
    } else {
        // only in a user namespace of its own may it change what follows
        Some(said(own_users(wanted.uid)))
    };
    changes.push(Change::new(
        Kind::HostName,
        &wanted.host_name,
        said(host_name(&wanted.host_name)),
    ));
    changes.push(Change::new(
        Kind::Clocks,
        format!("{} days ahead", wanted.clock_days),
        clocks(wanted.clock_days),
    ));
    let user = user.unwrap_or_else(|| said(become_user(wanted.uid)));
    changes.push(Change::new(Kind::User, wanted.uid.to_string(), user));
    changes
}

fn said(result: Result<(), Errno>) -> Result<(), String> {
    result.map_err(|error| error.desc().to_owned())
}

fn open_files(more: u32) -> Result<(), Errno> {
    for _ in 0..more {
        // without CLOEXEC: the launcher is to have them
        let _ = open("/dev/null", OFlag::O_RDONLY, Mode::empty())?.into_raw_fd();
    }
    Ok(())
}

fn stack(mib: u32) -> Result<(), Errno> {
    let (_, hard) = getrlimit(Resource::RLIMIT_STACK)?;
    setrlimit(Resource::RLIMIT_STACK, u64::from(mib) << 20, hard)
}

fn addresses(fixed: bool) -> Change {
    let to = if fixed { "fixed" } else { "random" };
    let set = personality::get().and_then(|mut persona| {
        persona.set(Persona::ADDR_NO_RANDOMIZE, fixed);
        personality::set(persona).map(drop)
    });
    Change::new(Kind::Addresses, to, said(set))
}

/// One processor of those that are allowed.
fn cpu(place: u32) -> Change {
    let this = Pid::from_raw(0);
    let only = || -> Result<usize, Errno> {
        let allowed = sched_getaffinity(this)?;
        let mut numbers = (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap_or(false));
        let number = numbers.nth(place as usize).ok_or(Errno::EINVAL)?;
        let mut set = CpuSet::new();
        set.set(number)?;
        sched_setaffinity(this, &set)?;
        Ok(number)
    };
    match only() {
        Ok(number) => Change::new(Kind::Cpu, format!("number {number} alone"), Ok(())),
        Err(error) => Change::new(Kind::Cpu, "one alone", Err(error.desc().to_owned())),
    }
}

/// A user namespace in which this process is `uid`.
fn own_users(uid: u32) -> Result<(), Errno> {
    let (user, group) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    let write = |name: &str, text: String| {
        let path = format!("/proc/self/{name}");
        fs::write(path, text).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{uid} {user} 1"))?;
    write("gid_map", format!("{uid} {group} 1"))
}

fn become_user(uid: u32) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

fn host_name(name: &str) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWUTS)?;
    sethostname(name)
}

/// Moves the clocks that count from the machine's start; that of the date is one for the whole machine.
fn clocks(days: u32) -> Result<(), String> {
    said(unshare(CloneFlags::from_bits_retain(NEW_TIME)))?;
    let seconds = u64::from(days) * 86_400;
    fs::write(
        "/proc/self/timens_offsets",
        format!("monotonic {seconds} 0\nboottime {seconds} 0\n"),
    )
    .map_err(|error| error.to_string())
}

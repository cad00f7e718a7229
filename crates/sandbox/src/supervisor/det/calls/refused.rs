//! Calls that would make a job depend on the machine or get past its tracer.

use std::io;

use super::files::send_file;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    // ARCH_SET_GS, ARCH_SET_FS and their like need no look
    Rule(libc::SYS_arch_prctl, When::Unless(0, !7, 0x1000), invalid),
    Rule(libc::SYS_prctl, When::Always, prctl),
    Rule(libc::SYS_seccomp, When::Always, seccomp),
    Rule(libc::SYS_memfd_create, When::Always, absent),
    Rule(libc::SYS_splice, When::Always, invalid),
    Rule(libc::SYS_tee, When::Always, invalid),
    Rule(libc::SYS_vmsplice, When::Always, invalid),
    Rule(libc::SYS_sendfile, When::Blocking, send_file),
];

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn invalid(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    observe::denied(world, task, libc::EINVAL);
    Err(error(libc::EINVAL))
}

fn prctl(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const SET_PTRACER: i32 = 0x5961_6d61;
    match task.int(0) {
        libc::PR_SET_TSC | libc::PR_GET_TSC | libc::PR_SET_MM => invalid(world, task),
        // a death would come at a time of the kernel's
        libc::PR_SET_PDEATHSIG | libc::PR_SET_DUMPABLE | libc::PR_SET_TIMERSLACK | SET_PTRACER => {
            Ok(Entry::Done(0))
        }
        libc::PR_GET_TIMERSLACK => Ok(Entry::Done(50_000)),
        _ => Ok(Entry::Pass),
    }
}

/// A filter of the job's own is its matter; one that asks another process would wait in the kernel.
fn seccomp(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const SET_FILTER: i32 = 1;
    const LISTENER: u64 = 1 << 3;
    const SYNC: u64 = 1;
    if task.int(0) == SET_FILTER && task.argument(1) & !SYNC & LISTENER != 0 {
        return invalid(world, task);
    }
    Ok(Entry::Pass)
}

/// Memory files are not bounded on every machine, so that there are none on any.
fn absent(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    observe::denied(world, task, libc::ENOSYS);
    Err(error(libc::ENOSYS))
}

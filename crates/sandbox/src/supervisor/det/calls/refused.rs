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
    Rule(libc::SYS_sendfile, When::Always, send_file),
];

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

fn invalid(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    observe::denied(world, task, libc::EINVAL);
    Err(error(libc::EINVAL))
}

/// What every kernel answers alike: of names, signals, rights and dumps. All else depends on its version or on the
/// processor, and ends here.
const KNOWN: [i32; 14] = [
    libc::PR_GET_PDEATHSIG,
    libc::PR_GET_DUMPABLE,
    libc::PR_GET_KEEPCAPS,
    libc::PR_SET_KEEPCAPS,
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_SECCOMP,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_SECUREBITS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_CHILD_SUBREAPER,
    libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_CAP_AMBIENT,
];

fn prctl(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const SET_PTRACER: i32 = 0x5961_6d61;
    match task.int(0) {
        libc::PR_SET_TSC | libc::PR_GET_TSC | libc::PR_SET_MM | libc::PR_SET_SECCOMP => invalid(world, task),
        // a death would come at a time of the kernel's
        libc::PR_SET_PDEATHSIG | libc::PR_SET_DUMPABLE | libc::PR_SET_TIMERSLACK | SET_PTRACER => {
            Ok(Entry::Done(0))
        }
        libc::PR_GET_TIMERSLACK => Ok(Entry::Done(50_000)),
        known if KNOWN.contains(&known) => Ok(Entry::Pass),
        _ => invalid(world, task),
    }
}

/// A filter of the job's own would be asked before the tracer's: it could answer the calls that the tracer makes in a
/// task's name, and keep the tracer's second filter out. So there are none in this class, as on a kernel without them.
fn seccomp(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    invalid(world, task)
}

/// Memory files are not bounded on every machine, so that there are none on any.
fn absent(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    observe::denied(world, task, libc::ENOSYS);
    Err(error(libc::ENOSYS))
}

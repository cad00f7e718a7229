//! Sockets' options and names: those that the job itself sets, not what the kernel counts or draws by lot.

use std::io;

use super::buffers;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_setsockopt, When::Always, set_option),
    Rule(libc::SYS_getsockopt, When::Always, get_option),
    Rule(libc::SYS_bind, When::Always, bind),
];

/// Options of `SOL_SOCKET` that a socket between two processes has on every kernel. Not among them: times of arrival,
/// cookies, processors, labels, filters, and what the kernel's memory for it is.
const KNOWN: [i32; 22] = [
    libc::SO_DEBUG,
    libc::SO_REUSEADDR,
    libc::SO_TYPE,
    libc::SO_ERROR,
    libc::SO_DONTROUTE,
    libc::SO_BROADCAST,
    libc::SO_SNDBUF,
    libc::SO_RCVBUF,
    libc::SO_KEEPALIVE,
    libc::SO_OOBINLINE,
    libc::SO_PRIORITY,
    libc::SO_LINGER,
    libc::SO_REUSEPORT,
    libc::SO_PASSCRED,
    libc::SO_PEERCRED,
    libc::SO_RCVLOWAT,
    libc::SO_SNDLOWAT,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_ACCEPTCONN,
    libc::SO_PROTOCOL,
    libc::SO_DOMAIN,
];

fn is_known(task: &Task) -> bool {
    task.int(1) == libc::SOL_SOCKET && KNOWN.contains(&task.int(2))
}

fn get_option(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if is_known(task) {
        return Ok(Entry::Pass);
    }
    refuse(world, task, libc::ENOPROTOOPT)
}

/// With credentials asked for, a socket without a name is given one by lot when it is used; with a least number of
/// bytes asked for, the kernel would wait for them.
const NOT_SET: [i32; 2] = [libc::SO_PASSCRED, libc::SO_RCVLOWAT];

fn set_option(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if is_known(task) && matches!(task.int(2), libc::SO_SNDBUF | libc::SO_RCVBUF) {
        return buffers::resize(world, task);
    }
    if is_known(task) && !NOT_SET.contains(&task.int(2)) {
        return Ok(Entry::Pass);
    }
    refuse(world, task, libc::ENOPROTOOPT)
}

/// An address that is a family and nothing else asks for a name by lot.
fn bind(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const FAMILY_ALONE: i32 = 2;
    if task.int(2) > FAMILY_ALONE {
        return Ok(Entry::Pass);
    }
    refuse(world, task, libc::EINVAL)
}

fn refuse(world: &mut World, task: &mut Task, error: i32) -> io::Result<Entry> {
    observe::denied(world, task, error);
    Err(io::Error::from_raw_os_error(error))
}

//! `wait4` and `waitid`: the kernel is asked without waiting, and asked again after a child has changed.
//!
//! What a child has used is never the kernel's count: the call is made without the place for it, and the virtual one is
//! put there afterwards.

use std::io;

use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::virt;
use crate::supervisor::det::wait::{On, Signals, Wait};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_wait4, When::Always, wait4),
    Rule(libc::SYS_waitid, When::Always, waitid),
];

/// The arguments of `wait4` and `waitid` that say how to wait, and where the child's use of the machine is to be put.
const WAIT4: (usize, usize) = (2, 3);
const WAITID: (usize, usize) = (3, 4);
/// The argument of `waitid` that says where the child is to be told of.
const INFORMATION: usize = 2;
/// Bytes of a `siginfo_t`, and where in it the process's number is.
const INFORMATION_BYTES: usize = 128;
const PROCESS: u64 = 16;

fn hang() -> u64 {
    u64::from(libc::WNOHANG.unsigned_abs())
}

fn wait4(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (options, usage) = WAIT4;
    if task.argument(options) & hang() != 0 && task.argument(usage) == 0 {
        return Ok(Entry::Pass);
    }
    task.set_argument(options, task.argument(options) | hang());
    task.set_argument(usage, 0);
    Ok(Entry::Make(asked_wait4))
}

fn waitid(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (options, usage) = WAITID;
    if task.argument(options) & hang() != 0 && task.argument(usage) == 0 {
        return Ok(Entry::Pass);
    }
    if task.argument(INFORMATION) == 0 {
        // else nothing would tell whether there was a child; a stack that ends here has no room for it
        let place = instead(task);
        if task.write(place, &[0; INFORMATION_BYTES]).is_ok() {
            task.set_argument(INFORMATION, place);
        }
    }
    task.set_argument(options, task.argument(options) | hang());
    task.set_argument(usage, 0);
    Ok(Entry::Make(asked_waitid))
}

/// A place below what a task uses of its stack, for what it does not want to know.
fn instead(task: &Task) -> u64 {
    const RED_ZONE: u64 = 128;
    let length = u64::try_from(INFORMATION_BYTES).unwrap_or(0);
    task.registers.rsp.wrapping_sub(RED_ZONE + length) & !15
}

/// A call that a signal has interrupted is about to be made as it is, and may find a child all the same.
pub(super) fn interrupted(task: &mut Task) {
    let is_wait4 = task.call() == libc::SYS_wait4;
    let (_, usage) = if is_wait4 { WAIT4 } else { WAITID };
    if task.argument(usage) != 0 {
        task.set_argument(usage, 0);
        task.exits
            .push(if is_wait4 { found_by_wait4 } else { found_by_waitid });
    }
}

fn asked_wait4(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == 0 {
        wait_again(task, WAIT4.0);
    }
    found_by_wait4(world, task)
}

fn found_by_wait4(_: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() > 0 {
        tell(task, WAIT4.1)
    } else {
        Ok(())
    }
}

fn asked_waitid(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != 0 {
        return Ok(());
    }
    let place = match task.argument(INFORMATION) {
        0 => instead(task),
        place => place,
    };
    // with nobody to tell of, the process's number in it is zero
    if matches!(task.read_u32(place.wrapping_add(PROCESS)), Ok(0)) {
        wait_again(task, WAITID.0);
        return Ok(());
    }
    found_by_waitid(world, task)
}

fn found_by_waitid(_: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == 0 {
        tell(task, WAITID.1)
    } else {
        Ok(())
    }
}

/// Puts what a child has used where it is wanted: as `getrusage` has it, nothing.
fn tell(task: &Task, usage: usize) -> io::Result<()> {
    match task.argument(usage) {
        0 => Ok(()),
        place => task.write(place, &virt::rusage(0)),
    }
}

/// Lets a call that is to wait for a child do so.
fn wait_again(task: &mut Task, options: usize) {
    if task.argument(options) & hang() == 0 {
        task.again = Some(Wait {
            on: On::Child,
            until: None,
            signals: Signals::Make,
        });
    }
}

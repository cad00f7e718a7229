//! `wait4` and `waitid`: the kernel is asked without waiting, and asked again after a child has changed.

use std::io;

use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_wait4, When::Always, wait4),
    Rule(libc::SYS_waitid, When::Always, waitid),
];

fn wait4(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    ask(task, 2)
}

fn waitid(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    ask(task, 3)
}

fn ask(task: &mut Task, options: usize) -> io::Result<Entry> {
    let asked = task.argument(options);
    let hang = u64::from(libc::WNOHANG.unsigned_abs());
    if asked & hang != 0 {
        return Ok(Entry::Pass);
    }
    task.set_argument(options, asked | hang);
    Ok(Entry::Make(if options == 2 { asked_wait4 } else { asked_waitid }))
}

fn asked_wait4(_: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == 0 {
        task.again = Some(child());
    }
    Ok(())
}

fn asked_waitid(_: &mut World, task: &mut Task) -> io::Result<()> {
    let information = task.argument(2);
    // with nobody to tell of, the process's number in it is zero
    if task.result() == 0 && information != 0 && task.read_u32(information.wrapping_add(16))? == 0 {
        task.again = Some(child());
    }
    Ok(())
}

const fn child() -> Wait {
    Wait {
        on: On::Child,
        until: None,
        signals: Signals::Make,
    }
}

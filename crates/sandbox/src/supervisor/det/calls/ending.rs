//! `exit`, `exit_group`, and what a task's end does to those that wait for it.

use std::io;

use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_exit, When::Always, leave),
    Rule(libc::SYS_exit_group, When::Always, leave_all),
    Rule(libc::SYS_set_tid_address, When::Always, set_tid_address),
    Rule(libc::SYS_set_robust_list, When::Always, set_robust_list),
    Rule(libc::SYS_sched_yield, When::Always, sched_yield),
];

fn leave(world: &mut World, _: &mut Task) -> io::Result<Entry> {
    world.clock.now();
    Ok(Entry::Pass)
}

fn leave_all(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    world.clock.now();
    if let Some(process) = world.processes.get_mut(&task.process) {
        process.ending = true;
    }
    Ok(Entry::Pass)
}

fn set_tid_address(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    task.clear_at_exit = task.argument(0);
    Ok(Entry::Pass)
}

fn set_robust_list(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    task.robust_list = task.argument(0);
    Ok(Entry::Pass)
}

/// Lets the others have their turn; one that waits for something else by yielding lets time pass.
fn sched_yield(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const NANOS: u64 = 10_000;
    world.clock.advance(NANOS);
    world.look();
    if !world.ready.is_empty() {
        world.give_way(task);
    }
    Ok(Entry::Done(0))
}

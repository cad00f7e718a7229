//! The engine's own handlers: calls that wait, that tell the time, and that end or wake tasks.

mod blocking;
mod buffers;
mod commands;
mod ending;
mod files;
mod futex;
mod locks;
mod messages;
mod outer;
pub(super) mod pieces;
mod pipes;
mod polling;
mod refused;
mod signals;
mod sleep;
mod sockets;
mod tasks;
mod time;
mod timers;
mod waiting;

pub(super) use blocking::place as place_filter;
pub(super) use files::is_ready;
pub(super) use futex::{key as futex_key, wake_key};
pub(super) use outer::opened as outer_opened;

use super::table::Rule;
use super::task::Task;

/// All of them.
pub(super) const RULES: &[&[Rule]] = &[
    blocking::RULES,
    buffers::RULES,
    commands::RULES,
    ending::RULES,
    files::RULES,
    futex::RULES,
    locks::RULES,
    messages::RULES,
    outer::RULES,
    pipes::RULES,
    polling::RULES,
    refused::RULES,
    signals::RULES,
    sleep::RULES,
    sockets::RULES,
    tasks::RULES,
    time::RULES,
    timers::RULES,
    waiting::RULES,
];

/// A call that a signal has interrupted is about to be made as it is: what it tells is looked at all the same.
pub(super) fn interrupted(task: &mut Task) {
    match task.call() {
        libc::SYS_wait4 | libc::SYS_waitid => waiting::interrupted(task),
        libc::SYS_rt_sigtimedwait => task.exits.push(signals::taken),
        _ => {}
    }
}

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

pub(super) use files::is_ready;
pub(super) use futex::{key as futex_key, wake_key};
pub(super) use outer::opened as outer_opened;

use super::table::Rule;

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

//! The engine's own handlers: calls that wait, that tell the time, and that end or wake tasks.

mod blocking;
mod ending;
mod files;
mod futex;
mod pipes;
mod polling;
mod signals;
mod sleep;
mod time;
mod waiting;

use super::table::Rule;

/// All of them.
pub(super) const RULES: &[&[Rule]] = &[
    blocking::RULES,
    ending::RULES,
    files::RULES,
    futex::RULES,
    pipes::RULES,
    polling::RULES,
    signals::RULES,
    sleep::RULES,
    time::RULES,
    waiting::RULES,
];

//! The engine's own handlers: calls that wait, that tell the time, and that end or wake tasks.

mod ending;
mod futex;
mod sleep;
mod time;
mod waiting;

use super::table::Rule;

/// All of them.
pub(super) const RULES: &[&[Rule]] = &[
    ending::RULES,
    futex::RULES,
    sleep::RULES,
    time::RULES,
    waiting::RULES,
];

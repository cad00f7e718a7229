//! The table of handlers: which calls are traced, and who decides about them.
//!
//! Owns the order of handlers: observers first (they leave exit handlers), then virtual answers, then the engine.

use std::io;

use super::task::{Exit, Task};
use super::wait::Wait;
use super::{World, calls, observe, virt};

/// What happens to a call, as a handler at its entry decides.
#[derive(Debug)]
pub(in crate::supervisor) enum Entry {
    /// Nothing special: the next handler is asked, and after the last one the call is made.
    Pass,
    /// The same, and this handler is called at the call's exit, also where a later handler answers the call.
    Watch(Exit),
    /// The call is not made; this is its result (a negative error number for a failure).
    Done(i64),
    /// The call is made now, without asking later handlers, and this is called at its exit.
    Make(Exit),
    /// The task waits; then its handlers are asked again from the first one.
    Block(Wait),
}

/// Decides at a call's entry. An error ends up as the call's result (its error number).
pub(in crate::supervisor) type Handler = fn(&mut World, &mut Task) -> io::Result<Entry>;

/// When a call stops for the tracer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum When {
    /// Always.
    Always,
    /// If the low half of this argument, masked, has this value.
    If(u8, u32, u32),
    /// If it has another value.
    Unless(u8, u32, u32),
    /// Only in processes that have files which can block (pipes, sockets, events).
    Blocking,
}

/// One line: a call, when it stops, and who decides.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervisor) struct Rule(
    pub(in crate::supervisor) libc::c_long,
    pub(in crate::supervisor) When,
    pub(in crate::supervisor) Handler,
);

/// Highest call number that can be traced.
const MOST: usize = 512;

/// All lines, in the order in which handlers are asked.
pub(in crate::supervisor) fn rules() -> impl Iterator<Item = &'static Rule> {
    observe::RULES
        .iter()
        .chain(virt::RULES)
        .chain(calls::RULES.iter().flat_map(|rules| rules.iter()))
}

/// Handlers by call number.
#[derive(Debug)]
pub(super) struct Table(Vec<Vec<Handler>>);

impl Table {
    pub(super) fn new() -> Self {
        let mut handlers = vec![Vec::new(); MOST];
        for Rule(call, _, handler) in rules() {
            let place = usize::try_from(*call)
                .ok()
                .and_then(|call| handlers.get_mut(call));
            if let Some(place) = place {
                place.push(*handler);
            }
        }
        Self(handlers)
    }

    /// The handlers of a call; none for one that is not in the table.
    pub(super) fn of(&self, call: libc::c_long) -> &[Handler] {
        usize::try_from(call)
            .ok()
            .and_then(|call| self.0.get(call))
            .map_or(&[], Vec::as_slice)
    }
}

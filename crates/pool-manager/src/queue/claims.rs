//! Claims that wait for work: first come, first served; each until its deadline or until its caller has gone.

use std::collections::VecDeque;
use std::time::Instant;

use sandrun_core::pool::{ClaimNumber, NodeNumber};

use super::command::Reply;
use super::words::Work;

/// A claim that is to be served.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) node: NodeNumber,
    pub(super) max: u32,
    /// By a clock that nobody sets.
    pub(super) until: Instant,
    /// The node's own number of it.
    pub(super) number: Option<ClaimNumber>,
    pub(super) reply: Reply<Vec<Work>>,
}

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    queue: VecDeque<Waiter>,
}

impl Waiters {
    /// All of them, for one round; who goes on waiting comes back by [`Self::wait`] in the same order.
    pub(super) fn take(&mut self) -> VecDeque<Waiter> {
        let mut all = std::mem::take(&mut self.queue);
        all.retain(|waiter| !waiter.reply.is_closed());
        all
    }

    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.queue.push_back(waiter);
    }

    /// When the next one has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().map(|waiter| waiter.until).min()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

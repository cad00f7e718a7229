//! Facts a few blocks later, when they will hardly be undone. Owns what waits; pure but for the stream around it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::position::{Head, Logged};

use super::{ChainUpdate, Watch, WatchError};

/// Holds updates back until `depth` blocks stand on them. With depth 0 everything passes at once.
#[derive(Debug)]
pub struct Confirmations {
    depth: u64,
    waiting: VecDeque<(Head, Vec<Logged>)>,
    /// Events of a block whose head has not come yet.
    open: Vec<Logged>,
}

impl Confirmations {
    /// Asks for `depth` blocks on top of the one that holds an event.
    pub const fn new(depth: u64) -> Self {
        Self {
            depth,
            waiting: VecDeque::new(),
            open: Vec::new(),
        }
    }

    /// Takes an update and says what may pass now. An event that was undone while it waited never passes; one that
    /// passed before is passed on as undone: the reorganisation was deeper than `depth`.
    pub fn push(&mut self, update: ChainUpdate) -> Vec<ChainUpdate> {
        match update {
            ChainUpdate::Applied(logged) => {
                self.open.push(logged);
                Vec::new()
            }
            ChainUpdate::Undone(logged) => {
                if self.forget(&logged) {
                    Vec::new()
                } else {
                    vec![ChainUpdate::Undone(logged)]
                }
            }
            ChainUpdate::Head(head) => self.head(head),
        }
    }

    /// Removes an event that waits; whether there was one.
    fn forget(&mut self, logged: &Logged) -> bool {
        let lists = self
            .waiting
            .iter_mut()
            .map(|(_, events)| events)
            .chain([&mut self.open]);
        for events in lists {
            if let Some(place) = events.iter().position(|it| it.at == logged.at) {
                events.remove(place);
                return true;
            }
        }
        false
    }

    fn head(&mut self, head: Head) -> Vec<ChainUpdate> {
        let number = head.block.number;
        let open = std::mem::take(&mut self.open);
        // a head may come again when the chain goes back to it: what waits there still stands
        self.waiting
            .retain(|(it, _)| it.block.number < number || it.block == head.block);
        match self.waiting.back_mut() {
            Some((last, events)) if last.block == head.block => events.extend(open),
            Some(_) | None => self.waiting.push_back((head, open)),
        }
        let mut passing = Vec::new();
        while let Some((first, events)) = self.waiting.pop_front() {
            if first.block.number.saturating_add(self.depth) > number {
                self.waiting.push_front((first, events));
                break;
            }
            passing.extend(events.into_iter().map(ChainUpdate::Applied));
            passing.push(ChainUpdate::Head(first));
        }
        passing
    }
}

/// A [`Watch`] whose facts are `depth` blocks deep.
#[derive(Debug)]
pub struct Confirmed {
    watch: Watch,
    confirmations: Confirmations,
    ready: VecDeque<ChainUpdate>,
}

impl Watch {
    /// Delivers each fact when `depth` blocks stand on it; heads lag in the same way. A cursor that follows these heads
    /// makes a restart deliver again what had not passed.
    pub fn confirmed(self, depth: u64) -> Confirmed {
        Confirmed {
            watch: self,
            confirmations: Confirmations::new(depth),
            ready: VecDeque::new(),
        }
    }
}

impl Stream for Confirmed {
    type Item = Result<ChainUpdate, WatchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(update)));
            }
            match Pin::new(&mut self.watch).poll_next(cx) {
                Poll::Ready(Some(Ok(update))) => {
                    let passing = self.confirmations.push(update);
                    self.ready.extend(passing);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

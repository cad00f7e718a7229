//! The blocks that were delivered lately, with their events, so that they can be undone. Pure.

use std::collections::{BTreeMap, VecDeque};

use crate::position::{BlockRef, Head, Logged};

use super::{ChainUpdate, Cursor};

/// A delivered stretch of the chain: its last block, and the events since the stretch before.
#[derive(Debug, Clone)]
struct Stretch {
    end: BlockRef,
    events: Vec<Logged>,
}

/// The newest delivered stretches, oldest first.
#[derive(Debug)]
pub(super) struct History {
    start: u64,
    stretches: VecDeque<Stretch>,
    depth: u64,
    /// Whether the stretches hold everything since the start.
    whole: bool,
}

impl History {
    /// What a consumer remembers: its cursor, and its events of the cursor's blocks.
    pub(super) fn restore(cursor: &Cursor, known: impl IntoIterator<Item = Logged>, depth: u64) -> Self {
        let mut by_block: BTreeMap<u64, Vec<Logged>> = BTreeMap::new();
        for logged in known {
            by_block.entry(logged.at.block.number).or_default().push(logged);
        }
        let mut stretches = VecDeque::new();
        let mut before = None;
        for end in cursor.blocks() {
            // events of blocks between two heads belong to the later one
            let from = before.map_or(end.number, |number: u64| number + 1);
            let mut events: Vec<Logged> = by_block
                .range(from..=end.number)
                .flat_map(|(_, it)| it.clone())
                .collect();
            events.sort_by_key(|it| (it.at.block.number, it.at.log_index));
            stretches.push_back(Stretch { end: *end, events });
            before = Some(end.number);
        }
        let whole = cursor
            .blocks()
            .first()
            .is_none_or(|first| first.number == cursor.start());
        Self {
            start: cursor.start(),
            stretches,
            depth,
            whole,
        }
    }

    /// The last delivered block.
    pub(super) fn tip(&self) -> Option<BlockRef> {
        self.stretches.back().map(|it| it.end)
    }

    /// The oldest block below which nothing can be undone; `None` when everything since the start is remembered.
    pub(super) fn oldest(&self) -> Option<u64> {
        if self.whole {
            None
        } else {
            self.stretches.front().map(|it| it.end.number)
        }
    }

    /// First block that was not delivered.
    pub(super) fn next_block(&self) -> u64 {
        self.tip().map_or(self.start, |tip| tip.number.saturating_add(1))
    }

    /// Delivers a stretch.
    pub(super) fn push(
        &mut self,
        head: Head,
        events: Vec<Logged>,
    ) -> impl Iterator<Item = ChainUpdate> + use<> {
        self.stretches.push_back(Stretch {
            end: head.block,
            events: events.clone(),
        });
        while self.stretches.len() > 1
            && self
                .stretches
                .front()
                .is_some_and(|it| it.end.number + self.depth < head.block.number)
        {
            self.stretches.pop_front();
            self.whole = false;
        }
        events
            .into_iter()
            .map(ChainUpdate::Applied)
            .chain([ChainUpdate::Head(head)])
    }

    /// Takes the last stretch back, the last event first.
    pub(super) fn pop(&mut self) -> impl Iterator<Item = ChainUpdate> + use<> {
        let events = self.stretches.pop_back().map(|it| it.events).unwrap_or_default();
        events.into_iter().rev().map(ChainUpdate::Undone)
    }
}

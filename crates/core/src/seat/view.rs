//! One job as the chain shows it to one node: a fold over the logs that are applied now. A log that is undone is
//! taken out and the fold is made anew, so that nothing of it stays. What follows from time alone is the market's
//! table of transitions, not a second one here.

use std::collections::BTreeMap;

use sandrun_types::{Answer, NodeIndex, ResultDigest, SeatIndex, UnixSeconds};

use super::{Held, Position, Terms};
use crate::market::rules::{Progress, next_step};
use crate::market::{JobFacts, MarketEvent, Outcome, Phase, Round, SeatEnd};

/// Our seat, and in which blocks it came to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeatView {
    pub(super) held: Held,
    pub(super) is_committed: bool,
    pub(super) revealed: Option<Answer>,
    pub(super) finished: Option<(SeatEnd, Position)>,
}

/// The job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct JobView {
    /// `None` while the posting is not in the chain.
    facts: Option<JobFacts>,
    reveals: BTreeMap<SeatIndex, Answer>,
    ends: BTreeMap<SeatIndex, Position>,
    commits: BTreeMap<SeatIndex, Position>,
    decided: Option<Position>,
}

/// The logs that are in the chain now, in their order, and the head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ChainLog {
    logs: Vec<(Position, MarketEvent)>,
    pub(super) head: Option<(u64, UnixSeconds)>,
}

impl ChainLog {
    /// Takes in a log; one that is known already changes nothing.
    pub(super) fn apply(&mut self, at: Position, event: MarketEvent) {
        let place = self
            .logs
            .partition_point(|(known, _)| (known.block, known.log) < (at.block, at.log));
        match self.logs.get(place) {
            Some((known, log)) if *known == at && *log == event => {}
            Some(_) | None => self.logs.insert(place, (at, event)),
        }
    }

    /// Takes a log out; `false` when it is not there.
    pub(super) fn undo(&mut self, at: Position, event: &MarketEvent) -> bool {
        let place = self
            .logs
            .iter()
            .rposition(|(known, log)| *known == at && log == event);
        if let Some(place) = place {
            self.logs.remove(place);
        }
        place.is_some()
    }

    /// Whether `block` has `confirmations` blocks on top of it: none of them means as soon as it is in the chain.
    pub(super) fn is_deep(&self, block: u64, confirmations: u64) -> bool {
        self.head
            .is_some_and(|(head, _)| block.saturating_add(confirmations) <= head)
    }

    pub(super) fn fold(&self, terms: &Terms) -> JobView {
        let mut view = JobView::default();
        for (at, event) in &self.logs {
            view.take(terms, *at, event);
        }
        view
    }
}

impl JobView {
    fn take(&mut self, terms: &Terms, at: Position, event: &MarketEvent) {
        let taken = match &mut self.facts {
            None => {
                self.facts = JobFacts::posted(event, terms.windows).ok();
                return;
            }
            Some(facts) => facts.apply(event).is_ok(),
        };
        if !taken {
            // what contradicts the logs before it has no place in this history: its other half is still to come
            return;
        }
        if let MarketEvent::Committed { seat, .. } = event {
            self.commits.insert(*seat, at);
        } else if let MarketEvent::Revealed { seat, answer, .. } = event {
            self.reveals.insert(*seat, *answer);
        } else if let MarketEvent::SeatFinished { seat, .. } = event {
            self.ends.insert(*seat, at);
        } else if let MarketEvent::JobDecided { .. } = event {
            self.decided = Some(at);
        }
    }

    /// The seat of `node`, which has one at most.
    pub(super) fn seat_of(&self, node: NodeIndex) -> Option<SeatView> {
        let (seat, known) = self.facts.as_ref()?.seat_of(node)?;
        let finish = known.end.map(|finish| finish.end);
        Some(SeatView {
            held: Held {
                seat,
                round: known.round,
            },
            is_committed: self.commits.contains_key(&seat),
            revealed: self.reveals.get(&seat).copied(),
            finished: finish.zip(self.ends.get(&seat).copied()),
        })
    }

    pub(super) const fn is_posted(&self) -> bool {
        self.facts.is_some()
    }

    pub(super) fn is_published(&self, digest: &ResultDigest) -> bool {
        self.facts
            .as_ref()
            .is_some_and(|facts| facts.results.contains_key(digest))
    }

    /// Seats of the same round and a lower number that have committed and not revealed yet.
    pub(super) fn reveals_awaited_before(&self, held: Held) -> u32 {
        let Some(facts) = &self.facts else { return 0 };
        let awaited = self.commits.keys().filter(|seat| {
            let is_before = **seat < held.seat && !self.reveals.contains_key(seat);
            let known = facts.seats.get(usize::from(seat.0));
            is_before && known.is_some_and(|known| known.round == held.round)
        });
        u32::try_from(awaited.count()).unwrap_or(u32::MAX)
    }

    /// How the job ended, once the chain says so, and where it says it.
    pub(super) fn decided(&self) -> Option<(Outcome, Position)> {
        self.facts.as_ref()?.outcome().zip(self.decided)
    }

    /// The last commit of all.
    pub(super) fn last_commit(&self) -> Option<Position> {
        self.commits.values().copied().max_by_key(|at| at.block)
    }

    /// The phase and round that the chain has noticed.
    pub(super) fn noticed(&self) -> Option<(Phase, Round)> {
        self.facts.as_ref().map(|facts| (facts.phase, facts.round))
    }

    /// The job at `now` by the rules, noticed by a transaction or not. `None` when it is not posted.
    pub(super) fn at(&self, now: UnixSeconds) -> Option<Progress> {
        self.facts.as_ref().map(|facts| facts.at(now).0)
    }

    /// The same while something can still be done in it: `None` also when it is closed or only waits to be.
    pub(super) fn live_at(&self, now: UnixSeconds) -> Option<Progress> {
        self.at(now).filter(|progress| progress.phase != Phase::Closed)
    }

    /// Since when a transaction is missing that nobody's turn brings: one that ends the job or opens the extra round.
    pub(super) fn overdue_since(&self, now: UnixSeconds) -> Option<UnixSeconds> {
        let facts = self.facts.as_ref()?;
        let mut progress = facts.progress();
        while let Some(step) = next_step(&progress, now) {
            if !step.transition.comes_by_itself() {
                return Some(step.at);
            }
            progress.make(step, &facts.windows);
        }
        None
    }
}

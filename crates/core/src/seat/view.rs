//! One job as the chain shows it to one node: a fold over the logs that are applied now. A log that is undone is
//! taken out and the fold is made anew, so that nothing of it stays.

use std::collections::BTreeSet;

use sandrun_types::{Answer, NodeIndex, Redundancy, ResultDigest, SeatIndex, UnixSeconds};

use super::{Position, Terms};
use crate::market::{MarketEvent, Outcome, Phase, Round, SeatEnd};

/// A seat as its logs tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeatView {
    pub(super) index: SeatIndex,
    pub(super) node: NodeIndex,
    pub(super) round: Round,
    pub(super) claimed: Position,
    pub(super) committed: Option<Position>,
    pub(super) revealed: Option<(Answer, Position)>,
    pub(super) finished: Option<(SeatEnd, Position)>,
}

/// Where the job's clockwork stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) phase: Phase,
    pub(super) round: Round,
    pub(super) deadline: UnixSeconds,
}

/// The job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct JobView {
    /// `None` while the posting is not in the chain.
    pub(super) stage: Option<Stage>,
    pub(super) seats: Vec<SeatView>,
    pub(super) published: BTreeSet<ResultDigest>,
    pub(super) decided: Option<(Outcome, Position)>,
    pub(super) closed: Option<Position>,
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
        match event {
            MarketEvent::JobPosted { deadline, .. } => {
                self.stage = Some(Stage {
                    phase: Phase::Seats,
                    round: Round::First,
                    deadline: *deadline,
                });
            }
            MarketEvent::SeatClaimed {
                node, seat, deadline, ..
            } => self.claimed(terms, at, *node, *seat, *deadline),
            MarketEvent::Committed { seat, deadline, .. } => self.committed(at, *seat, *deadline),
            MarketEvent::Revealed { seat, answer, .. } => {
                self.edit(*seat, |it| it.revealed = Some((*answer, at)));
            }
            MarketEvent::ResultPublished { digest, .. } => {
                self.published.insert(*digest);
            }
            MarketEvent::RoundOpened { deadline, .. } => {
                self.stage = Some(Stage {
                    phase: Phase::Seats,
                    round: Round::Extra,
                    deadline: *deadline,
                });
            }
            MarketEvent::PhaseChanged { phase, deadline, .. } => {
                if let Some(stage) = &mut self.stage {
                    stage.phase = *phase;
                    stage.deadline = *deadline;
                }
                if *phase == Phase::Closed {
                    self.closed = Some(at);
                }
            }
            MarketEvent::JobDecided { outcome, .. } => self.decided = Some((*outcome, at)),
            MarketEvent::SeatFinished { seat, end, .. } => {
                self.edit(*seat, |it| it.finished = Some((*end, at)));
            }
            MarketEvent::Refunded { .. }
            | MarketEvent::Burnt { .. }
            | MarketEvent::Withdrawn { .. }
            | MarketEvent::NodeWithdrawn { .. }
            | MarketEvent::NodeRegistered { .. }
            | MarketEvent::ProfileChanged { .. }
            | MarketEvent::PayoutChanged { .. }
            | MarketEvent::StakeAdded { .. }
            | MarketEvent::OptedIn { .. }
            | MarketEvent::Leaving { .. }
            | MarketEvent::Released { .. }
            | MarketEvent::StakeWithdrawn { .. }
            | MarketEvent::Seized { .. } => {}
        }
    }

    fn claimed(
        &mut self,
        terms: &Terms,
        at: Position,
        node: NodeIndex,
        index: SeatIndex,
        deadline: UnixSeconds,
    ) {
        let Some(stage) = self.stage else { return };
        self.seats.push(SeatView {
            index,
            node,
            round: stage.round,
            claimed: at,
            committed: None,
            revealed: None,
            finished: None,
        });
        let full = self.in_round(stage.round).count() >= seats_of(terms, stage.round);
        let phase = if full { Phase::Run } else { Phase::Seats };
        self.stage = Some(Stage {
            phase,
            deadline,
            ..stage
        });
    }

    fn committed(&mut self, at: Position, seat: SeatIndex, deadline: UnixSeconds) {
        self.edit(seat, |it| it.committed = Some(at));
        let Some(stage) = self.stage else { return };
        let all = self.in_round(stage.round).all(|it| it.committed.is_some());
        let phase = if all { Phase::Reveal } else { Phase::Run };
        self.stage = Some(Stage {
            phase,
            deadline,
            ..stage
        });
    }

    fn edit(&mut self, seat: SeatIndex, change: impl FnOnce(&mut SeatView)) {
        if let Some(it) = self.seats.iter_mut().find(|it| it.index == seat) {
            change(it);
        }
    }

    fn in_round(&self, round: Round) -> impl Iterator<Item = &SeatView> {
        self.seats.iter().filter(move |it| it.round == round)
    }

    /// The seat of `node`, which has one at most.
    pub(super) fn seat_of(&self, node: NodeIndex) -> Option<&SeatView> {
        self.seats.iter().find(|it| it.node == node)
    }

    /// Whether enough seats are taken for the present round to be run for certain.
    pub(super) fn will_run(&self, terms: &Terms, round: Round) -> bool {
        match round {
            Round::First => self.in_round(round).count() >= usize::from(terms.redundancy.quorum()),
            Round::Extra => true,
        }
    }

    /// The last commit of all.
    pub(super) fn last_commit(&self) -> Option<Position> {
        self.seats
            .iter()
            .filter_map(|it| it.committed)
            .max_by_key(|at| at.block)
    }

    /// The stage at `now`: windows that are over have passed, with or without a transaction that says so. `None` when
    /// the job is not posted, is closed, or only waits for the transaction that ends it.
    pub(super) fn stage_at(&self, terms: &Terms, now: UnixSeconds) -> Option<Stage> {
        let stage = self.last_stage(terms, now)?;
        (stage.phase != Phase::Closed && now <= stage.deadline).then_some(stage)
    }

    /// The last stage that has begun, over or not.
    fn last_stage(&self, terms: &Terms, now: UnixSeconds) -> Option<Stage> {
        let mut stage = self.stage?;
        while now > stage.deadline {
            match self.after(terms, stage) {
                Some(next) => stage = next,
                None => break,
            }
        }
        Some(stage)
    }

    /// Whether the job is closed, or nothing but the transaction that ends it is missing. An extra round may still
    /// open when a reveal window is over.
    pub(super) fn is_overdue_or_closed(&self, terms: &Terms, now: UnixSeconds) -> bool {
        let may_reopen = |stage: &Stage| {
            stage.phase == Phase::Reveal && stage.round == Round::First && terms.redundancy != Redundancy::One
        };
        self.last_stage(terms, now).is_some_and(|stage| {
            stage.phase == Phase::Closed || (now > stage.deadline && !may_reopen(&stage))
        })
    }

    /// Since when a transaction is missing that nobody's turn brings: one that ends the job or opens the extra round.
    pub(super) fn overdue_since(&self, terms: &Terms, now: UnixSeconds) -> Option<UnixSeconds> {
        let (first, last) = (self.stage?, self.last_stage(terms, now)?);
        if last.phase == Phase::Closed {
            None
        } else if last.round != first.round {
            Some(first.deadline)
        } else {
            (now > last.deadline).then_some(last.deadline)
        }
    }

    /// What follows a stage whose deadline has passed; `None` when the job only waits to be ended.
    fn after(&self, terms: &Terms, stage: Stage) -> Option<Stage> {
        let next = |phase, round, seconds: u64| {
            Some(Stage {
                phase,
                round,
                deadline: stage.deadline.plus(seconds),
            })
        };
        let seats = self.in_round(stage.round).count();
        let commits = self
            .in_round(stage.round)
            .filter(|it| it.committed.is_some())
            .count();
        let quorum = usize::from(terms.redundancy.quorum());
        match (stage.phase, stage.round) {
            (Phase::Seats, Round::First) if seats < quorum => None,
            (Phase::Seats, Round::Extra) if seats == 0 => self.after_empty_extra_round(terms, stage),
            (Phase::Seats, round) => next(Phase::Run, round, terms.run_window()),
            (Phase::Run, Round::First) if terms.redundancy != Redundancy::One && commits < quorum => {
                next(Phase::Seats, Round::Extra, u64::from(terms.windows.seat))
            }
            (Phase::Run, round) => next(Phase::Reveal, round, u64::from(terms.windows.reveal)),
            (Phase::Reveal | Phase::Closed, Round::First | Round::Extra) => None,
        }
    }

    /// With nobody in the extra round, what there is decides: commits of the first round that were held back are
    /// opened now, if there are any.
    fn after_empty_extra_round(&self, terms: &Terms, stage: Stage) -> Option<Stage> {
        let held_back = self
            .seats
            .iter()
            .any(|it| it.committed.is_some() && it.revealed.is_none());
        let deadline = stage.deadline.plus(u64::from(terms.windows.reveal));
        held_back.then_some(Stage {
            phase: Phase::Reveal,
            deadline,
            ..stage
        })
    }
}

fn seats_of(terms: &Terms, round: Round) -> usize {
    match round {
        Round::First => usize::from(terms.redundancy.replicas()),
        Round::Extra => 2,
    }
}

//! What anyone can know about a job from its chain events, what it waits for, and what may be done about it.
//!
//! Owns the fold of events into [`JobFacts`] and the two questions [`why`] and [`due`], which are answered by the one
//! table of transitions in [`super::rules`]. An undone event is taken out by folding the others anew. Never reads a
//! chain.

mod due;
mod fold;
mod why;

use std::collections::BTreeMap;

use sandrun_types::{JobId, NodeIndex, Order, ResultDigest, SeatIndex, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::rules::{
    Payment, Progress, Resolution, SeatRecord, Stake, Standing, Transition, Windows, next_step,
};
use super::{Outcome, Phase, PublishedResult, Round, SeatEnd};

pub use due::{Due, due};
pub use fold::FactsError;
pub use why::{Owes, WaitsFor, Why, why};

/// A job as its events tell it. Time has passed since the last event: ask [`JobFacts::at`] for what follows from that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFacts {
    /// The job.
    pub job: JobId,
    /// What was posted.
    pub order: Order,
    /// The deployment's windows.
    pub windows: Windows,
    /// The round that the events have reached.
    pub round: Round,
    /// The phase that the events have reached.
    pub phase: Phase,
    /// Its deadline.
    pub deadline: UnixSeconds,
    /// U when the present round opened.
    pub units: u32,
    /// All seats, in the order of claims.
    pub seats: Vec<SeatFacts>,
    /// How it ended, once that is fixed.
    pub resolution: Option<Resolution>,
    /// Results whose parts are published.
    pub results: BTreeMap<ResultDigest, PublishedResult>,
    /// What went back to the payer, once it did.
    pub refunded: Option<Payment>,
    /// What a cancel burnt.
    pub burnt: Payment,
}

/// A seat as its events tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatFacts {
    /// Who holds it.
    pub node: NodeIndex,
    /// In which round it was won.
    pub round: Round,
    /// What it did.
    pub standing: Standing,
    /// What became of it, once it is finished.
    pub end: Option<SeatFinish>,
}

/// How a seat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatFinish {
    /// What became of it.
    pub end: SeatEnd,
    /// Credited to its node, in the order's token.
    pub paid: Payment,
    /// Taken from its bond.
    pub slashed: Stake,
}

impl JobFacts {
    /// How it ended, in the contract's word.
    pub fn outcome(&self) -> Option<Outcome> {
        self.resolution.map(Resolution::outcome)
    }

    /// The digest that won, and its parts.
    pub fn winner(&self) -> Option<(ResultDigest, Option<&PublishedResult>)> {
        let digest = self.resolution.and_then(Resolution::winning_digest)?;
        Some((digest, self.results.get(&digest)))
    }

    /// Locked money that is not paid, burnt or refunded yet.
    pub fn remaining(&self) -> Payment {
        let locked = Payment(self.order.locked_sum().unwrap_or_default());
        let paid = self.seats.iter().filter_map(|seat| seat.end).map(|end| end.paid);
        let gone = paid.chain([self.burnt, self.refunded.unwrap_or_default()]);
        locked.saturating_sub(gone.fold(Payment::ZERO, Payment::saturating_add))
    }

    /// The job as the rules see it.
    pub fn progress(&self) -> Progress {
        Progress {
            redundancy: self.order.redundancy,
            wall_limit: self.order.wall_limit,
            round: self.round,
            phase: self.phase,
            deadline: self.deadline,
            seats: self
                .seats
                .iter()
                .map(|it| SeatRecord {
                    round: it.round,
                    standing: it.standing,
                })
                .collect(),
            resolution: self.resolution,
        }
    }

    /// The job as it stands at `now` by the rules, and the transitions that no transaction has noticed yet.
    pub fn at(&self, now: UnixSeconds) -> (Progress, Vec<Transition>) {
        let mut progress = self.progress();
        let mut pending = Vec::new();
        while let Some(step) = next_step(&progress, now) {
            progress.make(step, &self.windows);
            pending.push(step.transition);
        }
        (progress, pending)
    }

    /// The seat of `node`.
    pub fn seat_of(&self, node: NodeIndex) -> Option<(SeatIndex, &SeatFacts)> {
        let found = self
            .seats
            .iter()
            .enumerate()
            .find(|(_, seat)| seat.node == node)?;
        Some((SeatIndex(u8::try_from(found.0).ok()?), found.1))
    }
}

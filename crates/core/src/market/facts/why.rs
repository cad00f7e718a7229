//! What a job waits for, who owes the next step, and until when: derived from the table of transitions.

use std::fmt;

use sandrun_types::{NodeIndex, SeatIndex, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::JobFacts;
use crate::market::Phase;
use crate::market::rules::{Progress, Transition};

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The next step.
    pub waits_for: WaitsFor,
    /// Who owes it.
    pub owes: Owes,
    /// Until when it can be done; `None` when there is no end to it.
    pub until: Option<UnixSeconds>,
}

/// The next step of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// More seats have to be taken.
    Seats {
        /// Taken in this round.
        taken: usize,
        /// In all.
        wanted: usize,
    },
    /// These seats run and have to commit.
    Commits(Vec<SeatIndex>),
    /// These seats have to reveal.
    Reveals(Vec<SeatIndex>),
    /// A transaction that notices that this transition is due.
    Poke(Transition),
    /// The rest has to be credited to the payer.
    Refund,
    /// Nothing: it is over.
    Nothing,
}

/// Who owes the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owes {
    /// Any eligible node with a ticket.
    AnyNode,
    /// The nodes of these seats.
    Nodes(Vec<NodeIndex>),
    /// Anyone may.
    Anyone,
    /// Nobody.
    Nobody,
}

/// What `facts` waits for at `now`.
pub fn why(facts: &JobFacts, now: UnixSeconds) -> Why {
    let (progress, pending) = facts.at(now);
    if let Some(first) = pending.iter().copied().find(|it| !it.comes_by_itself()) {
        // of these only an extra round has a window that is running already
        let until = (progress.phase == Phase::Seats).then_some(progress.deadline);
        return Why {
            waits_for: WaitsFor::Poke(first),
            owes: Owes::Anyone,
            until,
        };
    }
    match progress.phase {
        Phase::Seats => Why {
            waits_for: WaitsFor::Seats {
                taken: progress.taken(progress.round),
                wanted: progress.wanted(),
            },
            owes: Owes::AnyNode,
            until: Some(progress.deadline),
        },
        Phase::Run => owed(facts, &progress, &progress.owing_commit(), WaitsFor::Commits),
        Phase::Reveal => owed(facts, &progress, &progress.owing_reveal(), WaitsFor::Reveals),
        Phase::Closed if facts.remaining().is_zero() => Why {
            waits_for: WaitsFor::Nothing,
            owes: Owes::Nobody,
            until: None,
        },
        Phase::Closed => Why {
            waits_for: WaitsFor::Refund,
            owes: Owes::Anyone,
            until: None,
        },
    }
}

fn owed(
    facts: &JobFacts,
    progress: &Progress,
    seats: &[usize],
    waits_for: impl FnOnce(Vec<SeatIndex>) -> WaitsFor,
) -> Why {
    let nodes = seats
        .iter()
        .filter_map(|index| facts.seats.get(*index))
        .map(|seat| seat.node);
    let indices = seats
        .iter()
        .filter_map(|index| u8::try_from(*index).ok())
        .map(SeatIndex);
    Why {
        waits_for: waits_for(indices.collect()),
        owes: Owes::Nodes(nodes.collect()),
        until: Some(progress.deadline),
    }
}

impl Transition {
    /// Whether somebody's own next step brings it: a commit starts the run that is due, a reveal opens the reveals.
    /// Anything else needs a transaction of its own.
    pub const fn comes_by_itself(self) -> bool {
        match self {
            Self::StartRun | Self::OpenReveal => true,
            Self::Expire | Self::OpenExtraRound | Self::Decide(_) | Self::Close => false,
        }
    }
}

impl fmt::Display for Why {
    /// One sentence without the time: who reads it knows best how to write that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.waits_for {
            WaitsFor::Seats { taken, wanted } => {
                write!(
                    f,
                    "{} of {wanted} seats are free: waits for nodes to claim them",
                    wanted.saturating_sub(*taken)
                )
            }
            WaitsFor::Commits(_) => write!(f, "runs: waits for {} to commit", self.owes),
            WaitsFor::Reveals(_) => write!(f, "has been run: waits for {} to reveal", self.owes),
            WaitsFor::Poke(transition) => write!(f, "{transition}: waits for anyone to send `poke`"),
            WaitsFor::Refund => f.write_str("is over: anyone may send `refund`, the rest is the payer's"),
            WaitsFor::Nothing => f.write_str("is over: nothing is left to do"),
        }
    }
}

impl fmt::Display for Owes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyNode => f.write_str("any node"),
            Self::Anyone => f.write_str("anyone"),
            Self::Nobody => f.write_str("nobody"),
            Self::Nodes(nodes) => {
                let names: Vec<String> = nodes.iter().map(NodeIndex::to_string).collect();
                write!(
                    f,
                    "node{} {}",
                    if names.len() == 1 { "" } else { "s" },
                    names.join(", ")
                )
            }
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartRun => "the seats are taken and the run can start",
            Self::Expire => "too few seats were taken and the job expires",
            Self::OpenExtraRound => "no answer has a majority and the extra round opens",
            Self::OpenReveal => "the run window is over and commits can be opened",
            Self::Decide(_) => "the verdict is certain",
            Self::Close => "the last window is over and the remaining seats are settled",
        })
    }
}

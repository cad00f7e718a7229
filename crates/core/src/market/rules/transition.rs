//! The one table of transitions: which phase follows which, when, and from when its window counts. docs/protocol.md,
//! "Phases". The model of the contract makes these steps; `why` and `due` describe them.

use sandrun_types::{Answer, Redundancy, ResultDigest, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{SeatRecord, Standing, Verdict, extra_round_can_decide, final_verdict, winner_at_once};
use crate::market::{Outcome, Phase, Round};

/// Lengths of a deployment's windows, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Seats.
    pub seat: u64,
    /// The run window has this many wall limits …
    pub run_multiple: u64,
    /// … and this much more.
    pub run_slack: u64,
    /// Reveal.
    pub reveal: u64,
}

impl Windows {
    /// Length of a run window for a wall limit.
    pub const fn run(&self, wall_limit: u32) -> u64 {
        self.run_multiple
            .saturating_mul(wall_limit as u64)
            .saturating_add(self.run_slack)
    }
}

/// How a job ended, with the winner where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// By reveals.
    Decided(Verdict),
    /// Fewer than q seats.
    Expired,
    /// Taken back by the client.
    Cancelled,
}

impl Resolution {
    /// The contract's word for it.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Decided(Verdict::Won(Answer::Digest(_))) => Outcome::Digest,
            Self::Decided(Verdict::Won(Answer::Limit)) => Outcome::Limit,
            Self::Decided(Verdict::Won(Answer::Unavailable)) => Outcome::Unavailable,
            Self::Decided(Verdict::NoneWins) => Outcome::NoneWins,
            Self::Expired => Outcome::Expired,
            Self::Cancelled => Outcome::Cancelled,
        }
    }

    /// The answer that won.
    pub const fn winner(self) -> Option<Answer> {
        match self {
            Self::Decided(Verdict::Won(answer)) => Some(answer),
            Self::Decided(Verdict::NoneWins) | Self::Expired | Self::Cancelled => None,
        }
    }

    /// The digest that won, if it is one.
    pub const fn winning_digest(self) -> Option<ResultDigest> {
        match self.winner() {
            Some(Answer::Digest(digest)) => Some(digest),
            Some(Answer::Limit | Answer::Unavailable) | None => None,
        }
    }
}

/// A job as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// n and q.
    pub redundancy: Redundancy,
    /// Wall limit of the order, seconds.
    pub wall_limit: u32,
    /// The present round.
    pub round: Round,
    /// The present phase.
    pub phase: Phase,
    /// Its end; acting is valid at the deadline itself.
    pub deadline: UnixSeconds,
    /// All seats, in the order of claims.
    pub seats: Vec<SeatRecord>,
    /// How it ended, once that is fixed.
    pub resolution: Option<Resolution>,
}

/// What a job does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transition {
    /// Seats are taken: nodes run and commit.
    StartRun,
    /// Fewer than q seats at the first deadline.
    Expire,
    /// Two more seats.
    OpenExtraRound,
    /// Commits may be opened.
    OpenReveal,
    /// The verdict is certain.
    Decide(Verdict),
    /// Decided, and nobody can reveal in time any more: the remaining seats are finished.
    Close,
}

/// A transition that is due, and the time from which the window that it opens counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub transition: Transition,
    /// When it happened by the rules; a transaction may notice later.
    pub at: UnixSeconds,
}

impl Progress {
    /// A job that was posted just now.
    pub const fn posted(redundancy: Redundancy, wall_limit: u32, deadline: UnixSeconds) -> Self {
        Self {
            redundancy,
            wall_limit,
            round: Round::First,
            phase: Phase::Seats,
            deadline,
            seats: Vec::new(),
            resolution: None,
        }
    }

    /// Seats of `round` that are taken.
    pub fn taken(&self, round: Round) -> usize {
        self.seats.iter().filter(|seat| seat.round == round).count()
    }

    /// Seats that the present round has.
    pub fn wanted(&self) -> usize {
        match self.round {
            Round::First => usize::from(self.redundancy.replicas()),
            Round::Extra => 2,
        }
    }

    /// Whether both rounds reveal in one window: fewer than q of the first round had committed.
    pub fn reveals_together(&self) -> bool {
        let committed =
            |seat: &&SeatRecord| seat.round == Round::First && seat.standing != Standing::Uncommitted;
        self.seats.iter().filter(committed).count() < usize::from(self.redundancy.quorum())
    }

    /// Whether the reveal window of a seat of `round` lies in the present round, not in an earlier one.
    pub fn reveals_in_this_round(&self, round: Round) -> bool {
        round == self.round || self.reveals_together()
    }

    /// Whether a reveal of a seat of `round` is in time if it is accepted at `now`.
    pub fn is_timely(&self, round: Round, now: UnixSeconds) -> bool {
        self.phase == Phase::Reveal && now <= self.deadline && self.reveals_in_this_round(round)
    }

    /// Whether a seat that is silent for good would be slashed if the job was closed now, though an answer has won. That
    /// is left to `poke`, which is tipped for it.
    pub fn leaves_silent_seats(&self) -> bool {
        let silent = |seat: &SeatRecord| matches!(seat.standing, Standing::Uncommitted | Standing::Committed);
        self.resolution.and_then(Resolution::winner).is_some() && self.seats.iter().any(silent)
    }

    /// Indices of seats that owe a commit in the present round.
    pub fn owing_commit(&self) -> Vec<usize> {
        self.indices(|seat| seat.round == self.round && seat.standing == Standing::Uncommitted)
    }

    /// Indices of seats that committed and can still reveal in the present round's window.
    pub fn owing_reveal(&self) -> Vec<usize> {
        self.indices(|seat| self.reveals_in_this_round(seat.round) && seat.standing == Standing::Committed)
    }

    fn indices(&self, wanted: impl Fn(&SeatRecord) -> bool) -> Vec<usize> {
        self.seats
            .iter()
            .enumerate()
            .filter(|(_, seat)| wanted(seat))
            .map(|(index, _)| index)
            .collect()
    }

    /// Makes a step: phase, round, deadline and resolution; seats and money are the caller's.
    pub fn make(&mut self, step: Step, windows: &Windows) {
        match step.transition {
            Transition::StartRun => self.enter(Phase::Run, step.at.plus(windows.run(self.wall_limit))),
            Transition::OpenReveal => self.enter(Phase::Reveal, step.at.plus(windows.reveal)),
            Transition::OpenExtraRound => {
                self.round = Round::Extra;
                self.enter(Phase::Seats, step.at.plus(windows.seat));
            }
            Transition::Decide(verdict) => self.resolution = Some(Resolution::Decided(verdict)),
            Transition::Expire => {
                self.resolution = Some(Resolution::Expired);
                self.enter(Phase::Closed, UnixSeconds(0));
            }
            Transition::Close => self.enter(Phase::Closed, UnixSeconds(0)),
        }
    }

    const fn enter(&mut self, phase: Phase, deadline: UnixSeconds) {
        self.phase = phase;
        self.deadline = deadline;
    }
}

/// The table: the step that is due at `now`, if one is. Several may be due one after the other.
pub fn next_step(job: &Progress, now: UnixSeconds) -> Option<Step> {
    let over = now > job.deadline;
    let at = now.min(job.deadline);
    let step = |transition| Some(Step { transition, at });
    if job.resolution.is_some() {
        let waits = job.phase == Phase::Reveal && !over && !job.owing_reveal().is_empty();
        return if waits || job.phase == Phase::Closed {
            None
        } else {
            step(Transition::Close)
        };
    }
    match job.phase {
        Phase::Seats => {
            let taken = job.taken(job.round);
            match (job.round, over) {
                (Round::First | Round::Extra, _) if taken >= job.wanted() => step(Transition::StartRun),
                (Round::First | Round::Extra, false) => None,
                (Round::First, true) if taken >= quorum(job) => step(Transition::StartRun),
                (Round::First, true) => step(Transition::Expire),
                (Round::Extra, true) if taken > 0 => step(Transition::StartRun),
                (Round::Extra, true) if job.reveals_together() => step(Transition::OpenReveal),
                (Round::Extra, true) => step(Transition::Decide(final_verdict(job.redundancy, &job.seats))),
            }
        }
        Phase::Run => match job.round {
            Round::First | Round::Extra if job.owing_commit().is_empty() => step(Transition::OpenReveal),
            Round::First | Round::Extra if !over => None,
            Round::First if job.redundancy.has_extra_round() && job.reveals_together() => {
                step(Transition::OpenExtraRound)
            }
            Round::First | Round::Extra => step(Transition::OpenReveal),
        },
        Phase::Reveal => {
            if let Some(winner) = winner_at_once(job.redundancy, &job.seats) {
                return step(Transition::Decide(Verdict::Won(winner)));
            }
            if !over && !job.owing_reveal().is_empty() {
                return None;
            }
            match (final_verdict(job.redundancy, &job.seats), job.round) {
                (Verdict::NoneWins, Round::First) if extra_round_can_decide(job.redundancy, &job.seats) => {
                    step(Transition::OpenExtraRound)
                }
                (verdict @ (Verdict::Won(_) | Verdict::NoneWins), Round::First | Round::Extra) => {
                    step(Transition::Decide(verdict))
                }
            }
        }
        Phase::Closed => None,
    }
}

fn quorum(job: &Progress) -> usize {
    usize::from(job.redundancy.quorum())
}

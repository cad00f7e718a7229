//! Where a seat's machine stands, and the one table of which state may follow which.

use std::fmt;

use sandrun_types::{Answer, Attempt, SeatIndex};

use super::Objection;
use crate::market::{Outcome, Round, SeatEnd};

/// A seat that the chain shows as ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its number in the job.
    pub seat: SeatIndex,
    /// The round it was won in.
    pub round: Round,
}

/// Where the machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Resumed from a journal; the chain has not been read yet.
    Recovering,
    /// Seen and not yet judged.
    Seen,
    /// Judged, not wanted.
    Declined(Vec<Objection>),
    /// Wanted; the bundle is on its way.
    Fetching,
    /// Wanted, bundle held and checked: a winning ticket would be claimed.
    Accepted,
    /// A claim is being journalled or sent.
    Claiming {
        /// In which round.
        round: Round,
        /// With which unit.
        unit: u32,
    },
    /// A seat is ours; no run is under way and no answer is fixed.
    Seated(Held),
    /// A run is under way.
    Running {
        /// The seat.
        held: Held,
        /// Number of the run.
        attempt: Attempt,
    },
    /// The answer is fixed and journalled; its commit waits (for the run window, or until `limit` may be said).
    Answered {
        /// The seat.
        held: Held,
        /// What will be said.
        answer: Answer,
    },
    /// The commit is being sent.
    Committing {
        /// The seat.
        held: Held,
        /// What is being said.
        answer: Answer,
    },
    /// The chain shows our commit; the reveal waits for the others.
    Committed {
        /// The seat.
        held: Held,
        /// What was said.
        answer: Answer,
    },
    /// The reveal is being sent.
    Revealing {
        /// The seat.
        held: Held,
        /// What is being opened.
        answer: Answer,
    },
    /// The chain shows our reveal; the decision is due to others.
    Revealed {
        /// The seat.
        held: Held,
        /// What was said.
        answer: Answer,
    },
    /// Our window has passed without our acting: nothing can be done but to wait for the end.
    Missed(Held),
    /// The seat is finished and final.
    Finished {
        /// The seat.
        held: Held,
        /// What became of it.
        end: SeatEnd,
    },
    /// There is no seat for us here (any more).
    Lost(Loss),
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The posting is not in the chain (any more).
    Unposted,
    /// The job has ended without us.
    Over(Option<Outcome>),
    /// No seats are to be had now; an extra round may still open some.
    NoSeats,
    /// The bundle is not what the order says.
    BadBundle,
}

/// A state's name alone: what the table of transitions is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are those of `State`")]
pub enum StateName {
    Recovering,
    Seen,
    Declined,
    Fetching,
    Accepted,
    Claiming,
    Seated,
    Running,
    Answered,
    Committing,
    Committed,
    Revealing,
    Revealed,
    Missed,
    Finished,
    Lost,
}

impl State {
    /// Its name.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Recovering => StateName::Recovering,
            Self::Seen => StateName::Seen,
            Self::Declined(_) => StateName::Declined,
            Self::Fetching => StateName::Fetching,
            Self::Accepted => StateName::Accepted,
            Self::Claiming { .. } => StateName::Claiming,
            Self::Seated(_) => StateName::Seated,
            Self::Running { .. } => StateName::Running,
            Self::Answered { .. } => StateName::Answered,
            Self::Committing { .. } => StateName::Committing,
            Self::Committed { .. } => StateName::Committed,
            Self::Revealing { .. } => StateName::Revealing,
            Self::Revealed { .. } => StateName::Revealed,
            Self::Missed(_) => StateName::Missed,
            Self::Finished { .. } => StateName::Finished,
            Self::Lost(_) => StateName::Lost,
        }
    }

    /// Whether a bond of ours is, or may be about to be, locked in the job.
    pub const fn has_bond(&self) -> bool {
        match self {
            Self::Claiming { .. }
            | Self::Seated(_)
            | Self::Running { .. }
            | Self::Answered { .. }
            | Self::Committing { .. }
            | Self::Committed { .. }
            | Self::Revealing { .. }
            | Self::Revealed { .. }
            | Self::Missed(_) => true,
            Self::Recovering
            | Self::Seen
            | Self::Declined(_)
            | Self::Fetching
            | Self::Accepted
            | Self::Finished { .. }
            | Self::Lost(_) => false,
        }
    }
}

impl StateName {
    /// All, in the order of a seat's life.
    pub const ALL: [Self; 16] = [
        Self::Recovering,
        Self::Seen,
        Self::Declined,
        Self::Fetching,
        Self::Accepted,
        Self::Claiming,
        Self::Seated,
        Self::Running,
        Self::Answered,
        Self::Committing,
        Self::Committed,
        Self::Revealing,
        Self::Revealed,
        Self::Missed,
        Self::Finished,
        Self::Lost,
    ];

    /// The table of transitions: what may follow this state by one event. The forward arrows come first; those after
    /// `UNDONE` exist because a reorganisation can take a claim, a commit, a reveal, an end or the posting back, or
    /// bring it again.
    pub const fn successors(self) -> &'static [Self] {
        use StateName::*;
        match self {
            // whatever journal and chain say
            Recovering => &[
                Seen, Declined, Fetching, Accepted, Seated, Answered, Committed, Revealed, Missed, Finished,
                Lost,
            ],
            Seen => &[
                Declined, Fetching, Accepted, Lost, Seated, Missed, Committed, Answered, Revealed,
            ],
            Declined => &[Seen, Fetching, Accepted, Lost, Seated, Missed],
            Fetching => &[Accepted, Declined, Lost, Seated, Running, Answered, Missed, Seen],
            Accepted => &[
                Claiming, Declined, Lost, Fetching, Seated, Running, Answered, Committed, Missed,
            ],
            Claiming => &[
                Seated, Running, Answered, Committed, Revealed, Accepted, Fetching, Declined, Lost, Missed,
                Seen,
            ],
            Seated => &[
                Running, Answered, Missed, /* UNDONE */ Seen, Declined, Fetching, Accepted, Claiming,
                Lost,
            ],
            Running => &[
                Seated, Answered, Missed, /* UNDONE */ Seen, Declined, Fetching, Accepted, Claiming,
                Lost,
            ],
            Answered => &[
                Committing, Committed, Missed, /* UNDONE */ Revealed, Seen, Declined, Fetching,
                Accepted, Claiming, Lost,
            ],
            Committing => &[
                Committed, Answered, Missed, /* UNDONE */ Revealed, Seen, Declined, Fetching, Accepted,
                Claiming, Lost,
            ],
            Committed => &[
                Revealing, Revealed, Missed, /* UNDONE */ Answered, Committing, Seen, Fetching,
                Declined, Accepted, Lost,
            ],
            Revealing => &[
                Revealed, Committed, Missed, /* UNDONE */ Answered, Seen, Fetching, Declined, Accepted,
                Lost,
            ],
            Revealed => &[
                Finished, /* UNDONE */ Revealing, Committed, Answered, Missed, Lost,
            ],
            Missed => &[
                Finished, /* UNDONE */ Seated, Running, Answered, Committing, Committed, Revealing,
                Revealed, Lost, Accepted, Fetching, Seen, Declined,
            ],
            Finished => &[
                /* UNDONE */ Revealed, Missed, Committed, Answered, Seated, Lost,
            ],
            Lost => &[
                Seen, Declined, Fetching, Accepted, /* UNDONE */ Claiming, Seated, Running, Answered,
                Committed, Revealed, Missed,
            ],
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recovering => "recovering",
            Self::Seen => "seen",
            Self::Declined => "declined",
            Self::Fetching => "fetching the bundle",
            Self::Accepted => "waiting for a ticket",
            Self::Claiming => "claiming",
            Self::Seated => "seated",
            Self::Running => "running",
            Self::Answered => "answered",
            Self::Committing => "committing",
            Self::Committed => "committed",
            Self::Revealing => "revealing",
            Self::Revealed => "revealed",
            Self::Missed => "too late",
            Self::Finished => "finished",
            Self::Lost => "lost",
        })
    }
}

//! How programs and nodes behave: what a client's job does when it runs, and what a node makes of its seat.

use sandrun_types::ResultParts;

use crate::rng::Rng;

use super::people;

/// What a job's program is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ends with the same result everywhere.
    Fine,
    /// Takes longer than the order allows.
    TooLong,
    /// Its bundle is not to be had any more from this second on.
    Vanishes(u64),
    /// Its result differs from node to node.
    Differs,
    /// Its bundle is not what the order says.
    Broken,
}

impl Program {
    pub(crate) fn draw(now: u64, rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..=64 => Self::Fine,
            65..=75 => Self::TooLong,
            76..=87 => Self::Vanishes(now + 8 + rng.below(50)),
            88..=95 => Self::Differs,
            _ => Self::Broken,
        }
    }

    /// Whether an honest node that is there loses nothing by it: some clients bring losses about.
    pub(crate) const fn is_fair(self) -> bool {
        match self {
            Self::Fine | Self::TooLong | Self::Broken => true,
            Self::Vanishes(_) | Self::Differs => false,
        }
    }
}

/// What a node makes of one seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Conduct {
    /// What it should.
    Honest,
    /// Says a digest of its own; no two liars agree.
    Liar,
    /// Says `limit`, whatever the program does.
    Lazy,
    /// Takes a seat and commits to nothing.
    Absent,
    /// Commits and never reveals.
    Silent,
    /// Reveals when its window is over.
    Late,
    /// Says a digest of its own, and that too late.
    LateLiar,
}

impl Conduct {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..=29 => Self::Honest,
            30..=49 => Self::Liar,
            50..=59 => Self::Lazy,
            60..=69 => Self::Absent,
            70..=79 => Self::Silent,
            80..=92 => Self::Late,
            _ => Self::LateLiar,
        }
    }

    /// The result of a run, as this node tells it.
    pub(crate) fn result(self, program: Program, class: sandrun_types::ClassId, node: u32) -> ResultParts {
        let own = u8::try_from(node % 200).unwrap_or(0) + 1;
        let is_own = match self {
            Self::Liar | Self::LateLiar => true,
            Self::Honest | Self::Lazy | Self::Absent | Self::Silent | Self::Late => {
                program == Program::Differs
            }
        };
        people::result(class, if is_own { own } else { 0 })
    }
}

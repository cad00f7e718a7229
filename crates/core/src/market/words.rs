//! Words that contract and core share: phases, rounds, outcomes and seat ends, with the numbers that stand on chain.
//! Never decides anything.

use serde::{Deserialize, Serialize};

macro_rules! numbered {
    ($name:ident: $($variant:ident = $number:literal),+ $(,)?) => {
        impl $name {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number that stands on chain.
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$variant => $number,)+
                }
            }

            /// Reads the number that stands on chain; `None` for a number without a meaning here.
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.number() == number)
            }
        }
    };
}

/// Where a posted job stands. See docs/protocol.md, "Phases".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Seats are being taken.
    Seats,
    /// Seats are taken, commits come in.
    Run,
    /// Commits are being opened.
    Reveal,
    /// Every seat is finished, the rest can be refunded.
    Closed,
}

// 0 is `None` in the contract: never posted
numbered!(Phase: Seats = 1, Run = 2, Reveal = 3, Closed = 4);

/// Which lottery a seat was won in. See docs/protocol.md, "Extra round".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Round {
    /// Round 0, n seats.
    First,
    /// Round 1, two seats; at most once.
    Extra,
}

numbered!(Round: First = 0, Extra = 1);

/// How a job ended. An open job has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// A result won.
    Digest,
    /// `limit` won.
    Limit,
    /// `unavailable` won.
    Unavailable,
    /// No answer has a majority: not deterministic.
    NoneWins,
    /// Fewer than q seats were taken.
    Expired,
    /// Taken back by the client.
    Cancelled,
}

// 0 is `Open` in the contract
numbered!(Outcome: Digest = 1, Limit = 2, Unavailable = 3, NoneWins = 4, Expired = 5, Cancelled = 6);

/// What became of a seat. See docs/protocol.md, "What becomes of a seat".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SeatEnd {
    /// Bond back; nothing or a claim's gas paid.
    Released,
    /// Revealed the winner.
    Paid,
    /// Worked for nothing that was asked: the attempt fee.
    AttemptFee,
    /// None wins: a share of the locked sum.
    Shared,
    /// None wins, soft answer: bond back, nothing paid.
    Unpaid,
    /// Revealed another answer.
    SlashedWrong,
    /// Revealed the winner after the window.
    SlashedLate,
    /// Committed and never revealed, or revealed another answer late.
    SlashedUnrevealed,
    /// Took the seat, never committed.
    SlashedUncommitted,
}

numbered!(SeatEnd:
    Released = 0,
    Paid = 1,
    AttemptFee = 2,
    Shared = 3,
    Unpaid = 4,
    SlashedWrong = 5,
    SlashedLate = 6,
    SlashedUnrevealed = 7,
    SlashedUncommitted = 8,
);

impl SeatEnd {
    /// Whether the node lost a part of its bond.
    pub const fn is_slash(self) -> bool {
        match self {
            Self::Released | Self::Paid | Self::AttemptFee | Self::Shared | Self::Unpaid => false,
            Self::SlashedWrong | Self::SlashedLate | Self::SlashedUnrevealed | Self::SlashedUncommitted => {
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_contract() {
        assert_eq!(Phase::from_number(0), None);
        assert_eq!(Phase::from_number(4), Some(Phase::Closed));
        assert_eq!(Round::from_number(1), Some(Round::Extra));
        assert_eq!(Round::from_number(2), None);
        assert_eq!(Outcome::from_number(0), None);
        assert_eq!(Outcome::from_number(6), Some(Outcome::Cancelled));
        assert_eq!(SeatEnd::from_number(8), Some(SeatEnd::SlashedUncommitted));
        assert_eq!(SeatEnd::from_number(9), None);
    }
}

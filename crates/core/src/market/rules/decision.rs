//! Which answer wins and when; whether an extra round can still help. docs/protocol.md, "Decision", "Extra round".

use sandrun_types::{Answer, Redundancy};
use serde::{Deserialize, Serialize};

use super::{SeatRecord, Standing};

/// What the reveals of both rounds say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// This answer won.
    Won(Answer),
    /// No answer has a majority.
    NoneWins,
}

/// Timely reveals, counted. Late reveals never count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Timely reveals of both rounds.
    pub timely: usize,
    /// An answer that nobody has more reveals for, and its count.
    pub leader: Option<(Answer, usize)>,
}

impl Tally {
    /// Counts the timely reveals of `seats`. Of two leading answers the one that is smaller as a value leads: a winner
    /// has more than half, so the tie never matters.
    pub fn of(seats: &[SeatRecord]) -> Self {
        let answers: Vec<Answer> = seats.iter().filter_map(SeatRecord::timely_answer).collect();
        let count = |answer: Answer| answers.iter().filter(|it| **it == answer).count();
        let mut leader: Option<(Answer, usize)> = None;
        for answer in &answers {
            let better = match leader {
                None => true,
                Some((first, most)) => count(*answer) > most || (count(*answer) == most && *answer < first),
            };
            if better {
                leader = Some((*answer, count(*answer)));
            }
        }
        Self {
            timely: answers.len(),
            leader,
        }
    }

    /// The answer with at least q reveals and more than half of `of`.
    fn majority(&self, redundancy: Redundancy, of: usize) -> Option<Answer> {
        let quorum = usize::from(redundancy.quorum());
        self.leader
            .filter(|(_, count)| *count >= quorum && 2 * count > of)
            .map(|(answer, _)| answer)
    }
}

/// The answer that wins whatever the other seats do: q reveals and more than half of the seats taken.
pub fn winner_at_once(redundancy: Redundancy, seats: &[SeatRecord]) -> Option<Answer> {
    Tally::of(seats).majority(redundancy, seats.len())
}

/// The verdict when all seats have acted: q reveals and more than half of the timely ones, or none.
pub fn final_verdict(redundancy: Redundancy, seats: &[SeatRecord]) -> Verdict {
    let tally = Tally::of(seats);
    tally
        .majority(redundancy, tally.timely)
        .map_or(Verdict::NoneWins, Verdict::Won)
}

/// Whether two more reveals could let an answer win, one that nobody has revealed yet included.
pub fn extra_round_can_decide(redundancy: Redundancy, seats: &[SeatRecord]) -> bool {
    let tally = Tally::of(seats);
    let most = tally.leader.map_or(0, |(_, count)| count);
    redundancy.has_extra_round()
        && most + 2 >= usize::from(redundancy.quorum())
        && 2 * (most + 2) > tally.timely + 2
}

impl SeatRecord {
    /// What it revealed in time.
    pub const fn timely_answer(&self) -> Option<Answer> {
        match self.standing {
            Standing::Revealed(answer) => Some(answer),
            Standing::Uncommitted | Standing::Committed | Standing::Late(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Round;
    use sandrun_types::ResultDigest;

    fn seats(standings: &[Standing]) -> Vec<SeatRecord> {
        standings
            .iter()
            .map(|standing| SeatRecord {
                round: Round::First,
                standing: *standing,
            })
            .collect()
    }

    const A: Answer = Answer::Digest(ResultDigest([1; 32]));
    const B: Answer = Answer::Digest(ResultDigest([2; 32]));

    #[test]
    fn wins_at_once_with_more_than_half_of_the_seats() {
        use Standing::{Committed, Late, Revealed};
        let three = seats(&[Revealed(A), Committed, Revealed(A)]);
        assert_eq!(winner_at_once(Redundancy::Three, &three), Some(A));
        let one = seats(&[Revealed(A), Committed, Committed]);
        assert_eq!(winner_at_once(Redundancy::Three, &one), None);
        let late = seats(&[Revealed(A), Late(A), Committed]);
        assert_eq!(winner_at_once(Redundancy::Three, &late), None);
    }

    #[test]
    fn at_the_end_half_of_the_timely_is_not_enough() {
        use Standing::{Revealed, Uncommitted};
        let split = seats(&[Revealed(A), Revealed(A), Revealed(B), Revealed(B), Uncommitted]);
        assert_eq!(final_verdict(Redundancy::Three, &split), Verdict::NoneWins);
        let most = seats(&[Revealed(A), Revealed(A), Revealed(B), Uncommitted, Uncommitted]);
        assert_eq!(final_verdict(Redundancy::Three, &most), Verdict::Won(A));
        assert_eq!(final_verdict(Redundancy::Five, &most), Verdict::NoneWins);
    }

    #[test]
    fn extra_round_opens_only_where_it_can_help() {
        use Standing::{Committed, Revealed};
        assert!(extra_round_can_decide(
            Redundancy::Two,
            &seats(&[Revealed(A), Revealed(B)])
        ));
        assert!(extra_round_can_decide(
            Redundancy::Two,
            &seats(&[Committed, Committed])
        ));
        assert!(!extra_round_can_decide(Redundancy::Five, &seats(&[Committed; 5])));
        let soft = [
            Revealed(A),
            Revealed(B),
            Revealed(Answer::Limit),
            Revealed(Answer::Unavailable),
        ];
        assert!(!extra_round_can_decide(Redundancy::Five, &seats(&soft)));
        assert!(!extra_round_can_decide(Redundancy::One, &seats(&[Committed])));
    }
}

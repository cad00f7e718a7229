//! What becomes of a seat: the table of docs/protocol.md, "What becomes of a seat", and how much of a bond a row costs.

use sandrun_types::{Answer, ClassKind};
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::market::{Round, SeatEnd};

/// What a seat has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// Taken, nothing committed.
    Uncommitted,
    /// Bound to an answer that nobody knows yet.
    Committed,
    /// Revealed in its window.
    Revealed(Answer),
    /// Revealed after its window; never counts.
    Late(Answer),
}

/// One seat as the rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeatRecord {
    /// The lottery that it was won in.
    pub round: Round,
    /// What it did.
    pub standing: Standing,
}

/// How much of a bond is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Penalty {
    /// Nothing.
    None,
    /// 30 %.
    Part,
    /// All of it.
    Whole,
}

/// What becomes of `seat`, one of `all`, under `verdict`.
pub fn seat_end(verdict: Verdict, seat: SeatRecord, all: &[SeatRecord]) -> SeatEnd {
    use Answer::{Digest, Limit, Unavailable};
    use Verdict::{NoneWins, Won};
    match (verdict, seat.standing) {
        (Won(_) | NoneWins, Standing::Uncommitted) => SeatEnd::SlashedUncommitted,
        (Won(_) | NoneWins, Standing::Committed) => SeatEnd::SlashedUnrevealed,
        (Won(winner), Standing::Late(answer)) if answer == winner => SeatEnd::SlashedLate,
        (Won(_) | NoneWins, Standing::Late(_)) => SeatEnd::SlashedUnrevealed,
        (Won(Unavailable), Standing::Revealed(_)) => SeatEnd::AttemptFee,
        (Won(winner @ (Digest(_) | Limit)), Standing::Revealed(answer)) if answer == winner => SeatEnd::Paid,
        (Won(Limit), Standing::Revealed(Digest(_))) => SeatEnd::AttemptFee,
        (Won(Limit), Standing::Revealed(Unavailable | Limit)) => SeatEnd::SlashedWrong,
        (Won(Digest(_)), Standing::Revealed(_)) => SeatEnd::SlashedWrong,
        (NoneWins, Standing::Revealed(answer @ Digest(_))) if repeats(seat.round, answer, all) => {
            SeatEnd::AttemptFee
        }
        (NoneWins, Standing::Revealed(Digest(_))) => SeatEnd::Shared,
        (NoneWins, Standing::Revealed(Unavailable | Limit)) if any_digest(all) => SeatEnd::Unpaid,
        (NoneWins, Standing::Revealed(Unavailable | Limit)) => SeatEnd::AttemptFee,
    }
}

/// How much of the bond a seat that ended so loses. Whole bonds are for class `det`: a `native` program can be written
/// so that honest nodes differ.
pub fn penalty(kind: ClassKind, end: SeatEnd, standing: Standing) -> Penalty {
    match end {
        SeatEnd::Released | SeatEnd::Paid | SeatEnd::AttemptFee | SeatEnd::Shared | SeatEnd::Unpaid => {
            Penalty::None
        }
        SeatEnd::SlashedLate | SeatEnd::SlashedUncommitted => Penalty::Part,
        SeatEnd::SlashedUnrevealed => by_kind(kind),
        SeatEnd::SlashedWrong => match standing {
            Standing::Revealed(answer) if answer.is_soft() => Penalty::Part,
            Standing::Revealed(_) | Standing::Uncommitted | Standing::Committed | Standing::Late(_) => {
                by_kind(kind)
            }
        },
    }
}

const fn by_kind(kind: ClassKind) -> Penalty {
    match kind {
        ClassKind::Native => Penalty::Part,
        ClassKind::Det => Penalty::Whole,
    }
}

/// Whether a seat of the extra round says what the first round had revealed in time.
fn repeats(round: Round, answer: Answer, all: &[SeatRecord]) -> bool {
    match round {
        Round::First => false,
        Round::Extra => all
            .iter()
            .any(|it| it.round == Round::First && it.timely_answer() == Some(answer)),
    }
}

fn any_digest(all: &[SeatRecord]) -> bool {
    all.iter()
        .filter_map(SeatRecord::timely_answer)
        .any(|answer| !answer.is_soft())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::ResultDigest;

    const A: Answer = Answer::Digest(ResultDigest([1; 32]));
    const B: Answer = Answer::Digest(ResultDigest([2; 32]));

    /// The table of the document, row by row: standing, end under `A wins`, `limit wins`, `unavailable wins`.
    #[test]
    fn the_table_says_what_the_document_says() {
        use SeatEnd::*;
        use Standing::*;
        let rows = [
            (Revealed(A), [Paid, AttemptFee, AttemptFee]),
            (Revealed(B), [SlashedWrong, AttemptFee, AttemptFee]),
            (Revealed(Answer::Limit), [SlashedWrong, Paid, AttemptFee]),
            (
                Revealed(Answer::Unavailable),
                [SlashedWrong, SlashedWrong, AttemptFee],
            ),
            (Late(A), [SlashedLate, SlashedUnrevealed, SlashedUnrevealed]),
            (Late(B), [SlashedUnrevealed, SlashedUnrevealed, SlashedUnrevealed]),
            (
                Late(Answer::Limit),
                [SlashedUnrevealed, SlashedLate, SlashedUnrevealed],
            ),
            (
                Late(Answer::Unavailable),
                [SlashedUnrevealed, SlashedUnrevealed, SlashedLate],
            ),
            (Committed, [SlashedUnrevealed; 3]),
            (Uncommitted, [SlashedUncommitted; 3]),
        ];
        for (standing, ends) in rows {
            for (winner, end) in [A, Answer::Limit, Answer::Unavailable].into_iter().zip(ends) {
                let seat = SeatRecord {
                    round: Round::First,
                    standing,
                };
                assert_eq!(
                    seat_end(Verdict::Won(winner), seat, &[seat]),
                    end,
                    "{standing:?} under {winner:?}"
                );
            }
        }
    }

    #[test]
    fn when_none_wins_digests_share_and_copies_do_not() {
        let seat = |round, standing| SeatRecord { round, standing };
        let first = seat(Round::First, Standing::Revealed(A));
        let copy = seat(Round::Extra, Standing::Revealed(A));
        let fresh = seat(Round::Extra, Standing::Revealed(B));
        let soft = seat(Round::First, Standing::Revealed(Answer::Limit));
        let all = [first, copy, fresh, soft];
        let ends = all.map(|it| seat_end(Verdict::NoneWins, it, &all));
        assert_eq!(
            ends,
            [
                SeatEnd::Shared,
                SeatEnd::AttemptFee,
                SeatEnd::Shared,
                SeatEnd::Unpaid
            ]
        );
        assert_eq!(seat_end(Verdict::NoneWins, soft, &[soft]), SeatEnd::AttemptFee);
        // what came late is no digest of the first round: it never counts
        let late = [seat(Round::First, Standing::Late(A)), copy];
        assert_eq!(seat_end(Verdict::NoneWins, copy, &late), SeatEnd::Shared);
    }

    #[test]
    fn whole_bonds_only_for_det() {
        use Standing::*;
        let rows = [
            (
                SeatEnd::SlashedWrong,
                Revealed(B),
                [Penalty::Part, Penalty::Whole],
            ),
            (
                SeatEnd::SlashedWrong,
                Revealed(Answer::Limit),
                [Penalty::Part, Penalty::Part],
            ),
            (SeatEnd::SlashedLate, Late(A), [Penalty::Part, Penalty::Part]),
            (
                SeatEnd::SlashedUnrevealed,
                Committed,
                [Penalty::Part, Penalty::Whole],
            ),
            (
                SeatEnd::SlashedUncommitted,
                Uncommitted,
                [Penalty::Part, Penalty::Part],
            ),
            (
                SeatEnd::Unpaid,
                Revealed(Answer::Limit),
                [Penalty::None, Penalty::None],
            ),
        ];
        for (end, standing, [native, det]) in rows {
            assert_eq!(penalty(ClassKind::Native, end, standing), native);
            assert_eq!(penalty(ClassKind::Det, end, standing), det);
        }
    }
}

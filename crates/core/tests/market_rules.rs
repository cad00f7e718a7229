//! The rules alone, without the model: every set of standings of five and seven seats has one verdict, enough money
//! for it, and no honest majority that loses. Complete where the enumeration over the model takes samples.

mod market_support;

use market_support::multisets;
use sandrun_core::market::Round;
use sandrun_core::market::rules::{
    Payment, SeatRecord, Settlement, Stake, Standing, Terms, Verdict, extra_round_can_decide, final_verdict,
    winner_at_once,
};
use sandrun_types::{Answer, ClassKind, Redundancy, ResultDigest};

const HONEST: Answer = Answer::Digest(ResultDigest([1; 32]));
const LIE_A: Answer = Answer::Digest(ResultDigest([2; 32]));
const LIE_B: Answer = Answer::Digest(ResultDigest([3; 32]));
const ANSWERS: [Answer; 5] = [HONEST, LIE_A, LIE_B, Answer::Unavailable, Answer::Limit];

fn standings(late: bool) -> Vec<Standing> {
    let lates = ANSWERS.into_iter().map(Standing::Late).filter(|_| late);
    let timely = ANSWERS.into_iter().map(Standing::Revealed);
    [Standing::Uncommitted, Standing::Committed]
        .into_iter()
        .chain(lates)
        .chain(timely)
        .collect()
}

fn seats(round: Round, standings: &[Standing]) -> impl Iterator<Item = SeatRecord> {
    standings.iter().map(move |standing| SeatRecord {
        round,
        standing: *standing,
    })
}

fn terms(redundancy: Redundancy, kind: ClassKind) -> Terms {
    Terms {
        redundancy,
        kind,
        price: Payment::from_gwei(100_001),
        bond: Stake::from_gwei(500_005),
        fee: Payment::from_gwei(10_000),
        granule: Payment::from_gwei(1),
    }
}

fn check(terms: &Terms, all: &[SeatRecord]) {
    let verdict = final_verdict(terms.redundancy, all);
    if let Some(winner) = winner_at_once(terms.redundancy, all) {
        assert_eq!(
            verdict,
            Verdict::Won(winner),
            "what wins at once wins at the end: {all:?}"
        );
    }
    let Settlement { seats, rest } = terms.settle(verdict, all);
    let paid = seats.iter().fold(rest, |sum, seat| sum.saturating_add(seat.paid));
    assert_eq!(
        paid,
        terms.locked_sum(),
        "enough money, all of it accounted for: {all:?}"
    );
    let winners = |answer| all.iter().filter(|it| it.timely_answer() == Some(answer)).count();
    let quorum = usize::from(terms.redundancy.quorum());
    if winners(HONEST) >= quorum && 2 * winners(HONEST) > all.len() {
        assert_eq!(
            verdict,
            Verdict::Won(HONEST),
            "an honest majority decides: {all:?}"
        );
    }
    for (seat, settled) in all.iter().zip(&seats) {
        assert!(settled.slashed <= terms.bond && settled.paid <= terms.price);
        assert!(settled.slashed.is_zero() || settled.paid.is_zero());
        let Some(answer) = seat.timely_answer() else {
            assert!(
                !settled.slashed.is_zero(),
                "who does not reveal in time is slashed: {all:?}"
            );
            continue;
        };
        let beaten = verdict != Verdict::Won(answer)
            && ANSWERS.iter().any(|it| *it != answer && winners(*it) >= quorum);
        assert!(
            settled.slashed.is_zero() || beaten,
            "slashed without a quorum of others: {all:?}"
        );
    }
}

/// Every final set of standings that the phases can lead to; returns how many.
fn enumerate(redundancy: Redundancy, kind: ClassKind) -> usize {
    let terms = terms(redundancy, kind);
    let [quorum, replicas] = [redundancy.quorum(), redundancy.replicas()].map(usize::from);
    let extras: Vec<Vec<Standing>> = (0..=2)
        .flat_map(|size| multisets(&standings(false), size))
        .collect();
    let mut checked = 0;
    for taken in quorum..=replicas {
        for first in multisets(&standings(true), taken) {
            let late = first.iter().any(|it| matches!(it, Standing::Late(_)));
            let committed = first.iter().filter(|it| **it != Standing::Uncommitted).count();
            let alone: Vec<SeatRecord> = seats(Round::First, &first).collect();
            let together = committed < quorum && redundancy.has_extra_round();
            let undecided = final_verdict(redundancy, &alone) == Verdict::NoneWins;
            let opens = together || (undecided && extra_round_can_decide(redundancy, &alone));
            if late && (together || !opens) {
                continue; // nothing is late where there is no later window
            }
            if !opens {
                check(&terms, &alone);
                checked += 1;
                continue;
            }
            for extra in &extras {
                let all: Vec<SeatRecord> = alone.iter().copied().chain(seats(Round::Extra, extra)).collect();
                check(&terms, &all);
                checked += 1;
            }
        }
    }
    checked
}

#[test]
fn every_set_of_standings_has_one_verdict_and_enough_money() {
    let mut counts = Vec::new();
    for redundancy in Redundancy::ALL {
        for kind in [ClassKind::Native, ClassKind::Det] {
            counts.push(enumerate(redundancy, kind));
        }
    }
    println!("{counts:?}");
    assert!(
        counts.iter().all(|count| *count > 5) && counts[6] > 10_000,
        "{counts:?}"
    );
}

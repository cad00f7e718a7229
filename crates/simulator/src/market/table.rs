//! The tables of docs/protocol.md, written down a second time: what becomes of a seat, how jobs end, which phase
//! follows which. What the model did is held against them, and which of their rows were reached is counted.

use std::collections::BTreeMap;

use sandrun_core::market::escrow::{JobRecord, Parameters};
use sandrun_core::market::rules::{Resolution, SeatRecord, Standing, Verdict};
use sandrun_core::market::{JobFacts, MarketEvent, Outcome, Phase, Round, SeatEnd};
use sandrun_core::seat::StateName;
use sandrun_types::{Amount, Answer, ClassKind, JobId, Redundancy, U256};

use crate::census::Census;
use crate::violation::{Violation, ensure};

use super::chain::Chain;

/// How much of a bond is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Nothing,
    Part,
    Whole,
}

/// A row of "what becomes of a seat".
struct Row {
    name: &'static str,
    end: SeatEnd,
    loss: Loss,
}

const fn row(name: &'static str, end: SeatEnd, loss: Loss) -> Row {
    Row { name, end, loss }
}

/// What the seat did, under a winner or none.
fn seat_row(kind: ClassKind, winner: Option<Answer>, seat: &SeatRecord, all: &[SeatRecord]) -> Row {
    use Loss::{Nothing, Part, Whole};
    use SeatEnd::{
        AttemptFee, Paid, Shared, SlashedLate, SlashedUncommitted, SlashedUnrevealed, SlashedWrong, Unpaid,
    };
    let graver = match kind {
        ClassKind::Det => Whole,
        ClassKind::Native => Part,
    };
    let is_digest = |answer: &Answer| matches!(answer, Answer::Digest(_));
    let timely = |round: Option<Round>| {
        let of = all
            .iter()
            .filter(move |it| round.is_none_or(|round| it.round == round));
        of.filter_map(SeatRecord::timely_answer)
    };
    match (seat.standing, winner) {
        (Standing::Uncommitted, _) => row("never committed", SlashedUncommitted, Part),
        (Standing::Committed, _) => row("never revealed", SlashedUnrevealed, graver),
        (Standing::Late(answer), Some(winner)) if answer == winner => {
            row("revealed the winner late", SlashedLate, Part)
        }
        (Standing::Late(_), _) => row("revealed another answer late", SlashedUnrevealed, graver),
        (Standing::Revealed(answer), Some(winner)) if answer == winner => match winner {
            Answer::Digest(_) | Answer::Limit => row("revealed the winner", Paid, Nothing),
            Answer::Unavailable => row("revealed the winner", AttemptFee, Nothing),
        },
        (Standing::Revealed(Answer::Digest(_)), Some(Answer::Digest(_))) => {
            row("revealed another digest", SlashedWrong, graver)
        }
        (Standing::Revealed(Answer::Digest(_)), Some(_)) => {
            row("revealed another digest", AttemptFee, Nothing)
        }
        (Standing::Revealed(_), Some(Answer::Unavailable)) => {
            row("revealed another soft answer", AttemptFee, Nothing)
        }
        (Standing::Revealed(_), Some(_)) => row("revealed another soft answer", SlashedWrong, Part),
        (Standing::Revealed(answer @ Answer::Digest(_)), None) => {
            let repeats = seat.round == Round::Extra && timely(Some(Round::First)).any(|it| it == answer);
            if repeats {
                row("revealed a digest of round 0 again", AttemptFee, Nothing)
            } else {
                row("revealed a digest", Shared, Nothing)
            }
        }
        (Standing::Revealed(_), None) if timely(None).any(|it| is_digest(&it)) => {
            row("revealed a soft answer beside a digest", Unpaid, Nothing)
        }
        (Standing::Revealed(_), None) => row("revealed a soft answer, no digest", AttemptFee, Nothing),
    }
}

const fn winner_name(winner: Option<Answer>) -> &'static str {
    match winner {
        Some(Answer::Digest(_)) => "a digest wins",
        Some(Answer::Limit) => "limit wins",
        Some(Answer::Unavailable) => "unavailable wins",
        None => "none wins",
    }
}

const fn kind_name(kind: ClassKind) -> &'static str {
    match kind {
        ClassKind::Native => "native",
        ClassKind::Det => "det",
    }
}

/// Holds a closed job against the tables, and counts the rows that it reached.
pub(crate) fn check_closed(
    job: JobId,
    facts: &JobFacts,
    record: &JobRecord,
    census: &mut Census,
) -> Result<(), Violation> {
    let redundancy = facts.order.redundancy;
    let Some(outcome) = facts.outcome() else {
        return Err(Violation::new(format!("job {job} is closed and not decided")));
    };
    census.row(end_row(redundancy, outcome));
    let verdict = match facts.resolution {
        Some(Resolution::Decided(verdict)) => verdict,
        Some(Resolution::Expired) => {
            let released = facts
                .seats
                .iter()
                .all(|it| it.end.is_some_and(|it| it.end == SeatEnd::Released));
            return ensure(released, || {
                format!("a bond of expired job {job} was not given back")
            });
        }
        Some(Resolution::Cancelled) | None => {
            let burnt = !facts.burnt.is_zero();
            census.row(if burnt {
                "cancel: less the fee"
            } else {
                "cancel: all back"
            });
            return Ok(());
        }
    };
    let winner = match verdict {
        Verdict::Won(answer) => Some(answer),
        Verdict::NoneWins => None,
    };
    let kind = record.terms.kind;
    for (seat, mine) in record.progress.seats.iter().zip(&facts.seats) {
        let expected = seat_row(kind, winner, seat, &record.progress.seats);
        let Some(end) = mine.end else {
            return Err(Violation::new(format!("a seat of closed job {job} has no end")));
        };
        let bond = facts.order.bond.0;
        let loss = match expected.loss {
            Loss::Nothing => U256::ZERO,
            Loss::Part => bond * U256::from(3u8) / U256::from(10u8),
            Loss::Whole => bond,
        };
        let price = if expected.end == SeatEnd::Paid {
            facts.order.price
        } else {
            end.paid.0
        };
        let holds = end.end == expected.end && end.slashed.0 == Amount(loss) && end.paid.0 == price;
        ensure(holds, || {
            format!(
                "job {job}, {}: who {} ended {end:?}, not {:?} with {:?} of {bond} lost",
                winner_name(winner),
                expected.name,
                expected.end,
                expected.loss
            )
        })?;
        census.row(name_of(winner, expected.name, kind));
    }
    Ok(())
}

fn name_of(winner: Option<Answer>, what: &str, kind: ClassKind) -> String {
    format!("seat of {}: {}, {what}", kind_name(kind), winner_name(winner))
}

fn end_row(redundancy: Redundancy, outcome: Outcome) -> String {
    format!("job of {}: {outcome:?}", redundancy.replicas())
}

/// Counts which phase followed which in all jobs of the chain.
pub(crate) fn count_phases(chain: &Chain, census: &mut Census) {
    let windows = Parameters::testnet().windows;
    let mut state: BTreeMap<JobId, (Round, Phase, u64, u32)> = BTreeMap::new();
    for number in 1..=chain.height() {
        let Some(block) = chain.block(number) else { return };
        for event in &block.logs {
            let Some(job) = event.job() else { continue };
            if let MarketEvent::JobPosted { deadline, order, .. } = event {
                state.insert(job, (Round::First, Phase::Seats, deadline.0, order.wall_limit));
            }
            let Some(known) = state.get_mut(&job) else {
                continue;
            };
            let (round, phase, old, wall) = *known;
            if let MarketEvent::RoundOpened { deadline, .. } = event {
                let when = when(deadline.0.saturating_sub(windows.seat), old);
                census.row(phase_row(round, phase, "the extra round", when));
                *known = (Round::Extra, Phase::Seats, deadline.0, wall);
            } else if let MarketEvent::PhaseChanged {
                phase: next,
                deadline,
                ..
            } = event
            {
                let (name, length) = match next {
                    Phase::Seats => ("Seats", windows.seat),
                    Phase::Run => ("Run", windows.run(wall)),
                    Phase::Reveal => ("Reveal", windows.reveal),
                    Phase::Closed => ("Closed", 0),
                };
                let when = match next {
                    Phase::Closed => "",
                    Phase::Seats | Phase::Run | Phase::Reveal => when(deadline.0.saturating_sub(length), old),
                };
                census.row(phase_row(round, phase, name, when));
                *known = (round, *next, deadline.0, wall);
            }
        }
    }
}

const fn when(start: u64, deadline: u64) -> &'static str {
    if start < deadline {
        " early"
    } else {
        " at its deadline"
    }
}

fn phase_row(round: Round, phase: Phase, next: &str, when: &str) -> String {
    format!("phase: {phase:?} of round {} to {next}{when}", round.number())
}

/// Every row that a history can reach.
pub(crate) fn expected_rows() -> Vec<String> {
    let digest = Some(Answer::Digest(Default::default()));
    let winners = [digest, Some(Answer::Limit), Some(Answer::Unavailable)];
    let mut rows = Vec::new();
    for kind in [ClassKind::Native, ClassKind::Det] {
        for winner in winners {
            for what in [
                "revealed the winner",
                "revealed another digest",
                "revealed another soft answer",
                "revealed the winner late",
                "revealed another answer late",
                "never revealed",
                "never committed",
            ] {
                rows.push(name_of(winner, what, kind));
            }
        }
        for what in [
            "revealed a digest",
            "revealed a digest of round 0 again",
            "revealed a soft answer beside a digest",
            "revealed a soft answer, no digest",
            "revealed another answer late",
            "never revealed",
            "never committed",
        ] {
            rows.push(name_of(None, what, kind));
        }
    }
    for redundancy in Redundancy::ALL {
        rows.extend(Outcome::ALL.iter().map(|outcome| end_row(redundancy, *outcome)));
    }
    rows.extend(["cancel: less the fee", "cancel: all back"].map(str::to_owned));
    for round in ["0", "1"] {
        for step in ["Seats of round N to Run", "Run of round N to Reveal"] {
            let step = step.replace('N', round);
            rows.extend([" early", " at its deadline"].map(|when| format!("phase: {step}{when}")));
        }
        rows.push(format!("phase: Reveal of round {round} to Closed"));
        rows.push(format!("phase: Seats of round {round} to Closed"));
    }
    rows.extend(
        [
            "Run of round 0 to the extra round at its deadline",
            "Reveal of round 0 to the extra round early",
            "Reveal of round 0 to the extra round at its deadline",
            "Seats of round 1 to Reveal at its deadline",
        ]
        .map(|row| format!("phase: {row}")),
    );
    rows.extend(StateName::ALL.iter().map(|state| format!("seat: {state}")));
    rows
}

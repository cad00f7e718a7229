//! The node's gate: what closes it at once, what counts as a strike, and what its operator forgives.

use sandrun_types::ClassKind;

use super::*;

const RULE: StrikeRule = StrikeRule {
    most: 3,
    window: 3_600,
    avoid: 600,
};

/// The seat in job `job` ended in block `10 × job`, at `time`.
fn ended(job: u8, end: SeatEnd, kind: ClassKind, time: u64) -> EndedSeat {
    EndedSeat {
        job: JobId([job; 32]),
        end,
        kind: Some(kind),
        client: Some(Address::repeat_byte(job)),
        block: 10 * u64::from(job),
        time: UnixSeconds(time),
    }
}

fn outvoted(job: u8, time: u64) -> EndedSeat {
    ended(job, SeatEnd::SlashedWrong, ClassKind::Native, time)
}

#[test]
fn every_slash_but_being_outvoted_in_a_native_job_closes_at_once() {
    for kind in [ClassKind::Native, ClassKind::Det] {
        for end in SeatEnd::ALL.iter().copied() {
            let mut gate = Gate::default();
            let notice = gate.seat_ended(&ended(1, end, kind, START), RULE);
            let is_strike = (end, kind) == (SeatEnd::SlashedWrong, ClassKind::Native);
            let wanted = match (end.is_slash(), is_strike) {
                (false, _) => Notice::Nothing,
                (true, true) => Notice::Strike { count: 1 },
                (true, false) => Notice::Closed,
            };
            assert_eq!(notice, wanted, "{end:?} {kind:?}");
            assert_eq!(gate.fault().is_some(), wanted == Notice::Closed);
        }
    }
    let unknown = EndedSeat {
        kind: None,
        ..outvoted(1, START)
    };
    assert_eq!(Gate::default().seat_ended(&unknown, RULE), Notice::Closed);
}

#[test]
fn the_first_fault_stays() {
    let mut gate = Gate::default();
    let late = ended(1, SeatEnd::SlashedLate, ClassKind::Det, START);
    assert_eq!(gate.seat_ended(&late, RULE), Notice::Closed);
    let wrong = ended(2, SeatEnd::SlashedWrong, ClassKind::Det, START);
    assert_eq!(gate.seat_ended(&wrong, RULE), Notice::Nothing);
    assert!(!gate.journal_broken(JobId([3; 32]), 5));
    let (job, end) = (late.job, late.end);
    assert_eq!(gate.fault(), Some(Fault::Slashed { job, end }));
}

#[test]
fn strikes_close_the_gate_when_they_come_too_often() {
    let mut gate = Gate::default();
    assert_eq!(
        gate.seat_ended(&outvoted(1, START), RULE),
        Notice::Strike { count: 1 }
    );
    assert_eq!(
        gate.seat_ended(&outvoted(2, START + 1), RULE),
        Notice::Strike { count: 2 }
    );
    // the first is over when the third comes
    assert_eq!(
        gate.seat_ended(&outvoted(3, START + 3_600), RULE),
        Notice::Strike { count: 2 }
    );
    assert_eq!(gate.fault(), None);
    assert_eq!(gate.seat_ended(&outvoted(4, START + 3_600), RULE), Notice::Closed);
    let (job, count, window) = (JobId([4; 32]), 3, 3_600);
    assert_eq!(gate.fault(), Some(Fault::Outvoted { job, count, window }));
    let at_once = StrikeRule { most: 1, ..RULE };
    assert_eq!(
        Gate::default().seat_ended(&outvoted(1, START), at_once),
        Notice::Closed
    );
}

#[test]
fn a_strike_counts_once_however_often_the_chain_is_read() {
    let mut gate = Gate::default();
    for _ in 0..5 {
        gate.seat_ended(&outvoted(1, START), RULE);
        gate.seat_ended(&outvoted(2, START + 4_000), RULE);
    }
    assert_eq!(gate.fault(), None);
    assert_eq!(
        gate.seat_ended(&outvoted(1, START), RULE),
        Notice::Nothing,
        "it is over"
    );
}

#[test]
fn the_client_of_a_strike_is_avoided_for_a_while() {
    let mut gate = Gate::default();
    gate.seat_ended(&outvoted(1, START), RULE);
    let avoided = |at| gate.clients_to_avoid(RULE, UnixSeconds(at));
    assert_eq!(avoided(START + 599), [Address::repeat_byte(1)]);
    assert!(avoided(START + 600).is_empty());
}

/// A node that was slashed in several jobs under way together reads all of them again after the restart.
#[test]
fn the_operator_forgives_everything_up_to_the_head() {
    let mut gate = Gate::default();
    let slash = |job| ended(job, SeatEnd::SlashedUncommitted, ClassKind::Det, START);
    assert_eq!(gate.seat_ended(&slash(1), RULE), Notice::Closed);
    assert_eq!(
        gate.seat_ended(&outvoted(2, START), RULE),
        Notice::Strike { count: 1 }
    );
    gate.resume(30);
    assert_eq!(gate.fault(), None);
    for job in 1..=3 {
        assert_eq!(gate.seat_ended(&slash(job), RULE), Notice::Nothing);
        assert_eq!(gate.seat_ended(&outvoted(job, START), RULE), Notice::Nothing);
    }
    assert!(!gate.journal_broken(JobId([9; 32]), 30));
    let line = serde_json::to_string(&gate).unwrap();
    let mut read: Gate = serde_json::from_str(&line).unwrap();
    assert_eq!(read, gate);
    // what comes later is news
    assert_eq!(read.seat_ended(&slash(4), RULE), Notice::Closed);
    assert!(gate.journal_broken(JobId([9; 32]), 31));
    gate.resume(20);
    assert_eq!(
        gate.seat_ended(&slash(3), RULE),
        Notice::Nothing,
        "forgiven before"
    );
}

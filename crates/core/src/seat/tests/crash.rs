//! kill -9 between each two steps: the machine goes on from disk and chain alone, says one thing, and gets paid.

use super::chain::{Fate, World};
use super::*;

/// Steps of a straight run.
fn steps(confirmations: u64) -> usize {
    let mut world = World::new(confirmations);
    let mut steps = 0;
    while world.rig.state() != StateName::Finished || !world.rig.out.is_empty() {
        world.step(Fate::Done);
        steps += 1;
        assert!(steps < 60, "the straight way does not end");
    }
    steps
}

fn check(world: &mut World, what: &str) {
    world.settle();
    assert_eq!(
        world.rig.state(),
        StateName::Finished,
        "{what}: {:?}",
        world.rig.seat
    );
    assert_eq!(world.sent.len(), 1, "{what}: answers sent: {:?}", world.sent);
}

#[test]
fn one_crash_at_any_point_costs_nothing() {
    for confirmations in [0, 1, 3] {
        let steps = steps(confirmations);
        assert!(steps > 12, "only {steps} steps");
        for fate in [Fate::CrashBefore, Fate::CrashAfter, Fate::Fails] {
            for at in 0..steps {
                let mut world = World::new(confirmations);
                (0..at).for_each(|_| world.step(Fate::Done));
                world.step(fate);
                check(&mut world, &format!("{fate:?} at step {at}, d = {confirmations}"));
            }
        }
    }
}

#[test]
fn two_crashes_at_any_two_points_cost_nothing() {
    let steps = steps(1);
    for first in 0..steps {
        for second in 0..steps {
            let mut world = World::new(1);
            (0..first).for_each(|_| world.step(Fate::Done));
            world.step(Fate::CrashAfter);
            (0..second).for_each(|_| world.step(Fate::Done));
            world.step(Fate::CrashAfter);
            check(&mut world, &format!("crashes after steps {first} and {second}"));
        }
    }
}

#[test]
fn a_second_process_keeps_the_salt_of_the_first() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (_, sealed) = rig.reach_answered();
    let first = rig.commit_of(0, &sealed);
    rig.expect(std::slice::from_ref(&first));
    rig.crash();
    // fresh salts were given to the second process, and not used
    rig.expect(&[first]);
}

#[test]
fn a_run_that_a_crash_cut_off_is_made_anew_under_the_next_number() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    rig.reach_running();
    rig.crash();
    rig.expect(&[Action::FetchBundle]);
    rig.feed(Event::Fetched(Ok(())));
    rig.journal(Record::Running { attempt: Attempt(2) });
    assert!(matches!(
        rig.out.pop_front(),
        Some(Action::Run {
            attempt: Attempt(2),
            ..
        })
    ));
}

#[test]
fn nothing_is_done_before_the_chain_was_read() {
    let mut rig = Rig::new(Redundancy::Three, 0);
    let (_, sealed) = rig.reach_answered();
    rig.out.clear();
    rig.seat = Seat::resume(*rig.seat.terms(), salts(9), &rig.disk).unwrap();
    assert_eq!(rig.state(), StateName::Recovering);
    rig.feed(Event::Tick);
    for (event, at) in rig.logs.clone() {
        rig.feed(Event::Chain(ChainNews::Applied(event, at)));
    }
    rig.nothing();
    rig.head();
    rig.expect(&[rig.commit_of(0, &sealed)]);
}

#[test]
fn a_journal_that_contradicts_itself_is_refused() {
    let rig = Rig::new(Redundancy::Three, 0);
    let sealed = |byte| Record::Answered(rig.sealed(Round::First, rig.digest(byte), Some(result(byte))));
    let resume = |records: &[Record]| Seat::resume(*rig.seat.terms(), salts(2), records).map(|_| ());
    assert_eq!(resume(&[sealed(1), sealed(1)]), Ok(()));
    assert_eq!(
        resume(&[sealed(1), sealed(2)]),
        Err(ResumeError::TwoAnswers(Round::First))
    );
    let wrong = Record::Answered(rig.sealed(Round::First, rig.digest(1), Some(result(2))));
    assert_eq!(resume(&[wrong]), Err(ResumeError::WrongDigest(Round::First)));
    let bare = Record::Answered(rig.sealed(Round::First, rig.digest(1), None));
    assert_eq!(resume(&[bare]), Err(ResumeError::WrongDigest(Round::First)));
}

#[test]
fn records_are_lines_of_json_that_read_back() {
    let rig = Rig::new(Redundancy::Three, 0);
    let records = [
        Record::Claiming {
            round: Round::Extra,
            unit: 7,
        },
        Record::Running { attempt: Attempt(3) },
        Record::Answered(rig.sealed(Round::First, rig.digest(1), Some(result(1)))),
        Record::Answered(rig.sealed(Round::Extra, Answer::Limit, None)),
        Record::Ended {
            end: SeatEnd::SlashedLate,
        },
        Record::Reopened,
    ];
    for record in records {
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
    }
}

#[test]
fn salts_are_not_printed() {
    let printed = format!("{:?}", Salt(B256::repeat_byte(0xab)));
    assert!(!printed.contains("ab"), "{printed}");
}

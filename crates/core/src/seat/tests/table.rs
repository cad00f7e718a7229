//! The tables: which event has a place in which state, and which state may follow which.

use super::*;

/// One rig in each state.
fn rigs() -> Vec<Rig> {
    let new = || Rig::new(Redundancy::Three, 1);
    let at = |go: &dyn Fn(&mut Rig)| {
        let mut rig = new();
        go(&mut rig);
        rig.out.clear();
        rig
    };
    let claim = Record::Claiming {
        round: Round::First,
        unit: 7,
    };
    let revealing = |rig: &mut Rig| {
        let (deadline, sealed) = rig.reach_committed();
        rig.mine([rig.committed(2, 1, deadline), rig.committed(3, 2, deadline)]);
        rig.mine([]);
        sealed
    };
    let revealed = |rig: &mut Rig| {
        let sealed = revealing(rig);
        rig.out.clear();
        rig.mined(Transaction::Reveal);
        rig.mine([rig.published(result(1)), rig.revealed(1, 0, sealed.answer)]);
    };
    vec![
        at(&|rig| {
            rig.reach_answered();
            rig.seat = Seat::resume(*rig.seat.terms(), salts(2), &rig.disk).unwrap();
        }),
        at(&|rig| rig.mine([rig.posted()])),
        at(&|rig| {
            rig.mine([rig.posted()]);
            rig.feed(Event::Judged(Err(vec![Objection::OwnJob])));
        }),
        at(&|rig| {
            rig.mine([rig.posted()]);
            rig.feed(Event::Judged(Ok(())));
        }),
        at(&|rig| rig.reach_accepted()),
        at(&|rig| {
            rig.reach_accepted();
            rig.feed(Event::Ticket {
                round: Round::First,
                unit: 7,
            });
            rig.journal(claim);
        }),
        at(&|rig| {
            rig.reach_running();
            rig.feed(Event::Ran {
                attempt: Attempt::FIRST,
                end: RunEnd::ExecutorFailed,
            });
        }),
        at(&|rig| {
            rig.reach_running();
        }),
        at(&|rig| {
            rig.reach_answered();
            rig.feed(Event::Sent {
                transaction: Transaction::Commit,
                end: TransactionEnd::Failed,
            });
        }),
        at(&|rig| {
            rig.reach_answered();
        }),
        at(&|rig| {
            rig.reach_committed();
        }),
        at(&|rig| {
            revealing(rig);
        }),
        at(&revealed),
        at(&|rig| {
            let deadline = rig.reach_running();
            rig.tick(deadline + 1);
        }),
        at(&|rig| {
            revealed(rig);
            rig.mine([rig.finished(1, 0, SeatEnd::Paid)]);
            rig.mine([]);
            rig.journal(Record::Ended { end: SeatEnd::Paid });
        }),
        at(&|rig| {
            rig.reach_accepted();
            rig.mine([rig.decided(Outcome::Cancelled)]);
        }),
    ]
}

#[test]
fn there_is_a_rig_in_each_state() {
    let states: Vec<StateName> = rigs().iter().map(Rig::state).collect();
    assert_eq!(states, StateName::ALL);
}

#[test]
fn each_event_has_its_place_in_its_states_and_is_refused_elsewhere() {
    use StateName::*;
    type Case = (&'static str, Event, &'static [StateName]);
    let sent = |transaction| Event::Sent {
        transaction,
        end: TransactionEnd::Failed,
    };
    let cases: Vec<Case> = vec![
        ("tick", Event::Tick, &StateName::ALL),
        (
            "judged",
            Event::Judged(Ok(())),
            &[Recovering, Seen, Declined, Fetching, Accepted, Lost],
        ),
        (
            "ticket",
            Event::Ticket {
                round: Round::First,
                unit: 1,
            },
            &[Accepted],
        ),
        ("fetched", Event::Fetched(Ok(())), &[Fetching]),
        (
            "ran",
            Event::Ran {
                attempt: Attempt::FIRST,
                end: RunEnd::Limit,
            },
            &[Running],
        ),
        ("journalled", Event::Journalled, &[]),
        ("claim sent", sent(Transaction::Claim), &[Claiming]),
        ("commit sent", sent(Transaction::Commit), &[Committing]),
        ("reveal sent", sent(Transaction::Reveal), &[Revealing]),
        ("poke sent", sent(Transaction::Poke), &[]),
    ];
    for (name, event, places) in cases {
        for mut rig in rigs() {
            let state = rig.state();
            let taken = rig.try_feed(event.clone()).is_ok();
            assert_eq!(taken, places.contains(&state), "{name} in {state:?}");
        }
    }
}

#[test]
fn what_needs_a_record_waits_for_it_in_every_state() {
    for mut rig in rigs() {
        let state = rig.state();
        rig.mine([]);
        for action in rig.out.drain(..).collect::<Vec<_>>() {
            if let Action::Claim { .. } | Action::Run { .. } = action {
                panic!("{state:?} gave {action:?} without a record");
            }
        }
    }
}

#[test]
fn no_answer_is_taken_back_by_going_forward() {
    // without a reorganisation a fixed answer is never followed by a run
    for state in [
        StateName::Answered,
        StateName::Committing,
        StateName::Committed,
        StateName::Revealing,
    ] {
        assert!(!state.successors().contains(&StateName::Running), "{state:?}");
        assert!(!state.successors().contains(&StateName::Seated), "{state:?}");
    }
}

#[test]
fn the_table_names_no_state_twice_and_not_itself() {
    for state in StateName::ALL {
        let successors = state.successors();
        for (index, next) in successors.iter().enumerate() {
            assert_ne!(*next, state);
            assert!(!successors[..index].contains(next), "{state:?} → {next:?} twice");
        }
    }
}

//! What a job waits for, who owes it, until when, and what is due: in every state of the table of transitions.

mod market_support;

use market_support::{HONEST, LIE_A, START, World};
use sandrun_core::market::rules::Transition;
use sandrun_core::market::{
    Due, FactsError, JobFacts, MarketEvent, Outcome, Owes, Phase, Round, WaitsFor, Why, due, why,
};
use sandrun_types::{ClassKind, JobId, NodeIndex, Redundancy, SeatIndex, UnixSeconds};

fn world(redundancy: Redundancy) -> World {
    World::new(ClassKind::Native, redundancy, 100_001, 1_000_000)
}

fn seated(redundancy: Redundancy, seats: usize) -> World {
    let mut world = world(redundancy);
    for seat in 0..seats {
        world.claim(seat).expect("accepted");
    }
    world
}

fn committed(redundancy: Redundancy, codes: &[market_support::Code]) -> World {
    let mut world = seated(redundancy, codes.len());
    for (seat, code) in codes.iter().enumerate() {
        world.commit(seat, *code).expect("accepted");
    }
    world
}

/// `why` at `seconds` after the posting.
fn at(world: &World, seconds: u64) -> Why {
    why(&world.facts, UnixSeconds(START + seconds))
}

fn due_at(world: &World, seconds: u64) -> Option<Due> {
    due(&world.facts, UnixSeconds(START + seconds))
}

fn until(seconds: u64) -> Option<UnixSeconds> {
    Some(UnixSeconds(START + seconds))
}

fn nodes(indices: &[u32]) -> Owes {
    Owes::Nodes(indices.iter().copied().map(NodeIndex).collect())
}

fn seats(indices: &[u8]) -> Vec<SeatIndex> {
    indices.iter().copied().map(SeatIndex).collect()
}

fn poke(transition: Transition, until: Option<UnixSeconds>) -> Why {
    Why {
        waits_for: WaitsFor::Poke(transition),
        owes: Owes::Anyone,
        until,
    }
}

#[test]
fn seats_are_claimed_until_the_deadline() {
    let world = seated(Redundancy::Three, 1);
    let waits_for = WaitsFor::Seats { taken: 1, wanted: 3 };
    assert_eq!(
        at(&world, 60),
        Why {
            waits_for,
            owes: Owes::AnyNode,
            until: until(60)
        }
    );
    assert_eq!(due_at(&world, 60), None);
    assert_eq!(at(&world, 61), poke(Transition::Expire, None));
    assert_eq!(due_at(&world, 61), Some(Due::Poke(vec![Transition::Expire])));
}

#[test]
fn a_run_that_nobody_noticed_is_a_run() {
    let world = seated(Redundancy::Three, 2);
    // seats ended at 60, the run window is 90 s: no keeper is needed
    let waits_for = WaitsFor::Commits(seats(&[0, 1]));
    assert_eq!(
        at(&world, 61),
        Why {
            waits_for,
            owes: nodes(&[1, 2]),
            until: until(150)
        }
    );
    assert_eq!(due_at(&world, 61), None);
    assert_eq!(at(&world, 61).to_string(), "runs: waits for nodes 1, 2 to commit");
}

#[test]
fn commits_are_owed_by_those_who_have_not_committed() {
    let mut world = seated(Redundancy::Three, 3);
    world.commit(1, HONEST).unwrap();
    let waits_for = WaitsFor::Commits(seats(&[0, 2]));
    assert_eq!(
        at(&world, 90),
        Why {
            waits_for,
            owes: nodes(&[1, 3]),
            until: until(90)
        }
    );
    // fewer than q: the extra round is open from 90 to 150, and somebody has to say so
    assert_eq!(at(&world, 91), poke(Transition::OpenExtraRound, until(150)));
    assert_eq!(
        due_at(&world, 91),
        Some(Due::Poke(vec![Transition::OpenExtraRound]))
    );
    // nobody did, nobody came: the first round's commit can be opened from 150 to 210
    assert_eq!(at(&world, 151), poke(Transition::OpenExtraRound, None));
    assert_eq!(
        due_at(&world, 151),
        Some(Due::Poke(vec![
            Transition::OpenExtraRound,
            Transition::OpenReveal
        ]))
    );
}

#[test]
fn reveals_are_owed_until_the_window_is_over() {
    let mut world = committed(Redundancy::Three, &[HONEST, HONEST, LIE_A]);
    let waits_for = WaitsFor::Reveals(seats(&[0, 1, 2]));
    assert_eq!(
        at(&world, 60),
        Why {
            waits_for,
            owes: nodes(&[1, 2, 3]),
            until: until(60)
        }
    );
    world.reveal(0, HONEST).unwrap();
    world.reveal(1, HONEST).unwrap();
    assert_eq!(world.facts.outcome(), Some(Outcome::Digest));
    assert_eq!(world.phase(), Phase::Reveal);
    let waits_for = WaitsFor::Reveals(seats(&[2]));
    assert_eq!(
        at(&world, 60),
        Why {
            waits_for,
            owes: nodes(&[3]),
            until: until(60)
        }
    );
    assert_eq!(at(&world, 61), poke(Transition::Close, None));
    world.now = START + 61;
    world.poke().unwrap();
    assert_eq!(
        at(&world, 61),
        Why {
            waits_for: WaitsFor::Refund,
            owes: Owes::Anyone,
            until: None
        }
    );
    assert_eq!(due_at(&world, 61), Some(Due::Refund));
    world.refund().unwrap();
    assert_eq!(
        at(&world, 61),
        Why {
            waits_for: WaitsFor::Nothing,
            owes: Owes::Nobody,
            until: None
        }
    );
    assert_eq!(due_at(&world, 61), None);
    let (digest, parts) = world.facts.winner().unwrap();
    assert_eq!(world.facts.results.get(&digest), parts);
}

#[test]
fn a_reveal_window_that_is_over_needs_somebody_to_say_so() {
    let mut world = committed(Redundancy::Two, &[HONEST, HONEST]);
    world.reveal(0, HONEST).unwrap();
    assert_eq!(at(&world, 61), poke(Transition::OpenExtraRound, until(120)));
    let mut single = committed(Redundancy::One, &[HONEST]);
    single.now = START + 61;
    assert!(matches!(
        at(&single, 61).waits_for,
        WaitsFor::Poke(Transition::Decide(_))
    ));
    single.poke().unwrap();
    assert_eq!(single.facts.outcome(), Some(Outcome::NoneWins));
}

#[test]
fn the_extra_round_waits_as_the_first_does() {
    let mut world = committed(Redundancy::Two, &[HONEST, LIE_A]);
    world.reveal(0, HONEST).unwrap();
    world.reveal(1, LIE_A).unwrap();
    assert_eq!((world.facts.round, world.phase()), (Round::Extra, Phase::Seats));
    let waits_for = WaitsFor::Seats { taken: 0, wanted: 2 };
    assert_eq!(
        at(&world, 60),
        Why {
            waits_for,
            owes: Owes::AnyNode,
            until: until(60)
        }
    );
    assert!(matches!(
        at(&world, 61).waits_for,
        WaitsFor::Poke(Transition::Decide(_))
    ));
    world.claim(2).unwrap();
    let waits_for = WaitsFor::Commits(seats(&[2]));
    assert_eq!(
        at(&world, 61),
        Why {
            waits_for,
            owes: nodes(&[3]),
            until: until(150)
        }
    );
    world.claim(3).unwrap();
    world.commit(2, HONEST).unwrap();
    world.commit(3, HONEST).unwrap();
    let waits_for = WaitsFor::Reveals(seats(&[2, 3]));
    assert_eq!(
        at(&world, 60),
        Why {
            waits_for,
            owes: nodes(&[3, 4]),
            until: until(60)
        }
    );
}

#[test]
fn reveals_that_nobody_opened_are_open() {
    let mut world = seated(Redundancy::Three, 3);
    world.commit(0, HONEST).unwrap();
    world.commit(1, HONEST).unwrap();
    let waits_for = WaitsFor::Reveals(seats(&[0, 1]));
    assert_eq!(
        at(&world, 91),
        Why {
            waits_for,
            owes: nodes(&[1, 2]),
            until: until(150)
        }
    );
    assert_eq!(due_at(&world, 91), None);
}

#[test]
fn facts_do_not_rely_on_events_of_phases() {
    let mut world = committed(Redundancy::Three, &[HONEST, HONEST, LIE_A]);
    for (seat, code) in [HONEST, HONEST, LIE_A].into_iter().enumerate() {
        world.reveal(seat, code).unwrap();
    }
    let job = world.job;
    let own = |event: &&MarketEvent| event.job() == Some(job);
    let without = world
        .events
        .iter()
        .filter(own)
        .filter(|it| !matches!(it, MarketEvent::PhaseChanged { .. }));
    assert_eq!(JobFacts::fold(without, world.facts.windows).unwrap(), world.facts);
}

#[test]
fn undoing_is_folding_the_others() {
    let mut world = seated(Redundancy::Three, 2);
    let before = world.facts.clone();
    let events = world.events.len();
    world.claim(2).unwrap();
    assert_ne!(world.facts, before);
    assert_eq!(
        JobFacts::fold(&world.events[..events], before.windows).unwrap(),
        before
    );
}

#[test]
fn events_that_cannot_follow_are_refused() {
    let world = seated(Redundancy::Three, 1);
    let mut facts = world.facts.clone();
    let job = world.job;
    let deadline = facts.deadline;
    let claim = |job, seat| MarketEvent::SeatClaimed {
        job,
        node: NodeIndex(9),
        seat: SeatIndex(seat),
        deadline,
    };
    let other = JobId([1; 32]);
    assert_eq!(facts.apply(&claim(other, 1)), Err(FactsError::OtherJob { job }));
    assert_eq!(
        facts.apply(&claim(job, 2)),
        Err(FactsError::SeatMissing {
            job,
            seat: SeatIndex(2)
        })
    );
    assert_eq!(
        facts.apply(&world.events[0]),
        Err(FactsError::PostedTwice { job })
    );
    assert_eq!(
        JobFacts::posted(&claim(job, 0), facts.windows),
        Err(FactsError::NotPosted)
    );
    assert_eq!(facts, world.facts);
}

//! Every behaviour of every seat in both rounds: one outcome each, enough money for it, no honest majority slashed.
//! Seats of a round are exchangeable, so multisets of behaviours are enough; the order of reveals is checked apart.

mod market_support;

use market_support::{Behaviour, Code, Ending, HONEST, Player, World, gwei, multisets};
use sandrun_core::market::rules::{Resolution, Verdict};
use sandrun_core::market::{Outcome, Round, SeatEnd};
use sandrun_types::{ClassKind, Redundancy};

const PRICE: u64 = 100_001;
const BOND: u64 = 1_000_000;

/// Plays one script and checks everything that has to hold whatever the seats did.
fn play(kind: ClassKind, redundancy: Redundancy, first: &[Behaviour], extra: &[Behaviour]) -> (Ending, bool) {
    let mut player = Player::new(World::new(kind, redundancy, PRICE, BOND));
    let ending = player.run(first, extra);
    let opened = player.world.facts.round == Round::Extra;
    let name = || format!("{kind:?} {redundancy:?} {first:?} + {extra:?}: {ending:?}");
    check(&player, &ending, first, extra, &name);
    let _ = player.world.refund();
    assert!(player.world.facts.remaining().is_zero(), "{}", name());
    (ending, opened)
}

fn check(
    player: &Player,
    ending: &Ending,
    first: &[Behaviour],
    extra: &[Behaviour],
    name: &dyn Fn() -> String,
) {
    let world = &player.world;
    let paid: u64 = ending.seats.iter().map(|(_, paid, _)| paid).sum();
    let locked = gwei(world.order.locked_sum().expect("small"));
    assert_eq!(
        paid + ending.rest,
        locked,
        "enough money, all of it accounted for: {}",
        name()
    );
    let behaviours: Vec<Behaviour> = first
        .iter()
        .chain(extra)
        .copied()
        .take(ending.seats.len())
        .collect();
    let together = world.facts.progress().reveals_together();
    let decided = |code: Code| ending.resolution == Resolution::Decided(Verdict::Won(world.answer(code)));
    let timely = |code: Code| {
        behaviours
            .iter()
            .filter(|it| **it == Behaviour::Timely(code))
            .count()
    };
    let quorum = usize::from(world.order.redundancy.quorum());
    for (behaviour, (end, paid, slashed)) in behaviours.iter().zip(&ending.seats) {
        assert!(*paid <= PRICE && *slashed <= BOND, "{}", name());
        assert!(*paid == 0 || *slashed == 0, "paid and slashed: {}", name());
        assert_eq!(end.is_slash(), *slashed > 0, "{}", name());
        if ending.outcome == Outcome::Expired {
            assert_eq!((*end, *slashed), (SeatEnd::Released, 0), "{}", name());
            continue;
        }
        match behaviour {
            Behaviour::Absent => assert_eq!(*end, SeatEnd::SlashedUncommitted, "{}", name()),
            Behaviour::Silent => assert_eq!(*end, SeatEnd::SlashedUnrevealed, "{}", name()),
            Behaviour::Late(code) => {
                let matches = decided(*code) && !together && world.facts.round == Round::Extra;
                let wanted = if matches {
                    SeatEnd::SlashedLate
                } else {
                    SeatEnd::SlashedUnrevealed
                };
                assert_eq!(*end, wanted, "{}", name());
            }
            // who commits and reveals in time loses only against a quorum of others that agree
            Behaviour::Timely(code) => {
                let beaten = Behaviour::ANSWERS
                    .iter()
                    .any(|other| other != code && timely(*other) >= quorum);
                assert!(!end.is_slash() || beaten, "{}", name());
            }
        }
    }
    honest_majority(ending, &behaviours, timely(HONEST), quorum, decided(HONEST), name);
}

fn honest_majority(
    ending: &Ending,
    behaviours: &[Behaviour],
    honest: usize,
    quorum: usize,
    honest_won: bool,
    name: &dyn Fn() -> String,
) {
    if honest < quorum || 2 * honest <= behaviours.len() || ending.outcome == Outcome::Expired {
        return;
    }
    assert!(honest_won, "an honest majority decides: {}", name());
    for (behaviour, (end, paid, _)) in behaviours.iter().zip(&ending.seats) {
        if *behaviour == Behaviour::Timely(HONEST) {
            assert_eq!((*end, *paid), (SeatEnd::Paid, PRICE), "{}", name());
        }
    }
}

/// All scripts of `redundancy`, every `stride`th first round; returns how many were played.
fn enumerate(kind: ClassKind, redundancy: Redundancy, stride: usize) -> usize {
    let extras: Vec<Vec<Behaviour>> = (0..=2)
        .flat_map(|size| multisets(&Behaviour::extra(), size))
        .collect();
    let mut played = 0;
    for taken in 0..=usize::from(redundancy.replicas()) {
        for first in multisets(&Behaviour::first(), taken).iter().step_by(stride) {
            for extra in &extras {
                played += 1;
                let (_, opened) = play(kind, redundancy, first, extra);
                if !opened {
                    break; // the extra round's seats don't matter
                }
            }
        }
    }
    played
}

#[test]
fn one_replica() {
    assert_eq!(enumerate(ClassKind::Native, Redundancy::One, 1), 13);
    assert_eq!(enumerate(ClassKind::Det, Redundancy::One, 1), 13);
}

#[test]
fn two_replicas() {
    assert!(enumerate(ClassKind::Native, Redundancy::Two, 1) > 1_000);
    assert!(enumerate(ClassKind::Det, Redundancy::Two, 1) > 1_000);
}

#[test]
fn three_replicas() {
    assert!(enumerate(ClassKind::Native, Redundancy::Three, 1) > 5_000);
}

#[test]
fn three_replicas_of_class_det() {
    assert!(enumerate(ClassKind::Det, Redundancy::Three, 7) > 700);
}

#[test]
fn five_replicas() {
    assert!(enumerate(ClassKind::Native, Redundancy::Five, 29) > 1_000);
}

#[test]
fn the_order_of_reveals_changes_nothing() {
    for first in multisets(&Behaviour::first(), 3).iter().step_by(3) {
        for extra in multisets(&Behaviour::extra(), 2).iter().step_by(5) {
            let world = World::new(ClassKind::Det, Redundancy::Three, PRICE, BOND);
            let forwards = Player::new(world.clone()).run(first, extra);
            let mut player = Player::new(world);
            player.backwards = true;
            assert_eq!(player.run(first, extra), forwards, "{first:?} + {extra:?}");
        }
    }
}

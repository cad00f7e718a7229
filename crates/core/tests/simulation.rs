//! The market in virtual time, from one seed: the real seat machines of honest, lying and silent nodes against the
//! model of the contract, on a chain that reorganises, with crashes and with late and repeated messages.
//!
//! A failure prints its seed; `SANDRUN_SEED=<seed> cargo test -p sandrun-core --test simulation` replays it.

mod market_support;
mod simulated;

use std::collections::BTreeMap;

use sandrun_core::market::{Phase, Round, SeatEnd};
use simulated::{Conduct, Simulation};

const SEEDS: u64 = 240;

fn seeds() -> Vec<u64> {
    #[allow(
        clippy::disallowed_methods,
        reason = "replaying a seed is the developer's choice, not the core's"
    )]
    let wanted = std::env::var("SANDRUN_SEED").ok();
    match wanted {
        Some(seed) => vec![seed.parse().expect("SANDRUN_SEED is a number")],
        None => (1..=SEEDS).collect(),
    }
}

/// Runs one seed to its end; every step checks the whole state.
fn simulate(seed: u64) -> Simulation {
    struct Name(u64);
    impl Drop for Name {
        #[allow(clippy::print_stderr, reason = "the seed is what a failure is replayed with")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("this history failed; replay it with SANDRUN_SEED={}", self.0);
            }
        }
    }
    let _name = Name(seed);
    let mut simulation = Simulation::new(seed);
    simulation.run();
    check(&simulation);
    simulation
}

fn check(simulation: &Simulation) {
    let facts = simulation.facts().expect("the posting is in the chain");
    assert_eq!(facts.phase, Phase::Closed, "every job reaches an end: {facts:?}");
    assert!(facts.remaining().is_zero(), "the rest was refunded");
    for node in &simulation.nodes {
        for round in node.commitments.values() {
            assert_eq!(
                round.len(),
                1,
                "node {} signed two answers: {round:?}",
                node.index.0
            );
        }
        let Some((_, seat)) = facts.seat_of(node.index) else {
            continue;
        };
        let end = seat.end.expect("closed").end;
        // lies differ from each other, so that no quorum of liars exists
        if node.conduct == Conduct::Honest {
            assert!(
                !end.is_slash(),
                "node {} is honest and was slashed: {end:?}, {facts:?}",
                node.index.0
            );
        }
    }
}

/// How often what happened in a set of histories.
#[derive(Debug, Default)]
struct Census {
    ends: BTreeMap<(Conduct, SeatEnd), usize>,
    extra_rounds: usize,
    reorgs: usize,
    crashes: usize,
}

impl Census {
    fn count(&mut self, simulation: &Simulation) {
        let facts = simulation.facts().expect("posted");
        for node in &simulation.nodes {
            if let Some(end) = facts.seat_of(node.index).and_then(|(_, seat)| seat.end) {
                *self.ends.entry((node.conduct, end.end)).or_default() += 1;
            }
        }
        self.extra_rounds += usize::from(facts.round == Round::Extra);
        self.reorgs += simulation.reorgs;
        self.crashes += simulation.crashes;
    }
}

#[test]
fn random_histories_hold_every_promise() {
    let mut census = Census::default();
    let seeds = seeds();
    for seed in &seeds {
        census.count(&simulate(*seed));
    }
    println!("{census:#?}");
    // a simulation in which nothing happens proves nothing
    if seeds.len() > 100 {
        for reached in [
            (Conduct::Honest, SeatEnd::Paid),
            (Conduct::Honest, SeatEnd::Shared),
            (Conduct::Honest, SeatEnd::Released),
            (Conduct::Liar, SeatEnd::SlashedWrong),
            (Conduct::Absent, SeatEnd::SlashedUncommitted),
            (Conduct::Silent, SeatEnd::SlashedUnrevealed),
        ] {
            assert!(census.ends.contains_key(&reached), "no seat ended {reached:?}");
        }
        assert!(
            census.extra_rounds > 10 && census.reorgs > 100 && census.crashes > 100,
            "{census:?}"
        );
    }
}

#[test]
fn one_seed_is_one_history() {
    let [first, second] = [simulate(7), simulate(7)];
    assert_eq!(first.history(), second.history());
    assert_ne!(first.history(), simulate(8).history());
}

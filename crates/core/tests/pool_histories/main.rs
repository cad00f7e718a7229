//! Seeded histories of broker and trusted pool: replicas around one store, nodes and clients around a network that loses,
//! delays and repeats messages, and crashes that lose whatever was not written. After every commit the ledger checks what
//! was promised; when the faults are over every job ends.
//!
//! A failure names its seed; `SANDRUN_SEED=<seed> cargo test -p sandrun-core --test pool_histories` replays it.

#![expect(
    clippy::unwrap_used,
    reason = "a test file: clippy's exception covers test functions alone"
)]

mod call;
mod client;
mod ledger;
mod network;
mod node;
#[path = "../simulated/rng.rs"]
#[allow(dead_code, reason = "the market's histories use the rest")]
mod rng;
mod service;
mod store;
mod world;

use sandrun_core::pool::Policy;
use world::{Census, World};

const SEEDS: u64 = 120;

fn seeds() -> Vec<u64> {
    #[allow(
        clippy::disallowed_methods,
        reason = "replaying a seed is the developer's choice, not the core's"
    )]
    let wanted = ["SANDRUN_SEED", "SANDRUN_SEEDS"].map(|name| std::env::var(name).ok());
    let number = |text: String| text.parse().expect("SANDRUN_SEED and SANDRUN_SEEDS are numbers");
    match wanted.map(|it| it.map(number)) {
        [Some(seed), _] => vec![seed],
        [None, Some(count)] => (1..=count).collect(),
        [None, None] => (1..=SEEDS).collect(),
    }
}

/// Runs one seed to its end.
fn simulate(policy: Policy, seed: u64) -> World {
    struct Name(&'static str, u64);
    impl Drop for Name {
        #[allow(clippy::print_stderr, reason = "the seed is what a failure is replayed with")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!(
                    "this history of {} failed; replay it with SANDRUN_SEED={}",
                    self.0, self.1
                );
            }
        }
    }
    let _name = Name(policy.name, seed);
    let mut world = World::new(policy, seed);
    world.run();
    world
}

#[allow(
    clippy::print_stdout,
    reason = "what happened how often is for whoever runs it by hand"
)]
fn hold_every_promise(policy: Policy) {
    let mut census = Census::default();
    let seeds = seeds();
    for seed in &seeds {
        census.add(&simulate(policy, *seed).census());
    }
    println!("{}: {census:#?}", policy.name);
    // a simulation in which nothing happens proves nothing
    if seeds.len() > 100 {
        census.assert_rich(policy);
    }
}

#[test]
fn histories_of_a_broker_hold_every_promise() {
    hold_every_promise(Policy::BROKER);
}

#[test]
fn histories_of_a_trusted_pool_hold_every_promise() {
    hold_every_promise(Policy::TRUSTED);
}

#[test]
fn one_seed_is_one_history() {
    for policy in [Policy::BROKER, Policy::TRUSTED] {
        let [first, second] = [simulate(policy, 7), simulate(policy, 7)];
        assert_eq!(first.history(), second.history());
        assert!(first.history().len() > 100);
        assert_ne!(first.history(), simulate(policy, 8).history());
    }
}

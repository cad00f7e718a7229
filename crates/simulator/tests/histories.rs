//! Some hundred histories hold every promise, and a seed is one history. A failure names its seed; `make simulate SEED=N`
//! plays it again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sandrun_simulator::{Census, play};

const SEEDS: u64 = 300;
const THREADS: usize = 4;

/// What a seed has to have.
const JOBS: u64 = 20;
const NODES: u64 = 5;
const FAULTS: u64 = 10;

#[test]
fn histories_hold_every_promise() {
    let next = AtomicU64::new(1);
    let all: Mutex<Census> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        return;
                    }
                    let census = play(seed, false)
                        .outcome
                        .unwrap_or_else(|failure| panic!("{failure}"));
                    assert!(
                        census.jobs >= JOBS && census.nodes >= NODES,
                        "seed {seed}: {census:?}"
                    );
                    assert!(census.fault_count() >= FAULTS, "seed {seed}: {census:?}");
                    all.lock().unwrap().add(&census);
                }
            });
        }
    });
    let census = all.into_inner().unwrap();
    assert_eq!(census.seeds, SEEDS);
    // a simulation in which nothing happens proves nothing; `make simulate` asks for all of them
    let missing = census.missing();
    assert!(
        missing.len() * 10 < Census::expected(),
        "not reached: {missing:#?}"
    );
}

#[test]
fn one_seed_is_one_history() {
    let [first, second] = [play(7, true), play(7, true)];
    assert_eq!(first.history, second.history);
    assert_eq!(first.outcome, second.outcome);
    assert!(first.history.len() > 1_000);
    assert_ne!(first.history, play(8, true).history);
}

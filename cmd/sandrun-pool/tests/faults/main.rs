//! What goes wrong between and with the real parts of a market: lines that are cut and lie, programs that are killed and
//! stopped, disks that run full, clocks that are wrong, chains that take things back or are others. Every job ends, nobody is
//! paid twice, no honest node loses its bond, and nothing is left behind.
//!
//! `make faults KILLS=200` kills that often; a failure names its seed, and `SEED=…` chooses the same victims and pauses again.
//! `SANDRUN_TEST_KEEP=1` keeps the services' logs.

mod chain;
mod clock;
mod disk;
mod kills;
mod lines;
mod load;
mod money;
#[path = "../../../../crates/core/tests/simulated/rng.rs"]
#[allow(dead_code, reason = "the simulations use the rest")]
mod rng;
mod scene;
mod soak;
mod steps;
mod store;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod wire;

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .expect("SANDRUN_KILLS, SANDRUN_SEED and SANDRUN_SOAK are numbers"),
    )
}

/// Says it to whoever runs this by hand.
#[allow(
    clippy::print_stdout,
    reason = "the seed and the figures are what a run is for"
)]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

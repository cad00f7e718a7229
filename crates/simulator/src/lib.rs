//! The whole system in one thread, in virtual time, from one seed: market, coordinator and broker on the real code of
//! `core`, on a modelled chain, network, clock and disk.
//!
//! A seed is one history: jobs, nodes, and faults that come at any step. After every step the promises of the system are
//! checked; the first that breaks ends the history with a [`Failure`], which the same seed brings about again.
//! docs/simulator.md says what is modelled and what is checked. Never reads a clock, a file or a socket.

#![forbid(unsafe_code)]

mod census;
mod history;
mod market;
mod pool;
mod rng;
mod run;
mod script;
mod violation;

pub use census::Census;
pub use run::{Played, play, script};
pub use script::{Script, ScriptBlock, terms};
pub use violation::Failure;

//! The pure core of sandrun-pool: what may happen to a job, a node and a seat, decided in one place.
//!
//! Owns the state machines and the rules; time, randomness and I/O are arguments. Never reads a clock, draws a random
//! number, awaits, or touches a file or a socket (the crate's `clippy.toml` refuses it), so that all of it can be run
//! in one thread in virtual time from one seed.
//!
//! - [`market`]: the rules of docs/protocol.md and a pure model of the escrow.
//! - [`seat`]: a node agent's machine for one job of the market.
//! - [`pool`]: jobs, nodes and leases under each of the four trust models.
//! - [`pricing`]: what a job should cost.

pub mod market;
pub mod pool;
pub mod pricing;
pub mod seat;

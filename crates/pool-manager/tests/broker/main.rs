//! The broker over real HTTP, with its queue in a SQLite file: existing clients and node clients, and ours.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bytes;
mod claims;
mod classic;
mod completions;
mod connections;
mod displaced;
mod keys;
mod life;
mod ours;
#[path = "../../../../testnet/src/postgres.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a file of another room, of which this one uses a part"
)]
mod postgres;
mod replicas;
mod streams;
mod support;

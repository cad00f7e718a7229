//! The coordinator over real HTTP, with real executors in the real sandbox behind it, and some that lie.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod between;
mod cluster;
mod jobs;
mod liars;
mod life;
mod ownership;
mod pause;
#[path = "../../../../testnet/src/postgres.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a file of another room, of which this one uses a part"
)]
mod postgres;
mod replicas;
mod support;

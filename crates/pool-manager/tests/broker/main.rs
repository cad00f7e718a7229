//! The broker over real HTTP, with its queue in a SQLite file: existing clients and node clients, and ours.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod classic;
mod life;
mod ours;
mod streams;
mod support;

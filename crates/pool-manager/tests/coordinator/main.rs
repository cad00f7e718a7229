//! The coordinator over real HTTP, with real executors in the real sandbox behind it, and some that lie.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod jobs;
mod liars;
mod life;
mod support;

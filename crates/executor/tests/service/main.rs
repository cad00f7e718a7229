//! The whole service, with real jobs in the real sandbox, over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api;
mod environments;
mod evidence;
mod follow;
mod jobs;
mod limits;
mod metrics;
mod outputs;
mod shutdown;
mod streams;
mod support;
mod uploads;

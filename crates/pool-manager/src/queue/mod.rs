//! The queue as a service's part: the machine of `sandrun_core::pool` behind a thread that writes before it answers.
//!
//! Owns the engine's thread, batches, waiting claims, ids, and what nodes and jobs are called. HTTP handlers ask through
//! [`Queue`]; reads go past it, by the store's reader. Never decides which node gets which job, and never speaks HTTP.
//!
//! **Invariant**: nobody is told anything that is not on disk. **Invariant**: after a failed commit everybody of the
//! batch gets an error, and the memory is loaded anew.

mod apply;
mod batch;
mod claims;
mod clients;
mod command;
mod digest;
mod ending;
mod engine;
mod error;
mod follow;
mod handle;
mod ids;
mod lines;
mod memory;
mod nodes;
mod push;
mod runs;
mod settings;
mod stats;
mod views;
mod words;

pub use error::QueueError;
pub use handle::{Queue, QueueThread};
pub use ids::IdKey;
pub use push::{Assignment, Begun, Push};
pub(crate) use runs::run_in_row;
pub use sandrun_metrics::Histogram;
pub use settings::{Clock, QueueSettings};
pub use stats::{QueueStats, Retries};
pub use words::{
    Accepted, Announced, Claim, Completion, Failure, NodeView, Orders, Printed, Registration, Submission,
    Work,
};

#[cfg(test)]
mod tests;

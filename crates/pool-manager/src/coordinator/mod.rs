//! The coordinator of a trusted pool: jobs go to workers on a list of keys, and only what they have signed counts.
//!
//! Owns the list, the workers' health and its proof, the way of each lease to its worker and back, and the wire shapes
//! of existing clients. The queue, the pool API and the service around them are the broker's. Never decides which
//! worker gets which job, and never answers with anything that does not lie in its own store.

mod allowlist;
mod attempt;
mod bundle;
mod carry;
mod check;
mod ended;
mod fleet;
mod http;
mod offer;
mod pace;
mod pack;
mod service;
mod worker;

pub use allowlist::NoAllowlist;
pub use service::{Coordinator, CoordinatorConfig, CoordinatorError};

//! What a client does: prepare a job, price it, post it, follow it, fetch its result and check it against the chain,
//! and get its money back.
//!
//! Owns the client's side of the market; needs nothing but a chain RPC and a content store. Never trusts a pool manager
//! with more than convenience, and never prints. [`pool`] is the same for services that are trusted: brokers, coordinators
//! and single executors, without any chain.

mod class;
mod client;
mod fit;
mod gather;
mod manager;
mod plan;
mod prepare;
mod result;
mod snapshot;
mod views;

pub mod pool;

pub use client::{Client, ClientError, Posted};
pub use fit::{Missing, announced};
pub use manager::{ManagerClient, ManagerClientError};
pub use plan::{PlanError, Terms, Wish, plan, runnable};
pub use prepare::{
    MAX_BUNDLE_BYTES, PrepareError, PreparedJob, prepare, prepare_for_market, prepare_for_pool,
};
pub use result::{ResultError, ResultFile, VerifiedResult, fetch_result, output_files};
pub use snapshot::{JobEntry, Snapshot, SnapshotError, read_job};
pub use views::{
    ErrorView, HealthView, JobView, JobsQuery, JobsView, NodeEntry, NodesView, PhaseCounts, StatusView,
};

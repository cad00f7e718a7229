//! The client of a trusted service: a broker, a coordinator, or a single executor.
//!
//! Owns the HTTP calls, their limits in time and size, and the differences between services: those of this project answer
//! the common calls (`"api": "pool/1"`), older ones only those that they always had. Never prints, and never believes a
//! file that is not what its job's SHA-256 says.

mod client;
mod detect;
mod error;
mod events;
mod fetch;
mod follow;
mod http;
mod ids;
mod plain;
mod receipt;
mod requirements;
mod submission;
mod views;

pub use client::{MAX_PAGE, PoolClient};
pub use detect::{Kind, Service};
pub use error::PoolClientError;
pub use follow::{LogEvent, LogFollower};
pub use ids::{BadId, PoolJobId, PoolNodeId};
pub use receipt::CheckedReceipt;
pub use requirements::{NodeRequirements, RequirementError};
pub use submission::{After, AfterError, Options, Parent, Submission};
pub use views::{Job, JobPage, JobQuery, JobStatus, Node, OutputEntry, Overview, Printed, Submitted, Time};

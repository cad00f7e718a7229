//! The pool manager of the market: watches the chain, keeps an index in SQLite, does what is due, answers queries.
//!
//! Owns nothing that the chain does not hold: it can be deleted and built again, any number may run, and clients and
//! nodes work without one. Chain facts come applied or undone; a job that lost an event is folded anew from the others.
//! Never signs for a client or a node.

mod block;
mod book;
mod broker;
mod coordinator;
mod error;
mod http;
mod keeper;
mod manager;
mod meters;
mod nodes;
mod queue;

pub use broker::{Broker, BrokerConfig, BrokerError};
pub use coordinator::{Coordinator, CoordinatorConfig, CoordinatorError, NoAllowlist};
pub use error::ManagerError;
pub use manager::{Manager, ManagerConfig};
pub use queue::{
    Accepted, Announced, Assignment, Begun, Claim, Clock, Completion, Failure, Histogram, IdKey, NodeView,
    Orders, Printed, Push, Queue, QueueError, QueueSettings, QueueStats, QueueThread, Registration, Retries,
    Submission, Work,
};

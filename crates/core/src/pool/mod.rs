//! Jobs, nodes and leases under each of the four trust models: one machine, and a row of policy for each model.
//!
//! Owns which node works on which job, under which attempt number and until when; retries, node loss, cancel, drain,
//! priorities with ageing, fair share among clients, and the agreement of several nodes on one digest. Time is an
//! argument. Never performs anything: [`Pool::apply`] takes an event and returns the actions that follow from it.
//!
//! Nothing here survives a restart by itself: a service journals the events that it has applied and applies them
//! again in the same order with the same times; the machine is deterministic, so that it stands where it stood.
//!
//! **Invariant**: a lease has an attempt number that its job never gives out again; an answer counts only under the
//! number of a lease that is held now, and once.
//!
//! Deliberately absent: names (jobs, nodes and clients are numbers that the service gives out), results (only their
//! digests are looked at), money, and waiting (a service that offers long polls asks again after each event).

mod assign;
mod check;
mod consensus;
mod event;
mod job;
mod lease;
mod machine;
mod needs;
mod node;
mod policy;
mod queue;
mod words;

pub use check::Inconsistency;
pub use event::{Action, Event, Report, SignatureCheck};
pub use job::{Answered, FailReason, JobEnd, JobSpec, JobStatus, Lease, LeaseStep};
pub use machine::{Pool, Settings};
pub use needs::{Needs, Offer};
pub use node::{NodeSpec, NodeStatus};
pub use policy::{Admission, Assignment, EventSource, Policy, Settlement, TieBreak, Verification};
pub use words::{ClientNumber, Illegal, JobNumber, NodeNumber, Priority};

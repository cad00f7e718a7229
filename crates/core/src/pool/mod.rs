//! Jobs, nodes and leases under each of the four trust models: one machine, and a row of policy for each model.
//!
//! Owns which node works on which job, under which attempt number and until when; retries, node loss, cancel, drain,
//! priorities with ageing, fair share among clients, the agreement of several nodes on one digest, and jobs that wait
//! for other jobs. Time is an argument. Never performs anything: [`Pool::apply`] takes an event and returns the actions that follow from it.
//!
//! Nothing here survives a restart by itself. A service writes the snapshots of what an event has touched
//! ([`Pool::take_touched`]) before it answers, and puts them back ([`Pool::put_job`], [`Pool::put_node`]); or it
//! journals the events and applies them again in the same order with the same times. Either way the machine stands
//! where it stood; by snapshots, clients' turns begin anew. Replicas hand each other snapshots in the same way.
//!
//! **Invariant**: a lease has an attempt number that its job never gives out again; an answer counts only under the
//! number of a lease that is held now, and once. A job starts when all that it waits for has been agreed on.
//!
//! Deliberately absent: names (jobs, nodes and clients are numbers that the service gives out), results (only their
//! digests are looked at), money, and waiting (a service that offers long polls asks again after each event).

mod assign;
mod check;
mod consensus;
mod dag;
mod event;
mod job;
mod kept;
mod lease;
mod machine;
mod needs;
mod node;
mod policy;
mod queue;
mod read;
mod registry;
mod snapshot;
mod table;
mod touch;
mod turns;
mod words;

pub use check::Inconsistency;
pub use event::{Action, Event, Report, SignatureCheck};
pub use job::{Answered, FailReason, JobEnd, JobSpec, JobStatus, Lease, LeaseStep};
pub use machine::{Pool, Settings};
pub use needs::{Needs, Offer};
pub use node::{NodeSpec, NodeStatus};
pub use policy::{Admission, Assignment, EventSource, Policy, Settlement, TieBreak, Verification};
pub use queue::Level;
pub use read::NodeView;
pub use snapshot::{JobLife, JobSnapshot, NodeSnapshot, OpenJob};
pub use touch::{Counts, Touched};
pub use words::{ClaimNumber, ClientNumber, Illegal, JobNumber, NodeNumber, Priority};

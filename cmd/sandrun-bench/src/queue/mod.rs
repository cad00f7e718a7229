//! `queue.*`: the broker over HTTP, durable, beside the disk's own floor in the same run.

mod broker;
mod cycle;
mod end_to_end;
mod floor;
mod load;
mod memory;
mod node_tasks;
mod postgres;
mod stub_worker;
mod submit;
mod wire;

pub(crate) use cycle::{cycle, cycle_of_a_million};
pub(crate) use end_to_end::end_to_end;
pub(crate) use memory::bytes_per_job;
pub(crate) use node_tasks::node_tasks;
pub(crate) use postgres::cycle_of_replicas;
pub(crate) use submit::submit;

/// A rate and what it is measured against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Jobs a second.
    pub(crate) rate: f64,
    /// The peer's, in the same unit.
    pub(crate) peer: f64,
}

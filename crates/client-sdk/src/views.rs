//! What a manager answers over HTTP, JSON: the words that its service and [`crate::ManagerClient`] share. Never decides
//! anything.

use sandrun_chain::Head;
use sandrun_core::market::{Phase, Why};
use sandrun_types::{Address, Amount, Capabilities, ChainId, ClassId, JobId, NodeIndex};
use serde::{Deserialize, Serialize};

use crate::JobEntry;

/// `GET /health`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthView {
    /// `healthy`; `starting` before the first block was read; `not ready` where a part that it needs is missing.
    pub status: String,
    /// The last block that is in the index.
    pub head: Option<Head>,
}

/// Jobs by the phase that their events have reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseCounts {
    /// Wait for seats.
    pub seats: u64,
    /// Run.
    pub run: u64,
    /// Reveal.
    pub reveal: u64,
    /// Are over.
    pub closed: u64,
}

impl PhaseCounts {
    /// Counts phases.
    pub fn of(phases: impl IntoIterator<Item = Phase>) -> Self {
        let mut counts = Self::default();
        for phase in phases {
            let count = match phase {
                Phase::Seats => &mut counts.seats,
                Phase::Run => &mut counts.run,
                Phase::Reveal => &mut counts.reveal,
                Phase::Closed => &mut counts.closed,
            };
            *count += 1;
        }
        counts
    }

    /// Jobs that are not over.
    pub const fn open(&self) -> u64 {
        self.seats.saturating_add(self.run).saturating_add(self.reveal)
    }

    /// All jobs.
    pub const fn total(&self) -> u64 {
        self.open().saturating_add(self.closed)
    }
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    /// The chain.
    pub chain: ChainId,
    /// The escrow.
    pub escrow: Address,
    /// The last block that is in the index.
    pub head: Option<Head>,
    /// Jobs ever posted.
    pub jobs: PhaseCounts,
    /// Registered nodes.
    pub nodes: u64,
}

/// Which jobs are asked for, newest first: the query of `GET /v1/jobs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    /// Only those that are not closed.
    #[serde(default)]
    pub open: bool,
    /// Only those of this client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Address>,
    /// Only those whose id begins so: `0x` and hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How many at most; the manager's own limit when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl JobsQuery {
    /// Whether `entry` is asked for.
    pub fn wants(&self, entry: &JobEntry) -> bool {
        let begins = |prefix: &String| entry.facts.job.to_string().starts_with(prefix.as_str());
        (!self.open || entry.facts.phase != Phase::Closed)
            && self
                .client
                .is_none_or(|client| entry.facts.order.client == client)
            && self.prefix.as_ref().is_none_or(begins)
    }
}

/// `GET /v1/jobs`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobsView {
    /// The jobs, newest first.
    pub jobs: Vec<JobEntry>,
    /// How many were ever posted.
    pub total: u64,
}

/// `GET /v1/jobs/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobView {
    /// The job.
    pub job: JobEntry,
    /// What it waits for, as of the index's last block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// `GET /v1/nodes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodesView {
    /// The nodes, by index.
    pub nodes: Vec<NodeEntry>,
}

/// A node as its registry events tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its index.
    pub node: NodeIndex,
    /// Owner of its stake.
    pub account: Address,
    /// Its hot key.
    pub worker: Address,
    /// Where its earnings go.
    pub payout: Address,
    /// What it has deposited, wei.
    pub stake: Amount,
    /// What this escrow may lock, wei.
    pub cap: Amount,
    /// Classes that it serves here.
    pub classes: Vec<ClassId>,
    /// What it says it has; `None` where its words make no sense.
    pub capabilities: Option<Capabilities>,
}

/// An answer that is no success.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorView {
    /// What was wrong, in a sentence.
    pub error: String,
}

/// Path of a job's answer.
pub(crate) fn job_path(job: JobId) -> String {
    format!("v1/jobs/{job}")
}

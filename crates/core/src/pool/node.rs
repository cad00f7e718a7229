//! A node: what it offers and what it works on.

use std::collections::BTreeSet;

use sandrun_types::{Attempt, UnixSeconds};

use super::{JobNumber, Offer};

/// What a node brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// What it has.
    pub offer: Offer,
    /// How many jobs it takes at once.
    pub slots: u32,
    /// Whether it has proved what the policy's admission asks for: stake, a listed key, its address.
    pub admitted: bool,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeStatus {
    /// Takes jobs.
    Up,
    /// Takes nothing new.
    Draining,
    /// Not heard of, or gone.
    Lost,
}

/// What the machine keeps of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) spec: NodeSpec,
    pub(super) status: NodeStatus,
    pub(super) heard: UnixSeconds,
    /// Under how many leases it stands in the index of free nodes.
    pub(super) listed: Option<u32>,
    pub(super) leases: BTreeSet<(JobNumber, Attempt)>,
}

impl Node {
    /// Leases that it has.
    pub(super) fn active(&self) -> u32 {
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }

    /// Whether another job may go to it.
    pub(super) fn is_free(&self) -> bool {
        self.status == NodeStatus::Up && self.active() < self.spec.slots
    }
}

//! A node: what it offers and how it stands. What it works on is an index over jobs ([`super::Pool`]).

use sandrun_types::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::{Needs, NodeNumber, Offer};

/// What a node brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// What it has.
    pub offer: Offer,
    /// How many jobs it takes at once.
    pub slots: u32,
    /// Whether it has proved what the policy's admission asks for: stake, a listed key, its address.
    pub admitted: bool,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Whether it was told to take nothing new: so it comes back where it is lost.
    pub(super) drained: bool,
    pub(super) heard: UnixSeconds,
    /// Under how many leases it stands in the index of free nodes.
    pub(super) listed: Option<u32>,
}

impl Node {
    /// Whether it, under this number, can do what is needed and has no part yet in a job in which these have.
    pub(super) fn fits(&self, node: NodeNumber) -> impl Fn(&Needs, &[NodeNumber]) -> bool {
        move |needs, involved| !involved.contains(&node) && self.spec.offer.meets(needs)
    }
}

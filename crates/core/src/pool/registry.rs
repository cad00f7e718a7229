//! Nodes: how they come, are heard of, and stand in the indexes.

use sandrun_types::UnixSeconds;

use super::node::Node;
use super::{Illegal, NodeNumber, NodeSpec, NodeStatus, Pool};

impl Pool {
    pub(super) fn register(
        &mut self,
        now: UnixSeconds,
        node: NodeNumber,
        spec: NodeSpec,
    ) -> Result<(), Illegal> {
        if !spec.admitted {
            return Err(Illegal::NotAdmitted(node));
        }
        match self.nodes.get_mut(&node) {
            Some(known) => known.spec = spec,
            None => {
                let known = Node {
                    spec,
                    status: NodeStatus::Lost,
                    drained: false,
                    heard: now,
                    listed: None,
                };
                self.nodes.insert(node, known);
            }
        }
        // a drained node that restarts is still drained
        self.hear(now, node);
        self.revive(now, node);
        self.list(node);
        self.touch_node(node);
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, now: UnixSeconds, node: NodeNumber) -> Result<(), Illegal> {
        if !self.nodes.contains_key(&node) {
            return Err(Illegal::UnknownNode(node));
        }
        self.hear(now, node);
        self.revive(now, node);
        Ok(())
    }

    pub(super) fn set_status(&mut self, node: NodeNumber, status: NodeStatus) -> Result<(), Illegal> {
        let known = self.nodes.get_mut(&node).ok_or(Illegal::UnknownNode(node))?;
        let drained = status == NodeStatus::Draining;
        // a lost node comes back by being heard of, not by being told; what it was told holds then
        let is_lost = known.status == NodeStatus::Lost;
        let status = if is_lost { NodeStatus::Lost } else { status };
        if (known.status, known.drained) != (status, drained) {
            (known.status, known.drained) = (status, drained);
            self.list(node);
            self.touch_node(node);
        }
        Ok(())
    }

    /// Lets a lost node out of memory, whoever it was; one that is not lost, or still has leases, stays. Whether it is
    /// gone.
    pub fn drop_node(&mut self, node: NodeNumber) -> bool {
        let is_lost = self
            .nodes
            .get(&node)
            .is_none_or(|it| it.status == NodeStatus::Lost);
        if !is_lost || self.held.contains_key(&node) {
            return false;
        }
        self.nodes.remove(&node);
        self.touched.nodes.remove(&node);
        true
    }

    /// A lost node, or one that has just come, is up, or draining where it was told to.
    fn revive(&mut self, now: UnixSeconds, node: NodeNumber) {
        if let Some(known) = self.nodes.get_mut(&node)
            && known.status == NodeStatus::Lost
        {
            known.status = if known.drained {
                NodeStatus::Draining
            } else {
                NodeStatus::Up
            };
            known.heard = now.max(known.heard);
            self.heard.insert((known.heard, node));
            self.list(node);
            self.touch_node(node);
        }
    }

    /// A node was heard of. Only a word that comes a quarter of the timeout after the last one changes anything: each
    /// change is a row that the service writes.
    pub(super) fn hear(&mut self, now: UnixSeconds, node: NodeNumber) {
        let Some(timeout) = self.settings.node_timeout else {
            return;
        };
        if let Some(known) = self.nodes.get_mut(&node)
            && known.status != NodeStatus::Lost
            && now > known.heard.plus(u64::from(timeout / 4))
        {
            self.heard.remove(&(known.heard, node));
            known.heard = now;
            self.heard.insert((now, node));
            self.touch_node(node);
        }
    }

    /// Whoever was heard of later than could be, as the clock was set back since, was heard of now: else nobody would miss
    /// it until the clock has caught up.
    pub(super) fn doubt(&mut self, now: UnixSeconds, timeout: u32) {
        while let Some((heard, node)) = self.heard.last().copied()
            && heard > now.plus(u64::from(timeout))
        {
            self.heard.remove(&(heard, node));
            if let Some(known) = self.nodes.get_mut(&node) {
                known.heard = now;
                self.heard.insert((now, node));
                self.touch_node(node);
            }
        }
    }

    /// Brings the index of free nodes up to date with a node.
    pub(super) fn list(&mut self, node: NodeNumber) {
        let active = self.active(node);
        if let Some(known) = self.nodes.get_mut(&node) {
            if let Some(active) = known.listed.take() {
                self.free.remove(&(active, node));
            }
            if known.status == NodeStatus::Up && active < known.spec.slots {
                known.listed = Some(active);
                self.free.insert((active, node));
            }
        }
    }

    /// Leases that a node has.
    pub(super) fn active(&self, node: NodeNumber) -> u32 {
        let count = self.held.get(&node).map_or(0, std::collections::BTreeSet::len);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether another job may go to a node.
    pub(super) fn is_free(&self, node: NodeNumber) -> bool {
        self.nodes.get(&node).is_some_and(|it| it.listed.is_some())
    }
}

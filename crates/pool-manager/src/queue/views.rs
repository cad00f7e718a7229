//! What operators say of nodes, and are told of them.

use sandrun_core::pool::{Event, NodeNumber, NodeSnapshot};

use super::batch::Batch;
use super::error::QueueError;
use super::memory::Memory;
use super::nodes::NodeEntry;
use super::words::NodeView;

impl Memory {
    /// Lets a node take nothing new, or take jobs again.
    pub(super) fn set_draining(
        &mut self,
        node: &str,
        draining: bool,
        batch: &mut Batch,
    ) -> Result<(), QueueError> {
        let node = self.nodes.number(node)?;
        let event = if draining {
            Event::Drain { node }
        } else {
            Event::Resume { node }
        };
        self.apply(event, batch)
    }

    /// All nodes, as they stand.
    pub(super) fn node_views(&self) -> Vec<NodeView> {
        let view = |(number, entry): (NodeNumber, &NodeEntry)| {
            let (status, active) = self.pool.node(number)?;
            let NodeSnapshot { spec, drained, .. } = self.pool.node_snapshot(number)?;
            Some(NodeView {
                number,
                id: entry.id.clone(),
                endpoint: entry.endpoint.clone(),
                announced: entry.announced.clone(),
                heard: entry.heard,
                completed: entry.completed,
                failed: entry.failed,
                status,
                drained,
                active,
                offer: spec.offer,
            })
        };
        self.nodes.iter().filter_map(view).collect()
    }
}

//! Why a job still waits, where no node that there is could ever take it. Pure.

use sandrun_core::pool::{JobLife, JobSnapshot, NodeStatus};

use crate::queue::NodeView;

/// What to tell of a pending job by its stored snapshot: what each node lacks that lacks least. `None` where one can
/// take it, or there is none at all, or it waits for its parents.
pub(super) fn reason(snapshot: &[u8], nodes: &[NodeView]) -> Option<String> {
    let snapshot: JobSnapshot = serde_json::from_slice(snapshot).ok()?;
    let JobLife::Open(open) = snapshot.life else {
        return None;
    };
    let there = nodes.iter().filter(|node| node.status != NodeStatus::Lost);
    let lacking = there.map(|node| node.offer.lacks(&open.needs));
    let least = lacking.min_by_key(Vec::len)?;
    let is_waiting = open.waiting > 0 && open.parents.is_empty() && !least.is_empty();
    is_waiting.then(|| format!("no node here can run it: it needs {}", least.join(", ")))
}

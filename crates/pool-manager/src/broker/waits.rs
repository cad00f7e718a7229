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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sandrun_core::pool::{NodeNumber, Offer};
    use sandrun_types::Capabilities;
    use serde_json::json;

    use super::*;
    use crate::queue::Announced;

    fn node(features: &[&str], status: NodeStatus) -> NodeView {
        NodeView {
            number: NodeNumber(1),
            id: "n".to_owned(),
            endpoint: String::new(),
            announced: Announced {
                protocol: 2,
                slots: None,
                capabilities: json!({}),
            },
            heard: 0,
            completed: 0,
            failed: 0,
            status,
            active: 0,
            offer: Offer::Announced {
                capabilities: Box::new(Capabilities::default()),
                features: features.iter().map(|it| (*it).to_owned()).collect(),
            },
        }
    }

    fn job(waiting: u8, features: &[&str]) -> Vec<u8> {
        let features: BTreeSet<&str> = features.iter().copied().collect();
        let open = json!({
            "needs": {"features": features}, "level": 0, "quorum": 1, "lease_seconds": 9, "waiting": waiting,
            "retries_left": 1, "extra_places": 0,
        });
        serde_json::to_vec(&json!({"client": 1, "life": {"open": open}})).unwrap()
    }

    #[test]
    fn what_the_nearest_node_lacks_is_said_while_none_can() {
        let wanted = job(1, &["class:det", "environments"]);
        let far = node(&["bundle"], NodeStatus::Up);
        let near = node(&["class:det"], NodeStatus::Draining);
        let fit = || node(&["class:det", "environments"], NodeStatus::Up);
        let lost = node(&["class:det", "environments"], NodeStatus::Lost);
        let words = reason(&wanted, &[far.clone(), near.clone(), lost.clone()]);
        assert_eq!(
            words.as_deref(),
            Some("no node here can run it: it needs environments")
        );
        assert_eq!(
            reason(&wanted, std::slice::from_ref(&far)).as_deref(),
            Some("no node here can run it: it needs class det, environments")
        );
        assert_eq!(reason(&wanted, &[far, near, fit()]), None);
        assert_eq!(reason(&wanted, &[lost]), None);
        assert_eq!(
            reason(&job(0, &["class:det"]), &[node(&[], NodeStatus::Up)]),
            None
        );
    }
}

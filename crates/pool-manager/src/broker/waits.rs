//! Why a job still waits, where no node that there is could ever take it. Pure.

use sandrun_core::pool::{JobLife, JobSnapshot, NodeNumber, NodeStatus, OpenJob};

use crate::queue::NodeView;

/// A job of which a place waits for a node, by its stored snapshot; `None` for any other, and for one that waits for its
/// parents.
pub(super) fn waiting(snapshot: &[u8]) -> Option<Box<OpenJob>> {
    let snapshot: JobSnapshot = serde_json::from_slice(snapshot).ok()?;
    let JobLife::Open(open) = snapshot.life else {
        return None;
    };
    (open.waiting > 0 && open.parents.is_empty()).then_some(open)
}

/// What to tell of it: that no node is up, that those which could take it are draining, what each node lacks that lacks
/// least, or that all have a part in it already. `None` where one can take it. `has_nodes` says whether nodes come by
/// themselves, and are not workers on a list.
pub(super) fn reason(open: &OpenJob, nodes: &[NodeView], has_nodes: bool) -> Option<String> {
    let has_part = |node: NodeNumber| {
        open.leases.iter().any(|lease| lease.node == node) || open.answers.iter().any(|it| it.node == node)
    };
    let there: Vec<&NodeView> = nodes
        .iter()
        .filter(|node| node.status != NodeStatus::Lost)
        .collect();
    if there.is_empty() {
        let why = if !has_nodes {
            "none of its workers is healthy: `sandrun-pool doctor --to URL` and the coordinator's log say more"
        } else if nodes.is_empty() {
            "no node is up: none has come yet; `sandrun-pool node --broker URL` starts one"
        } else {
            "no node is up: all that were here are lost; `sandrun-pool nodes --to URL` lists them"
        };
        return Some(why.to_owned());
    }
    let mut others = there.into_iter().filter(|node| !has_part(node.number)).peekable();
    if others.peek().is_none() {
        return Some(
            "it waits for another node: each of its runs is another node's, and all that are here have one"
                .to_owned(),
        );
    }
    let (fit, lacking): (Vec<_>, Vec<_>) = others
        .map(|node| (node.status, node.offer.lacks(&open.needs)))
        .partition(|(_, lacks)| lacks.is_empty());
    if fit.is_empty() {
        let least = lacking.into_iter().map(|(_, lacks)| lacks).min_by_key(Vec::len)?;
        return Some(format!("no node here can run it: it needs {}", least.join(", ")));
    }
    fit.iter()
        .all(|(status, _)| *status == NodeStatus::Draining)
        .then(|| {
            "the only nodes that have what it needs are draining: `sandrun-pool drain NODE --resume` lets one take jobs again"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sandrun_core::pool::Offer;
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
            drained: status == NodeStatus::Draining,
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
        let reason = |job: &[u8], nodes: &[NodeView]| reason(&*waiting(job)?, nodes, true);
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
        let starts = |nodes: &[NodeView], start: &str| {
            let words = reason(&wanted, nodes).unwrap();
            assert!(words.starts_with(start), "{words}");
        };
        let draining = node(&["class:det", "environments"], NodeStatus::Draining);
        starts(&[], "no node is up: none has come");
        starts(std::slice::from_ref(&lost), "no node is up: all that were");
        let at_a_coordinator = super::reason(&waiting(&wanted).unwrap(), &[], false).unwrap();
        assert!(at_a_coordinator.starts_with("none of its workers is healthy"));
        starts(&[draining.clone(), lost], "the only nodes that have");
        assert_eq!(reason(&wanted, &[draining, fit()]), None);
        assert_eq!(
            reason(&job(0, &["class:det"]), &[node(&[], NodeStatus::Up)]),
            None
        );
    }

    #[test]
    fn a_run_that_only_another_node_may_have_says_so() {
        let reason = |open: &OpenJob, nodes: &[NodeView]| reason(open, nodes, true);
        let mut open = waiting(&job(1, &[])).unwrap();
        let one = node(&[], NodeStatus::Up);
        assert_eq!(reason(&open, std::slice::from_ref(&one)), None);
        let lease = json!({"node": 1, "attempt": 1, "until": 9, "step": "given"});
        open.leases = vec![serde_json::from_value(lease).unwrap()];
        let words = reason(&open, std::slice::from_ref(&one)).unwrap();
        assert!(words.starts_with("it waits for another node"), "{words}");
        let other = NodeView {
            number: NodeNumber(2),
            ..one.clone()
        };
        assert_eq!(reason(&open, &[one, other]), None);
    }
}

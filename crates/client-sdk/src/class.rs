//! Which exact class a job of the market is posted for. Decides from the nodes that there are; asks nobody.

use sandrun_chain::NodeRecord;
use sandrun_types::{ClassId, ClassRequest, Redundancy};

use crate::plan::PlanError;

/// The classes of jobs that ask for none, the first that enough nodes serve: only there can nodes be held to one answer.
const DEFAULT_CLASSES: &[ClassRequest] = &[ClassRequest::Det, ClassRequest::DetSoft];

/// The exact class for what a job asks for, if it asks: the one that most nodes with free stake serve.
pub(crate) fn choose_class(
    nodes: &[NodeRecord],
    asked: Option<ClassRequest>,
    redundancy: Redundancy,
) -> Result<ClassId, PlanError> {
    let requests = asked.as_ref().map_or(DEFAULT_CLASSES, std::slice::from_ref);
    let mut most = 0;
    for request in requests {
        match most_served(nodes, *request) {
            Some((class, count)) if count >= usize::from(redundancy.replicas()) => return Ok(class),
            Some((_, count)) => most = most.max(count),
            None => {}
        }
    }
    let soft = most_served(nodes, ClassRequest::DetSoft).map_or(0, |(_, count)| count);
    Err(PlanError::TooFewNodes {
        replicas: redundancy.replicas(),
        wanted: wanted(asked),
        available: most,
        instead: if asked == Some(ClassRequest::Det) && soft >= usize::from(redundancy.replicas()) {
            format!("ask for det-soft, which {soft} serve,")
        } else {
            "start more nodes,".to_owned()
        },
    })
}

fn wanted(asked: Option<ClassRequest>) -> String {
    match asked {
        None => "the kind `det` or `det-soft`".to_owned(),
        Some(kind @ (ClassRequest::Native | ClassRequest::Det | ClassRequest::DetSoft)) => {
            format!("the kind `{kind}`")
        }
        Some(ClassRequest::Exact(class)) => class.to_string(),
    }
}

/// Of the classes that meet a request the one that most nodes with free stake serve, and how many.
fn most_served(nodes: &[NodeRecord], request: ClassRequest) -> Option<(ClassId, usize)> {
    let mut served: Vec<(ClassId, usize)> = Vec::new();
    for node in nodes.iter().filter(|node| !node.escrow.cap.is_zero()) {
        for class in node.classes.iter().filter(|class| request.accepts(**class)) {
            match served.iter_mut().find(|(known, _)| known == class) {
                Some((_, count)) => *count += 1,
                None => served.push((*class, 1)),
            }
        }
    }
    // the same choice for everybody who sees the same nodes
    served.sort_by(|(a, many), (b, few)| few.cmp(many).then(a.cmp(b)));
    served.first().copied()
}

#[cfg(test)]
pub(crate) mod tests {
    use sandrun_chain::{EscrowNode, OptIn, RegistryNode};
    use sandrun_types::{Address, Amount, NodeIndex, UnixSeconds};

    use super::*;

    pub(crate) const DET: ClassId = class(0);
    const SOFT: ClassId = class(2);

    const fn class(mask: u8) -> ClassId {
        let mut id = [7; 32];
        (id[0], id[1]) = (1, mask);
        ClassId(id)
    }

    pub(crate) fn node(index: u32, classes: &[ClassId]) -> NodeRecord {
        NodeRecord {
            index: NodeIndex(index),
            registry: RegistryNode {
                account: Address::ZERO,
                worker: Address::ZERO,
                payout: Address::ZERO,
                stake: Amount::from_gwei(1),
                reserved: Amount::ZERO,
            },
            opt_in: OptIn {
                cap: Amount::from_gwei(1),
                leaving: Amount::ZERO,
                leave_at: None,
            },
            classes: classes.to_vec(),
            escrow: EscrowNode {
                cap: Amount::from_gwei(1),
                locked: Amount::ZERO,
                earned: Amount::ZERO,
                since: UnixSeconds(0),
                reputation: 0,
            },
        }
    }

    #[test]
    fn who_asks_for_none_gets_the_stricter_class_that_enough_nodes_serve() {
        let both = [1, 2].map(|index| node(index, &[DET, SOFT]));
        let soft = [3, 4].map(|index| node(index, &[SOFT]));
        let all = [both.clone(), soft.clone()].concat();
        let chosen = |nodes: &[NodeRecord], asked| choose_class(nodes, asked, Redundancy::Two).ok();
        assert_eq!(chosen(&all, None), Some(DET));
        assert_eq!(chosen(&soft, None), Some(SOFT));
        assert_eq!(chosen(&both[..1], None), None);
        assert_eq!(chosen(&all, Some(ClassRequest::DetSoft)), Some(SOFT));
        // who asks for `det` gets no other, and is told what there is
        let refused = choose_class(&soft, Some(ClassRequest::Det), Redundancy::Two).unwrap_err();
        assert!(
            refused.to_string().contains("ask for det-soft, which 2 serve"),
            "{refused}"
        );
    }
}

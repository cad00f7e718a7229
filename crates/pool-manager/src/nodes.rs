//! Nodes as their registry events tell them; pure.

use std::collections::BTreeMap;

use client_sdk::NodeEntry;
use sandrun_chain::Logged;
use sandrun_core::market::MarketEvent;
use sandrun_types::{Address, Amount, NodeIndex};

/// Takes in one event; gives the node that it changed.
pub(crate) fn apply(
    nodes: &mut BTreeMap<NodeIndex, NodeEntry>,
    event: &MarketEvent,
    escrow: Address,
) -> Option<NodeIndex> {
    if let MarketEvent::NodeRegistered {
        node,
        account,
        worker,
        payout,
    } = event
    {
        let entry = NodeEntry {
            node: *node,
            account: *account,
            worker: *worker,
            payout: *payout,
            stake: Amount::ZERO,
            cap: Amount::ZERO,
            classes: Vec::new(),
            capabilities: None,
        };
        nodes.insert(*node, entry);
        return Some(*node);
    }
    let entry = nodes.get_mut(&of(event)?)?;
    match event {
        MarketEvent::ProfileChanged { profile, .. } => {
            entry.capabilities = serde_json::from_slice(&profile.capabilities).ok();
        }
        MarketEvent::PayoutChanged { payout, .. } => entry.payout = *payout,
        MarketEvent::StakeAdded { stake, .. } => entry.stake = *stake,
        MarketEvent::OptedIn {
            escrow: at,
            cap,
            classes,
            ..
        } if *at == escrow => {
            entry.cap = *cap;
            entry.classes.clone_from(classes);
        }
        MarketEvent::Leaving {
            escrow: at, amount, ..
        } if *at == escrow => entry.cap = less(entry.cap, *amount),
        MarketEvent::StakeWithdrawn { amount, .. } => entry.stake = less(entry.stake, *amount),
        MarketEvent::Seized {
            escrow: at,
            burnt,
            tip,
            ..
        } => {
            let lost = burnt.checked_add(*tip).unwrap_or(*burnt);
            entry.stake = less(entry.stake, lost);
            if *at == escrow {
                entry.cap = less(entry.cap, lost);
            }
        }
        MarketEvent::OptedIn { .. }
        | MarketEvent::Leaving { .. }
        | MarketEvent::Released { .. }
        | MarketEvent::NodeRegistered { .. }
        | MarketEvent::NodeWithdrawn { .. }
        | MarketEvent::Withdrawn { .. }
        | MarketEvent::JobPosted { .. }
        | MarketEvent::SeatClaimed { .. }
        | MarketEvent::Committed { .. }
        | MarketEvent::Revealed { .. }
        | MarketEvent::ResultPublished { .. }
        | MarketEvent::RoundOpened { .. }
        | MarketEvent::PhaseChanged { .. }
        | MarketEvent::JobDecided { .. }
        | MarketEvent::SeatFinished { .. }
        | MarketEvent::Refunded { .. }
        | MarketEvent::Burnt { .. } => return None,
    }
    Some(entry.node)
}

/// Folds all events that are about no job.
pub(crate) fn fold(events: &[Logged], escrow: Address) -> BTreeMap<NodeIndex, NodeEntry> {
    let mut nodes = BTreeMap::new();
    for logged in events {
        apply(&mut nodes, &logged.event, escrow);
    }
    nodes
}

fn less(amount: Amount, by: Amount) -> Amount {
    amount.checked_sub(by).unwrap_or(Amount::ZERO)
}

/// The node that a registry event is about.
const fn of(event: &MarketEvent) -> Option<NodeIndex> {
    match event {
        MarketEvent::NodeRegistered { node, .. }
        | MarketEvent::ProfileChanged { node, .. }
        | MarketEvent::PayoutChanged { node, .. }
        | MarketEvent::StakeAdded { node, .. }
        | MarketEvent::OptedIn { node, .. }
        | MarketEvent::Leaving { node, .. }
        | MarketEvent::Released { node, .. }
        | MarketEvent::StakeWithdrawn { node, .. }
        | MarketEvent::Seized { node, .. } => Some(*node),
        MarketEvent::NodeWithdrawn { .. }
        | MarketEvent::Withdrawn { .. }
        | MarketEvent::JobPosted { .. }
        | MarketEvent::SeatClaimed { .. }
        | MarketEvent::Committed { .. }
        | MarketEvent::Revealed { .. }
        | MarketEvent::ResultPublished { .. }
        | MarketEvent::RoundOpened { .. }
        | MarketEvent::PhaseChanged { .. }
        | MarketEvent::JobDecided { .. }
        | MarketEvent::SeatFinished { .. }
        | MarketEvent::Refunded { .. }
        | MarketEvent::Burnt { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::ClassId;

    const ESCROW: Address = Address::repeat_byte(9);
    const NODE: NodeIndex = NodeIndex(1);

    fn registered() -> BTreeMap<NodeIndex, NodeEntry> {
        let mut nodes = BTreeMap::new();
        let account = Address::repeat_byte(1);
        let event = MarketEvent::NodeRegistered {
            node: NODE,
            account,
            worker: account,
            payout: account,
        };
        assert_eq!(apply(&mut nodes, &event, ESCROW), Some(NODE));
        nodes
    }

    #[test]
    fn a_seizure_takes_stake_and_cap() {
        let mut nodes = registered();
        let gwei = Amount::from_gwei;
        for event in [
            MarketEvent::StakeAdded {
                node: NODE,
                amount: gwei(100),
                stake: gwei(100),
            },
            MarketEvent::OptedIn {
                node: NODE,
                escrow: ESCROW,
                cap: gwei(60),
                classes: vec![ClassId([0; 32])],
            },
            MarketEvent::Seized {
                node: NODE,
                escrow: ESCROW,
                burnt: gwei(9),
                tip: gwei(1),
            },
        ] {
            assert_eq!(apply(&mut nodes, &event, ESCROW), Some(NODE));
        }
        assert_eq!((nodes[&NODE].stake, nodes[&NODE].cap), (gwei(90), gwei(50)));
    }

    #[test]
    fn another_escrow_changes_nothing_here() {
        let mut nodes = registered();
        let cap = Amount::from_gwei(5);
        let event = MarketEvent::OptedIn {
            node: NODE,
            escrow: Address::ZERO,
            cap,
            classes: Vec::new(),
        };
        assert_eq!(apply(&mut nodes, &event, ESCROW), None);
        assert_eq!(nodes[&NODE].cap, Amount::ZERO);
    }
}

//! The registry as the escrow sees it: stake, cap, exit, seizure. One escrow, so a node's reserve is cap plus leaving.

use std::collections::BTreeSet;

use sandrun_types::{Address, ClassId, NodeIndex, U256, UnixSeconds};

use super::{Escrow, Moment, Refusal};
use crate::market::MarketEvent;
use crate::market::rules::Stake;

/// A node's stake and standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Owner of the stake.
    pub account: Address,
    /// Hot key.
    pub worker: Address,
    /// Where earnings go.
    pub payout: Address,
    /// Everything deposited and not taken out.
    pub stake: Stake,
    /// Stake that the escrow may lock and that wins seats.
    pub cap: Stake,
    /// Stake on its way out: seizable, wins nothing.
    pub leaving: Stake,
    /// When it can be released.
    pub leave_at: UnixSeconds,
    /// Locked in bonds of unfinished seats.
    pub locked: Stake,
    /// Units count only for rounds opened after this time.
    pub since: UnixSeconds,
    /// Classes served.
    pub classes: BTreeSet<ClassId>,
    /// Consecutive valid answers.
    pub reputation: u16,
}

impl NodeRecord {
    /// Stake that can still be locked.
    pub fn free(&self) -> Stake {
        self.cap.saturating_sub(self.locked)
    }

    /// Whole units of stake that win seats.
    pub fn units(&self, unit: Stake) -> u32 {
        let unit = unit.0.0.max(U256::from(1u8));
        (self.cap.0.0 / unit).saturating_to()
    }
}

impl Escrow {
    pub(super) fn register(
        &mut self,
        caller: Address,
        worker: Address,
        payout: Address,
        stake: Stake,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        for known in self.nodes.values() {
            if known.account == caller || known.worker == worker {
                let key = if known.account == caller { caller } else { worker };
                return Err(Refusal::AlreadyRegistered { key });
            }
        }
        let index = self
            .nodes
            .keys()
            .next_back()
            .map_or(1, |last| last.0.saturating_add(1));
        let node = NodeIndex(index);
        let record = NodeRecord {
            account: caller,
            worker,
            payout,
            stake: Stake::ZERO,
            cap: Stake::ZERO,
            leaving: Stake::ZERO,
            leave_at: UnixSeconds(0),
            locked: Stake::ZERO,
            since: UnixSeconds(0),
            classes: BTreeSet::new(),
            reputation: 0,
        };
        self.nodes.insert(node, record);
        effects.push(MarketEvent::NodeRegistered {
            node,
            account: caller,
            worker,
            payout,
        });
        self.add_stake(node, stake, effects)
    }

    pub(super) fn add_stake(
        &mut self,
        node: NodeIndex,
        stake: Stake,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let record = self.node_mut(node)?;
        record.stake = record.stake.saturating_add(stake);
        effects.push(MarketEvent::StakeAdded {
            node,
            amount: stake.0,
            stake: record.stake.0,
        });
        self.ledger.stake_deposited = self.ledger.stake_deposited.saturating_add(stake);
        Ok(())
    }

    pub(super) fn opt_in(
        &mut self,
        at: Moment,
        caller: Address,
        node: NodeIndex,
        cap: Stake,
        classes: Vec<ClassId>,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let escrow = self.here.escrow;
        let record = self.owned(node, caller)?;
        let available = record.stake.saturating_sub(record.leaving);
        if cap < record.cap || cap > available {
            return Err(Refusal::NotEnoughStake {
                wanted: cap,
                available,
            });
        }
        record.cap = cap;
        record.since = at.now;
        record.classes = classes.iter().copied().collect();
        effects.push(MarketEvent::OptedIn {
            node,
            escrow,
            cap: cap.0,
            classes,
        });
        Ok(())
    }

    pub(super) fn leave(
        &mut self,
        at: Moment,
        caller: Address,
        node: NodeIndex,
        stake: Stake,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let (escrow, delay) = (self.here.escrow, self.parameters.exit_delay);
        let record = self.owned(node, caller)?;
        if !record.leaving.is_zero() {
            return Err(Refusal::ExitPending {
                leave_at: record.leave_at,
            });
        }
        let not_enough = Refusal::NotEnoughStake {
            wanted: stake,
            available: record.cap,
        };
        record.cap = record.cap.checked_sub(stake).ok_or(not_enough)?;
        record.leaving = stake;
        record.leave_at = at.now.plus(delay);
        effects.push(MarketEvent::Leaving {
            node,
            escrow,
            amount: stake.0,
            leave_at: record.leave_at,
        });
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        at: Moment,
        node: NodeIndex,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let escrow = self.here.escrow;
        let record = self.node_mut(node)?;
        if record.leaving.is_zero() {
            return Err(Refusal::NothingToWithdraw);
        }
        if at.now < record.leave_at {
            return Err(Refusal::ExitNotDue {
                leave_at: record.leave_at,
            });
        }
        if record.locked > record.cap {
            return Err(Refusal::BondsLocked {
                locked: record.locked,
                cap: record.cap,
            });
        }
        let amount = std::mem::take(&mut record.leaving).0;
        effects.push(MarketEvent::Released { node, escrow, amount });
        Ok(())
    }

    pub(super) fn withdraw_stake(
        &mut self,
        caller: Address,
        node: NodeIndex,
        stake: Stake,
        to: Address,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let record = self.owned(node, caller)?;
        let available = record
            .stake
            .saturating_sub(record.cap.saturating_add(record.leaving));
        if stake > available {
            return Err(Refusal::NotEnoughStake {
                wanted: stake,
                available,
            });
        }
        record.stake = record.stake.saturating_sub(stake);
        effects.push(MarketEvent::StakeWithdrawn {
            node,
            to,
            amount: stake.0,
        });
        self.ledger.stake_withdrawn = self.ledger.stake_withdrawn.saturating_add(stake);
        Ok(())
    }

    /// Takes `slash` from a node's stake: first from what wins seats, then from what is leaving. `tip` goes to `caller`.
    pub(super) fn seize(
        &mut self,
        node: NodeIndex,
        slash: Stake,
        tip: Stake,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let escrow = self.here.escrow;
        let record = self.node_mut(node)?;
        let from_cap = slash.min(record.cap);
        record.cap = record.cap.saturating_sub(from_cap);
        record.leaving = record.leaving.saturating_sub(slash.saturating_sub(from_cap));
        record.stake = record.stake.saturating_sub(slash);
        let burnt = slash.saturating_sub(tip);
        effects.push(MarketEvent::Seized {
            node,
            escrow,
            burnt: burnt.0,
            tip: tip.0,
        });
        self.ledger.stake_burnt = self.ledger.stake_burnt.saturating_add(burnt);
        self.ledger.tips = self.ledger.tips.saturating_add(tip);
        Ok(())
    }

    /// U: whole units of all nodes.
    pub(super) fn active_units(&self) -> u32 {
        self.nodes
            .values()
            .map(|node| node.units(self.parameters.unit))
            .fold(0, u32::saturating_add)
    }

    fn owned(&mut self, node: NodeIndex, caller: Address) -> Result<&mut NodeRecord, Refusal> {
        let record = self.node_mut(node)?;
        if record.account == caller {
            Ok(record)
        } else {
            Err(Refusal::NotAccount { node, caller })
        }
    }
}

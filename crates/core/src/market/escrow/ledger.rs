//! Balances and the totals that conservation is checked against. docs/protocol.md, "Money".

use std::collections::BTreeMap;

use sandrun_types::{Address, NodeIndex, Token};

use super::{Escrow, Refusal};
use crate::market::MarketEvent;
use crate::market::rules::{Payment, Stake};

/// What came in, what is owed, what went out, what was burnt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Credited to accounts.
    pub balances: BTreeMap<(Token, Address), Payment>,
    /// Credited to nodes.
    pub earnings: BTreeMap<(Token, NodeIndex), Payment>,
    /// Posted with orders, in all.
    pub deposited: BTreeMap<Token, Payment>,
    /// Paid out, in all.
    pub withdrawn: BTreeMap<Token, Payment>,
    /// Burnt by cancels, in all.
    pub burnt: BTreeMap<Token, Payment>,
    /// Deposited by nodes, in all.
    pub stake_deposited: Stake,
    /// Taken out by nodes, in all.
    pub stake_withdrawn: Stake,
    /// Burnt by slashes, in all.
    pub stake_burnt: Stake,
    /// Tips: stake that became native balances of callers, in all.
    pub tips: Stake,
}

/// Adds to one of a ledger's entries.
pub(super) fn add<K: Ord>(entries: &mut BTreeMap<K, Payment>, key: K, amount: Payment) {
    let entry = entries.entry(key).or_default();
    *entry = entry.saturating_add(amount);
}

impl Escrow {
    /// What an account may withdraw.
    pub fn balance_of(&self, token: Token, owner: Address) -> Payment {
        self.ledger
            .balances
            .get(&(token, owner))
            .copied()
            .unwrap_or_default()
    }

    /// What a node has earned and not taken out.
    pub fn earned(&self, token: Token, node: NodeIndex) -> Payment {
        self.ledger
            .earnings
            .get(&(token, node))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn withdraw(
        &mut self,
        owner: Address,
        token: Token,
        to: Address,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let taken = self
            .ledger
            .balances
            .remove(&(token, owner))
            .filter(|amount| !amount.is_zero());
        let amount = taken.ok_or(Refusal::NothingToWithdraw)?;
        add(&mut self.ledger.withdrawn, token, amount);
        effects.push(MarketEvent::Withdrawn {
            owner,
            token,
            to,
            amount: amount.0,
        });
        Ok(())
    }

    pub(super) fn withdraw_node(
        &mut self,
        caller: Address,
        node: NodeIndex,
        token: Token,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let record = self.node_mut(node)?;
        let to = record.payout;
        if ![record.account, record.worker, record.payout].contains(&caller) {
            return Err(Refusal::NotWorker { node, caller });
        }
        let taken = self
            .ledger
            .earnings
            .remove(&(token, node))
            .filter(|amount| !amount.is_zero());
        let amount = taken.ok_or(Refusal::NothingToWithdraw)?;
        add(&mut self.ledger.withdrawn, token, amount);
        effects.push(MarketEvent::NodeWithdrawn {
            node,
            token,
            to,
            amount: amount.0,
        });
        Ok(())
    }
}

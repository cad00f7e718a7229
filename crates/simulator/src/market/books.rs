//! The market's money as its events tell it, kept apart from the model's own ledger. After every transaction both have
//! to say the same, and nothing may be paid twice or out of nothing.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::market::MarketEvent;
use sandrun_core::market::escrow::Escrow;
use sandrun_core::market::rules::{Payment, Stake};
use sandrun_types::{Address, Amount, JobId, NodeIndex, SeatIndex, Token};

use crate::violation::{Violation, ensure};

/// Money by whose it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    /// What each job still has.
    locked: BTreeMap<JobId, (Token, Amount)>,
    finished: BTreeSet<(JobId, SeatIndex)>,
    refunded: BTreeSet<JobId>,
    earnings: BTreeMap<(Token, NodeIndex), Amount>,
    balances: BTreeMap<Token, Amount>,
    stakes: BTreeMap<NodeIndex, Amount>,
}

impl Books {
    /// The books of a deployment on which nothing but registrations has happened.
    pub(crate) fn of(escrow: &Escrow) -> Self {
        Self {
            stakes: escrow.nodes().map(|(node, it)| (node, it.stake.0)).collect(),
            ..Self::default()
        }
    }

    /// Takes in one event.
    pub(crate) fn take(&mut self, event: &MarketEvent) -> Result<(), Violation> {
        if let MarketEvent::JobPosted { job, order, .. } = event {
            let sum = order.locked_sum().unwrap_or_default();
            let known = self.locked.insert(*job, (order.token, sum));
            ensure(known.is_none(), || format!("job {job} was posted twice"))?;
        } else if let MarketEvent::SeatFinished {
            job,
            node,
            seat,
            paid,
            ..
        } = event
        {
            ensure(self.finished.insert((*job, *seat)), || {
                format!("seat {seat} of job {job} was paid twice")
            })?;
            let token = self.take_out(*job, *paid)?;
            give(&mut self.earnings, (token, *node), *paid);
        } else if let MarketEvent::Refunded { job, amount, .. } = event {
            ensure(self.refunded.insert(*job), || {
                format!("job {job} was refunded twice")
            })?;
            let token = self.take_out(*job, *amount)?;
            let left = self.locked.get(job).map_or(Amount::ZERO, |it| it.1);
            ensure(left.is_zero(), || {
                format!("{left} base units of job {job} stay behind after its refund")
            })?;
            give(&mut self.balances, token, *amount);
        } else if let MarketEvent::Burnt { job, amount } = event {
            self.take_out(*job, *amount)?;
        } else if let MarketEvent::Withdrawn { token, amount, .. } = event {
            take(&mut self.balances, *token, *amount)
                .ok_or_else(|| Violation::new(format!("{amount} of {token} were paid out of nothing")))?;
        } else if let MarketEvent::NodeWithdrawn {
            node, token, amount, ..
        } = event
        {
            take(&mut self.earnings, (*token, *node), *amount)
                .ok_or_else(|| Violation::new(format!("node {node} took out more than it earned")))?;
        } else if let MarketEvent::StakeAdded { node, amount, .. } = event {
            give(&mut self.stakes, *node, *amount);
        } else if let MarketEvent::Seized { node, burnt, tip, .. } = event {
            let all = burnt.checked_add(*tip).unwrap_or_default();
            take(&mut self.stakes, *node, all)
                .ok_or_else(|| Violation::new(format!("more was seized of node {node} than it has")))?;
            give(&mut self.balances, Token::Native, *tip);
        } else if let MarketEvent::StakeWithdrawn { node, amount, .. } = event {
            take(&mut self.stakes, *node, *amount)
                .ok_or_else(|| Violation::new(format!("node {node} took out more stake than it has")))?;
        }
        Ok(())
    }

    fn take_out(&mut self, job: JobId, amount: Amount) -> Result<Token, Violation> {
        let (token, left) = self
            .locked
            .get_mut(&job)
            .ok_or_else(|| Violation::new(format!("job {job} pays and was never posted")))?;
        *left = left
            .checked_sub(amount)
            .ok_or_else(|| Violation::new(format!("job {job} pays {amount} and has {left}")))?;
        Ok(*token)
    }

    /// Holds the model's own state against the books.
    pub(crate) fn compare(&self, escrow: &Escrow) -> Result<(), Violation> {
        escrow.sanity_check().map_err(Violation::new)?;
        for (job, record) in escrow.jobs() {
            let left = self.locked.get(&job).map(|it| it.1);
            ensure(left == Some(record.remaining.0), || {
                format!("job {job} has {:?}, its events say {left:?}", record.remaining)
            })?;
        }
        for (node, record) in escrow.nodes() {
            let stake = self.stakes.get(&node).copied().unwrap_or_default();
            ensure(Stake(stake) == record.stake, || {
                format!(
                    "node {node} has a stake of {:?}, its events say {stake}",
                    record.stake
                )
            })?;
        }
        let ledger = escrow.ledger();
        for ((token, node), amount) in &ledger.earnings {
            let mine = self.earnings.get(&(*token, *node)).copied().unwrap_or_default();
            ensure(Payment(mine) == *amount, || {
                format!("node {node} has {amount:?}, its events say {mine}")
            })?;
        }
        for (token, mine) in &self.balances {
            let its = ledger.balances.iter().filter(|((of, _), _)| of == token);
            let sum = its.fold(Payment::ZERO, |sum, (_, it)| sum.saturating_add(*it));
            ensure(Payment(*mine) == sum, || {
                format!("balances of {token} are {sum:?}, the events say {mine}")
            })?;
        }
        Ok(())
    }

    /// Money of jobs, nodes and accounts that is still inside.
    pub(crate) fn inside(&self) -> Amount {
        let jobs = self.locked.values().map(|it| it.1);
        let all = jobs
            .chain(self.earnings.values().copied())
            .chain(self.balances.values().copied());
        all.fold(Amount::ZERO, |sum, it| sum.checked_add(it).unwrap_or_default())
    }

    /// Which nodes could take out something, and of what.
    pub(crate) fn earned(&self) -> impl Iterator<Item = (Token, NodeIndex)> {
        let some = self.earnings.iter().filter(|(_, amount)| !amount.is_zero());
        some.map(|(key, _)| *key)
    }
}

fn give<K: Ord>(entries: &mut BTreeMap<K, Amount>, key: K, amount: Amount) {
    let entry = entries.entry(key).or_default();
    *entry = entry.checked_add(amount).unwrap_or_default();
}

fn take<K: Ord>(entries: &mut BTreeMap<K, Amount>, key: K, amount: Amount) -> Option<()> {
    let entry = entries.entry(key).or_default();
    *entry = entry.checked_sub(amount)?;
    Some(())
}

/// Whose balances a deployment holds.
pub(crate) fn owners(escrow: &Escrow) -> Vec<(Token, Address)> {
    let balances = escrow.ledger().balances.iter();
    balances
        .filter(|(_, amount)| !amount.is_zero())
        .map(|(key, _)| *key)
        .collect()
}

//! Posting, cancelling, refunding. docs/protocol.md, "Terms", "Cancel", "Refund".

use std::collections::BTreeSet;

use sandrun_types::{Address, Amount, B256, JobId, Order, Redundancy, U256, UnixSeconds};

use super::ledger::add;
use super::{Escrow, JobRecord, Moment, Refusal, TokenTerms};
use crate::market::rules::{Payment, Progress, Resolution, Stake, Terms, seed_block};
use crate::market::{MarketEvent, Outcome, Phase};

/// Bonds are multiples of this, wei.
const BOND_GRANULE: u64 = 1_000_000_000_000;

impl Escrow {
    pub(super) fn post(
        &mut self,
        at: Moment,
        caller: Address,
        order: &Order,
        sent: Payment,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let terms = self.check(order)?;
        let due = order
            .locked_sum()
            .map(Payment)
            .ok_or(Refusal::BadOrder { field: "price" })?;
        if order.payer != caller {
            return Err(Refusal::NotPayer { caller });
        }
        if sent != due {
            return Err(Refusal::WrongPayment { sent, due });
        }
        let job = order.job_id(self.here);
        if self.jobs.contains_key(&job) {
            return Err(Refusal::AlreadyPosted { job });
        }
        let units = self.active_units();
        let deadline = at.now.plus(self.parameters.windows.seat);
        let record = JobRecord {
            order: order.clone(),
            terms,
            progress: Progress::posted(order.redundancy, order.wall_limit, deadline),
            holders: Vec::new(),
            posted_at: at.now,
            opened_block: at.block,
            units,
            seed: None,
            run_start: UnixSeconds(0),
            published: BTreeSet::new(),
            remaining: due,
        };
        self.jobs.insert(job, record);
        add(&mut self.ledger.deposited, order.token, due);
        effects.push(MarketEvent::JobPosted {
            job,
            client: order.client,
            order: Box::new(order.clone()),
            deadline,
            units,
        });
        Ok(())
    }

    fn check(&self, order: &Order) -> Result<Terms, Refusal> {
        let token = self
            .tokens
            .get(&order.token)
            .ok_or(Refusal::UnknownToken { token: order.token })?;
        let kind = order.class.kind().ok_or(Refusal::BadOrder { field: "classId" })?;
        if order.wall_limit == 0 || order.wall_limit > self.parameters.max_wall {
            return Err(Refusal::BadOrder { field: "wallLimit" });
        }
        let terms = Terms {
            redundancy: order.redundancy,
            kind,
            price: Payment(order.price),
            bond: Stake(order.bond),
            fee: token.attempt_fee,
            granule: token.granule,
        };
        check_money(&terms, token)?;
        Ok(terms)
    }

    pub(super) fn cancel(
        &mut self,
        at: Moment,
        caller: Address,
        job: JobId,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        if self.job_mut(job)?.order.client != caller {
            return Err(Refusal::NotClient { caller });
        }
        self.advance(at, None, job, effects)?;
        let record = self.job_mut(job)?;
        if record.progress.phase != Phase::Seats || !record.holders.is_empty() {
            return Err(Refusal::TooLateToCancel { job });
        }
        let free = record.seed.is_none() && at.block <= seed_block(record.opened_block, at.block);
        let burnt = if free {
            Payment::ZERO
        } else {
            record.terms.fee.min(record.remaining)
        };
        record.remaining = record.remaining.saturating_sub(burnt);
        record.progress.resolution = Some(Resolution::Cancelled);
        record.progress.phase = Phase::Closed;
        record.progress.deadline = UnixSeconds(0);
        let token = record.order.token;
        let closed = MarketEvent::PhaseChanged {
            job,
            phase: Phase::Closed,
            deadline: UnixSeconds(0),
        };
        effects.push(MarketEvent::JobDecided {
            job,
            outcome: Outcome::Cancelled,
            answer: B256::ZERO,
        });
        effects.push(closed);
        if !burnt.is_zero() {
            add(&mut self.ledger.burnt, token, burnt);
            effects.push(MarketEvent::Burnt { job, amount: burnt.0 });
        }
        self.credit_rest(job, effects)
    }

    pub(super) fn refund(
        &mut self,
        at: Moment,
        job: JobId,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        self.advance(at, None, job, effects)?;
        let record = self.job_mut(job)?;
        if record.progress.phase != Phase::Closed {
            return Err(Refusal::NotClosed { job });
        }
        if record.remaining.is_zero() {
            return Err(Refusal::NothingDue { job });
        }
        self.credit_rest(job, effects)
    }

    fn credit_rest(&mut self, job: JobId, effects: &mut Vec<MarketEvent>) -> Result<(), Refusal> {
        let record = self.job_mut(job)?;
        let amount = std::mem::take(&mut record.remaining);
        let (token, payer) = (record.order.token, record.order.payer);
        add(&mut self.ledger.balances, (token, payer), amount);
        effects.push(MarketEvent::Refunded {
            job,
            payer,
            amount: amount.0,
        });
        Ok(())
    }
}

fn check_money(terms: &Terms, token: &TokenTerms) -> Result<(), Refusal> {
    let Terms { price, bond, .. } = *terms;
    if price < token.min_price {
        return Err(Refusal::PriceTooLow {
            price,
            minimum: token.min_price,
        });
    }
    if terms.redundancy == Redundancy::One && price > token.max_single_price {
        return Err(Refusal::PriceTooHigh {
            price,
            maximum: token.max_single_price,
        });
    }
    if price.round_down(token.granule) != price {
        return Err(Refusal::BadOrder { field: "price" });
    }
    if !(bond.0.0 % U256::from(BOND_GRANULE)).is_zero() {
        return Err(Refusal::BadOrder { field: "bond" });
    }
    let coin = U256::from(10u8).pow(U256::from(Amount::COIN_DECIMALS));
    let minimum = Stake(Amount(price.0.0.saturating_mul(token.bond_per_price.0.0) / coin));
    if bond < minimum || bond == Stake::ZERO {
        return Err(Refusal::BondTooLow { bond, minimum });
    }
    Ok(())
}

//! Which jobs the node wants, and when its ticket wins: [`judge`] and the lottery, asked with fresh figures.

use sandrun_core::seat::{Event, Objection, Standing, State, judge};
use sandrun_types::{Amount, JobId, Manifest, U256};
use tracing::{debug, info};

use super::survey::{Lottery, Survey};
use super::{Agent, tracked::Tracked};
use crate::error::AgentError;
use crate::tickets::BestTicket;

/// Gas of claim, commit and reveal together, rounded up.
pub(super) const GAS_PER_SEAT: u64 = 300_000;

/// Part of a bond that silence costs at least, in per cent.
const SILENCE_COSTS: u64 = 30;

/// Wei per gas up to which commit and reveal are worth sending for the bond that they save.
pub(super) fn worth_per_gas(bond: Amount) -> u128 {
    let saved = bond.0.saturating_mul(U256::from(SILENCE_COSTS)) / U256::from(100);
    u128::try_from(saved / U256::from(GAS_PER_SEAT)).unwrap_or(u128::MAX)
}

impl Agent {
    /// Looks at every job that is not decided upon, with the newest survey.
    pub(super) fn consider_all(&mut self) -> Result<(), AgentError> {
        let undecided: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, tracked)| tracked.is_undecided())
            .map(|(job, _)| *job)
            .collect();
        for job in undecided {
            self.consider(job)?;
            self.try_ticket(job)?;
        }
        Ok(())
    }

    /// Asks whether the job is wanted now, and tells its machine if that has changed.
    fn consider(&mut self, job: JobId) -> Result<(), AgentError> {
        let now = self.now();
        let Some(survey) = &self.survey else { return Ok(()) };
        let Some(tracked) = self.jobs.get(&job) else {
            return Ok(());
        };
        let Some(opening) = tracked.openings.last() else {
            return Ok(());
        };
        let verdict = judge(&tracked.order, opening.deadline, &self.standing(survey), now);
        if is_news(tracked.seat.state(), &verdict) {
            if let Err(objections) = &verdict {
                let reasons: Vec<String> = objections.iter().map(ToString::to_string).collect();
                info!(%job, reasons = reasons.join("; "), "not wanted");
            }
            self.feed(job, Event::Judged(verdict))?;
        }
        Ok(())
    }

    /// What the node can offer and risk at this moment.
    fn standing(&self, survey: &Survey) -> Standing {
        let node = &self.node;
        let escrow = &survey.record.escrow;
        let bonded = self
            .jobs
            .values()
            .filter(|tracked| tracked.seat.state().has_bond());
        // a claim that is not mined yet is not among the locked bonds
        let claiming = bonded
            .clone()
            .filter(|tracked| matches!(tracked.seat.state(), State::Claiming { .. }));
        let taken = claiming.fold(escrow.locked.0, |sum, tracked| {
            sum.saturating_add(tracked.order.bond.0)
        });
        let gas = U256::from(GAS_PER_SEAT).saturating_mul(U256::from(self.gas_price(survey)));
        Standing {
            accounts: [node.account, node.worker],
            halted: self.gate.fault(),
            avoided: self.gate.clients_to_avoid(node.config.strikes, self.now()),
            capabilities: node.capabilities.clone(),
            classes: survey
                .record
                .classes
                .iter()
                .filter(|class| node.classes.contains(class))
                .copied()
                .collect(),
            free_stake: Amount(escrow.cap.0.saturating_sub(taken)),
            reputation: escrow.reputation,
            minimum_prices: node.config.minimum_prices(),
            value_cap: node.config.value_cap,
            bond_cap: node.config.bond_cap.unwrap_or(escrow.cap),
            gas_cost: Amount(gas),
            gas_money: survey.gas_money,
            active_jobs: u32::try_from(bonded.count()).unwrap_or(u32::MAX),
            max_jobs: node.config.max_jobs,
            max_wall: Manifest::MAX_TIMEOUT,
            can_seal: false,
        }
    }

    /// Wei per gas that is likely to be paid: the head's base fee and the priority fee.
    pub(super) fn gas_price(&self, survey: &Survey) -> u128 {
        let base = self
            .seen
            .as_ref()
            .and_then(|seen| seen.head.base_fee)
            .map(u128::from);
        base.map_or(survey.fees.max_fee_per_gas, |base| {
            base.saturating_add(survey.fees.max_priority_fee_per_gas)
        })
    }

    /// Tells the machine of an accepted job when a ticket of ours wins.
    fn try_ticket(&mut self, job: JobId) -> Result<(), AgentError> {
        let Some(survey) = &self.survey else { return Ok(()) };
        let Some(lottery) = survey
            .lotteries
            .iter()
            .find(|(of, _)| *of == job)
            .map(|(_, it)| *it)
        else {
            return Ok(());
        };
        if let Some(reason) = &self.held_back {
            debug!(%job, %reason, "no seat is taken");
            return Ok(());
        }
        let units = units(survey, self.node.unit);
        let since = survey.record.escrow.since;
        let node = self.node.index;
        let Some(tracked) = self.jobs.get_mut(&job) else {
            return Ok(());
        };
        let Some(opening) = tracked
            .openings
            .last()
            .copied()
            .filter(|opening| opening.round == lottery.round)
        else {
            return Ok(());
        };
        if *tracked.seat.state() != State::Accepted {
            return Ok(());
        }
        if since >= opening.at {
            debug!(%job, stake = since.0, job_opened = opening.at.0, "no ticket: the stake is not older than the job");
            return Ok(());
        }
        let Some(ticket) = best(tracked, lottery, node, units) else {
            return Ok(());
        };
        if !ticket.wins(lottery.threshold) {
            debug!(%job, unit = ticket.unit, threshold = %lottery.threshold, "our ticket does not win yet");
            return Ok(());
        }
        self.feed(
            job,
            Event::Ticket {
                round: ticket.round,
                unit: ticket.unit,
            },
        )
    }
}

/// The job's best ticket, drawn once for each seed.
fn best(
    tracked: &mut Tracked,
    lottery: Lottery,
    node: sandrun_types::NodeIndex,
    units: u32,
) -> Option<BestTicket> {
    let known = tracked
        .ticket
        .filter(|it| it.seed == lottery.seed && it.round == lottery.round);
    tracked.ticket =
        known.or_else(|| BestTicket::draw(lottery.seed, tracked.seat.job(), lottery.round, node, units));
    tracked.ticket
}

/// Whole units of stake that take part in lotteries.
fn units(survey: &Survey, unit: Amount) -> u32 {
    let units = survey.record.escrow.cap.0.checked_div(unit.0).unwrap_or_default();
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// Whether a verdict tells a machine in this state something new.
fn is_news(state: &State, verdict: &Result<(), Vec<Objection>>) -> bool {
    match (state, verdict) {
        (State::Seen, _) => true,
        (State::Declined(known), Err(objections)) => known != objections,
        (State::Declined(_), Ok(())) => true,
        (State::Fetching | State::Accepted, verdict) => verdict.is_err(),
        (
            State::Recovering
            | State::Claiming { .. }
            | State::Seated(_)
            | State::Running { .. }
            | State::Answered { .. }
            | State::Committing { .. }
            | State::Committed { .. }
            | State::Revealing { .. }
            | State::Revealed { .. }
            | State::Missed(_)
            | State::Finished { .. }
            | State::Lost(_),
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_is_worth_the_gas_that_saves_it() {
        let coin = Amount::from_gwei(1_000_000_000);
        assert_eq!(worth_per_gas(coin), 1_000_000_000_000, "1,000 gwei for 0.3 coin");
        assert_eq!(worth_per_gas(Amount::ZERO), 0);
        assert_eq!(worth_per_gas(Amount(U256::MAX)), u128::MAX);
    }
}

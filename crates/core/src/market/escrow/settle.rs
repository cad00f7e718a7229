//! Making the steps of the table of transitions, and finishing seats. docs/protocol.md, "Phases", "What becomes of a
//! seat".

use sandrun_types::{Address, Answer, B256, JobId, SeatIndex, Token};

use super::ledger::add;
use super::{Escrow, Moment, Refusal};
use crate::market::rules::{
    Payment, Resolution, SettledSeat, Stake, Standing, Transition, Verdict, expiry_payment, next_step,
    tip_amount,
};
use crate::market::{MarketEvent, Outcome, SeatEnd};

impl Escrow {
    pub(super) fn poke(
        &mut self,
        at: Moment,
        caller: Address,
        job: JobId,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        self.advance(at, Some(caller), job, effects)?;
        if effects.is_empty() {
            Err(Refusal::NothingDue { job })
        } else {
            Ok(())
        }
    }

    /// Makes every step that is due. Slashes tip `tipped`; without it, silent seats of a job that was won stay for a poke.
    pub(super) fn advance(
        &mut self,
        at: Moment,
        tipped: Option<Address>,
        job: JobId,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let windows = self.parameters.windows;
        while let Some(step) = next_step(&self.job_mut(job)?.progress, at.now) {
            let silent = self.job_mut(job)?.progress.leaves_silent_seats();
            if step.transition == Transition::Close && silent && tipped.is_none() {
                break;
            }
            let units = self.active_units();
            let record = self.job_mut(job)?;
            record.progress.make(step, &windows);
            let (phase, deadline) = (record.progress.phase, record.progress.deadline);
            match step.transition {
                Transition::StartRun => record.run_start = step.at,
                Transition::OpenReveal => {}
                Transition::OpenExtraRound => {
                    record.opened_block = at.block;
                    record.units = units;
                    record.seed = None;
                    effects.push(MarketEvent::RoundOpened { job, deadline, units });
                    continue;
                }
                Transition::Decide(verdict) => {
                    effects.push(decided(job, verdict));
                    self.settle_revealed(job, tipped, effects)?;
                    continue;
                }
                Transition::Expire => {
                    effects.push(MarketEvent::JobDecided {
                        job,
                        outcome: Outcome::Expired,
                        answer: B256::ZERO,
                    });
                    self.release_seats(at, job, effects)?;
                }
                Transition::Close => self.finish_rest(job, tipped, effects)?,
            }
            effects.push(MarketEvent::PhaseChanged { job, phase, deadline });
        }
        Ok(())
    }

    /// Finishes the seats that had revealed when the job was decided.
    fn settle_revealed(
        &mut self,
        job: JobId,
        tipped: Option<Address>,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        for index in 0..self.job_mut(job)?.holders.len() {
            self.settle_seat(job, index, tipped, effects)?;
        }
        Ok(())
    }

    /// Finishes a seat of a job that was won, if it has revealed: its end is known. What an attempt is paid is known only
    /// when the job closes.
    pub(super) fn settle_seat(
        &mut self,
        job: JobId,
        index: usize,
        tipped: Option<Address>,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let record = self.job_mut(job)?;
        let Some(Resolution::Decided(verdict @ Verdict::Won(_))) = record.progress.resolution else {
            return Ok(());
        };
        let standing = record.progress.seats.get(index).map(|seat| seat.standing);
        let Some(Standing::Revealed(_) | Standing::Late(_)) = standing else {
            return Ok(());
        };
        let settlement = record.terms.settle(verdict, &record.progress.seats);
        match settlement.seats.get(index) {
            Some(settled) if settled.end != SeatEnd::AttemptFee => {
                self.finish(job, index, *settled, tipped, effects)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Fewer than q seats: bonds back, each claimant gets its claim's gas.
    fn release_seats(
        &mut self,
        at: Moment,
        job: JobId,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let claim_gas = self.parameters.claim_gas;
        let record = self.job_mut(job)?;
        let gas = match record.order.token {
            Token::Native => {
                Some(Payment(at.base_fee).saturating_mul(usize::try_from(claim_gas).unwrap_or(usize::MAX)))
            }
            Token::Erc20(_) => None,
        };
        let paid = expiry_payment(record.terms.fee, gas, record.terms.granule);
        let seats = record.holders.len();
        for index in 0..seats {
            let settled = SettledSeat {
                end: SeatEnd::Released,
                paid,
                slashed: Stake::ZERO,
            };
            self.finish(job, index, settled, None, effects)?;
        }
        Ok(())
    }

    /// Finishes every seat that is not finished yet, by the table.
    fn finish_rest(
        &mut self,
        job: JobId,
        tipped: Option<Address>,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let record = self.job_mut(job)?;
        let Some(Resolution::Decided(verdict)) = record.progress.resolution else {
            return Ok(());
        };
        let settlement = record.terms.settle(verdict, &record.progress.seats);
        for (index, settled) in settlement.seats.into_iter().enumerate() {
            self.finish(job, index, settled, tipped, effects)?;
        }
        Ok(())
    }

    /// Settles one seat's money, bond and reputation, once.
    fn finish(
        &mut self,
        job: JobId,
        index: usize,
        settled: SettledSeat,
        tipped: Option<Address>,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        let SettledSeat { end, paid, slashed } = settled;
        let tip_fixed = self.parameters.tip;
        let record = self.job_mut(job)?;
        let (token, bond, quorum) = (
            record.order.token,
            record.terms.bond,
            record.terms.redundancy.quorum(),
        );
        let winner = record
            .progress
            .resolution
            .and_then(Resolution::winner)
            .map(Standing::Revealed);
        let agreed = winner.is_some() && record.progress.seats.get(index).map(|it| it.standing) == winner;
        let Some(holder) = record.holders.get_mut(index).filter(|it| it.end.is_none()) else {
            return Ok(());
        };
        holder.end = Some(end);
        let (node, counts) = (holder.node, holder.counts);
        record.remaining = record.remaining.saturating_sub(paid);
        let keeper = self.node_mut(node)?;
        keeper.locked = keeper.locked.saturating_sub(bond);
        if end.is_slash() {
            keeper.reputation = 0;
        } else if agreed && counts && quorum >= 2 {
            keeper.reputation = keeper.reputation.saturating_add(1);
        }
        if !paid.is_zero() {
            add(&mut self.ledger.earnings, (token, node), paid);
        }
        if !slashed.is_zero() {
            let tip = tipped.map_or(Stake::ZERO, |_| tip_amount(tip_fixed, slashed));
            self.seize(node, slashed, tip, effects)?;
            if let Some(owner) = tipped.filter(|_| !tip.is_zero()) {
                add(&mut self.ledger.balances, (Token::Native, owner), Payment(tip.0));
            }
        }
        let seat = SeatIndex(u8::try_from(index).unwrap_or(u8::MAX));
        effects.push(MarketEvent::SeatFinished {
            job,
            node,
            seat,
            end,
            paid: paid.0,
            slashed: slashed.0,
        });
        Ok(())
    }
}

fn decided(job: JobId, verdict: Verdict) -> MarketEvent {
    let resolution = Resolution::Decided(verdict);
    let answer = resolution.winner().map_or(B256::ZERO, Answer::to_word);
    MarketEvent::JobDecided {
        job,
        outcome: resolution.outcome(),
        answer,
    }
}

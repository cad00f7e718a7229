//! Which jobs a node wants, and looking for a winning ticket: `core`'s judgement of what the node sees of itself.

use sandrun_core::market::escrow::JobRecord;
use sandrun_core::market::rules::threshold;
use sandrun_core::seat::{Event, Objection, Standing, State, StrikeRule, judge};
use sandrun_types::{Amount, Capabilities, ClassKind, JobId, Token, UnixSeconds, ticket};

use super::node::{Node, Process, Stop, Surroundings, Tracked};
use super::people;

/// Most seats at once.
const MOST_JOBS: u32 = 12;

impl Node {
    /// Judges what is undecided, and tells accepted jobs' machines of winning tickets.
    pub(crate) fn consider(&mut self, height: u64, around: &mut Surroundings<'_>) -> Result<(), Stop> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        let undecided = process
            .jobs
            .iter()
            .filter(|(_, it)| is_undecided(it.seat.state()));
        let undecided: Vec<JobId> = undecided.map(|(job, _)| *job).collect();
        if undecided.is_empty() {
            return Ok(());
        }
        let time = self.chain_time(around.now);
        let escrow = around.chain.after(height).escrow.clone();
        for job in undecided {
            let (Some(process), Some(mine)) = (&self.process, escrow.node(self.index)) else {
                return Ok(());
            };
            let (Some(tracked), Some(record)) = (process.jobs.get(&job), escrow.job(job)) else {
                continue;
            };
            let standing = self.standing(process, mine, time);
            let verdict = judge(&tracked.order, record.progress.deadline, &standing, time);
            if is_news(tracked.seat.state(), &verdict) {
                self.feed(job, Event::Judged(verdict), around)?;
            }
            // with little room on the disk no seat is taken
            if !self.disk.is_full(around.now) {
                self.draw(job, record, height, around)?;
            }
        }
        Ok(())
    }

    fn standing(
        &self,
        process: &Process,
        mine: &sandrun_core::market::escrow::NodeRecord,
        now: UnixSeconds,
    ) -> Standing {
        let bonded = process.jobs.values().filter(|it| it.seat.state().has_bond());
        let claiming = bonded
            .clone()
            .filter(|it| matches!(it.seat.state(), State::Claiming { .. }));
        let taken = claiming.fold(mine.locked.0.0, |sum, it| sum.saturating_add(it.order.bond.0));
        Standing {
            accounts: [people::account(self.index), people::worker(self.index)],
            halted: process.gate.fault(),
            avoided: process.gate.clients_to_avoid(StrikeRule::default(), now),
            capabilities: Capabilities::default(),
            classes: vec![people::class(ClassKind::Native), people::class(ClassKind::Det)],
            free_stake: Amount(mine.cap.0.0.saturating_sub(taken)),
            reputation: mine.reputation,
            minimum_prices: vec![(Token::Native, Amount::ZERO), (people::COIN, Amount::ZERO)],
            value_cap: Amount::from_gwei(u64::MAX),
            bond_cap: mine.cap.0,
            gas_cost: Amount::ZERO,
            gas_money: Amount::from_gwei(1),
            active_jobs: u32::try_from(bonded.count()).unwrap_or(u32::MAX),
            max_jobs: MOST_JOBS,
            max_wall: 90,
            can_seal: false,
        }
    }

    /// Looks for a winning ticket.
    fn draw(
        &mut self,
        job: JobId,
        record: &JobRecord,
        height: u64,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Stop> {
        let escrow = around.chain.after(height).escrow.clone();
        let (Some(process), Some(mine)) = (&self.process, escrow.node(self.index)) else {
            return Ok(());
        };
        let round = record.progress.round;
        let is_open = process.jobs.get(&job).is_some_and(|it: &Tracked| {
            let opening = it.openings.last().filter(|(of, _)| *of == round);
            *it.seat.state() == State::Accepted && opening.is_some_and(|(_, at)| mine.since < *at)
        });
        let next = height + 1;
        if !is_open || (record.seed.is_none() && next < record.opened_block + 2) {
            return Ok(());
        }
        let redundancy = record.progress.redundancy;
        let limit = threshold(redundancy, round, record.units, record.opened_block, next);
        let seed = record
            .seed
            .unwrap_or_else(|| around.chain.seed(&escrow, job, next));
        let units = mine.units(escrow.parameters().unit);
        let best = (0..units).min_by_key(|unit| ticket(seed, job, round.number(), self.index, *unit));
        match best {
            Some(unit) if ticket(seed, job, round.number(), self.index, unit) < limit => {
                self.feed(job, Event::Ticket { round, unit }, around)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether the operator's opinion of the job still matters.
const fn is_undecided(state: &State) -> bool {
    match state {
        State::Seen | State::Declined(_) | State::Fetching | State::Accepted => true,
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
        | State::Lost(_) => false,
    }
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

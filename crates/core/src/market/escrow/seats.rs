//! Taking seats and committing. docs/protocol.md, "Claim", "Seed", "Ticket", "Commit".

use sandrun_types::{Address, B256, Commitment, JobId, NodeIndex, SeatIndex, UnixSeconds, ticket};

use super::{Escrow, JobRecord, Moment, NodeRecord, Refusal, SeatHolder};
use crate::market::rules::{SeatRecord, Stake, Standing, counts_for_reputation, seed_block, threshold};
use crate::market::{MarketEvent, Phase};

impl Escrow {
    #[allow(clippy::too_many_arguments, reason = "the arguments are the call's")]
    pub(super) fn claim(
        &mut self,
        at: Moment,
        caller: Address,
        job: JobId,
        node: NodeIndex,
        unit: u32,
        seed: B256,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        self.advance(at, None, job, effects)?;
        let unit_size = self.parameters.unit;
        let holder = self.nodes.get_mut(&node).ok_or(Refusal::UnknownNode { node })?;
        let record = self.jobs.get_mut(&job).ok_or(Refusal::UnknownJob { job })?;
        if record.progress.phase != Phase::Seats {
            return Err(Refusal::WrongPhase {
                job,
                phase: record.progress.phase,
            });
        }
        if holder.worker != caller {
            return Err(Refusal::NotWorker { node, caller });
        }
        eligible(record, node, holder, unit, unit_size)?;
        draw(record, at, job, node, unit, seed)?;
        holder.locked = holder.locked.saturating_add(record.terms.bond);
        let progress = &mut record.progress;
        let seat = seat_index(progress.seats.len());
        progress.seats.push(SeatRecord {
            round: progress.round,
            standing: Standing::Uncommitted,
        });
        let (redundancy, round) = (progress.redundancy, progress.round);
        record.holders.push(SeatHolder {
            node,
            commitment: None,
            limit_allowed: false,
            counts: counts_for_reputation(redundancy, round, record.units, record.opened_block, at.block),
            end: None,
        });
        self.announce(at, job, effects, |deadline| MarketEvent::SeatClaimed {
            job,
            node,
            seat,
            deadline,
        })
    }

    pub(super) fn commit(
        &mut self,
        at: Moment,
        caller: Address,
        job: JobId,
        seat: SeatIndex,
        commitment: Commitment,
        effects: &mut Vec<MarketEvent>,
    ) -> Result<(), Refusal> {
        self.advance(at, None, job, effects)?;
        let record = self.jobs.get_mut(&job).ok_or(Refusal::UnknownJob { job })?;
        if record.progress.phase != Phase::Run {
            return Err(Refusal::WrongPhase {
                job,
                phase: record.progress.phase,
            });
        }
        let wall = u64::from(record.order.wall_limit);
        let (round, limit_from) = (
            record.progress.round,
            record.run_start.plus(wall.saturating_mul(2)),
        );
        let index = usize::from(seat.0);
        let (Some(holder), Some(state)) = (
            record.holders.get_mut(index),
            record.progress.seats.get_mut(index),
        ) else {
            return Err(Refusal::NoSuchSeat { job, seat });
        };
        let node = holder.node;
        if self.nodes.get(&node).is_none_or(|it| it.worker != caller) {
            return Err(Refusal::NotWorker { node, caller });
        }
        if state.round != round {
            return Err(Refusal::WindowOver {
                job,
                deadline: record.progress.deadline,
            });
        }
        if state.standing != Standing::Uncommitted {
            return Err(Refusal::AlreadyCommitted { job, seat });
        }
        state.standing = Standing::Committed;
        holder.commitment = Some(commitment);
        holder.limit_allowed = at.now > limit_from;
        self.announce(at, job, effects, |deadline| MarketEvent::Committed {
            job,
            node,
            seat,
            deadline,
        })
    }

    /// Emits an event that carries the deadline of the phase that the job is in after it, and what follows from it.
    fn announce(
        &mut self,
        at: Moment,
        job: JobId,
        effects: &mut Vec<MarketEvent>,
        event: impl FnOnce(UnixSeconds) -> MarketEvent,
    ) -> Result<(), Refusal> {
        let mut after = Vec::new();
        self.advance(at, None, job, &mut after)?;
        effects.push(event(self.job_mut(job)?.progress.deadline));
        effects.append(&mut after);
        Ok(())
    }
}

/// Whether `node` may take a seat, luck apart.
fn eligible(
    job: &JobRecord,
    node: NodeIndex,
    holder: &NodeRecord,
    unit: u32,
    unit_size: Stake,
) -> Result<(), Refusal> {
    let order = &job.order;
    let involved = [order.client, order.payer];
    let checks = [
        (holder.since < job.posted_at, "units"),
        (unit < holder.units(unit_size), "unit"),
        (holder.classes.contains(&order.class), "class"),
        (holder.free() >= job.terms.bond, "stake"),
        (holder.reputation >= order.min_reputation, "reputation"),
        (job.holders.iter().all(|it| it.node != node), "seat"),
        (
            !involved.contains(&holder.account) && !involved.contains(&holder.worker),
            "client",
        ),
    ];
    let failed = checks.iter().find(|(holds, _)| !holds);
    failed.map_or(Ok(()), |(_, why)| Err(Refusal::NotEligible { node, why }))
}

/// Records the seed if nobody did, and checks the ticket.
fn draw(
    record: &mut JobRecord,
    at: Moment,
    job: JobId,
    node: NodeIndex,
    unit: u32,
    seed: B256,
) -> Result<(), Refusal> {
    if record.seed.is_none() && at.block <= seed_block(record.opened_block, at.block) {
        return Err(Refusal::SeedNotReady { job });
    }
    let seed = *record.seed.get_or_insert(seed);
    let progress = &record.progress;
    let limit = threshold(
        progress.redundancy,
        progress.round,
        record.units,
        record.opened_block,
        at.block,
    );
    let drawn = ticket(seed, job, progress.round.number(), node, unit);
    if drawn < limit {
        Ok(())
    } else {
        Err(Refusal::NoTicket { job, unit })
    }
}

/// Seats are at most seven.
fn seat_index(index: usize) -> SeatIndex {
    SeatIndex(u8::try_from(index).unwrap_or(u8::MAX))
}

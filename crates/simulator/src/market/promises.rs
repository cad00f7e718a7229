//! What is promised to honest nodes: who comes back within the windows loses no bond. Looked at when the chain is so
//! deep that nothing takes the slash back.

use std::collections::BTreeMap;

use sandrun_core::market::{MarketEvent, Phase, Round, SeatEnd};
use sandrun_types::{JobId, NodeIndex, SeatIndex};

use crate::violation::{Violation, ensure};

use super::block::Block;
use super::chain::Chain;
use super::conduct::{Conduct, Program};
use super::health::Health;
use super::node::Node;
use super::people::START;

/// Seconds before a run window's deadline that suffice, with the wall limit on top: to start, fetch, and commit.
const FOR_A_RUN: u64 = 34;
/// Seconds before a reveal window's deadline that suffice.
const FOR_A_REVEAL: u64 = 40;

/// Looks at the seats that ended in a block which nothing takes back any more.
pub(crate) fn check_ends(
    block: &Block,
    chain: &Chain,
    nodes: &[Node],
    weather: &Health,
    programs: &BTreeMap<JobId, Program>,
) -> Result<u64, Violation> {
    let mut excused = 0;
    for event in &block.logs {
        let MarketEvent::SeatFinished {
            job, node, seat, end, ..
        } = event
        else {
            continue;
        };
        let Some(mine) = nodes.iter().find(|it| it.index == *node) else {
            continue;
        };
        let is_fair = programs.get(job).is_none_or(|it| it.is_fair());
        if !end.is_slash() || mine.conduct(*job) != Conduct::Honest || !is_fair {
            continue;
        }
        let Some((from, to)) = last_chance(chain, *job, *seat, *end) else {
            continue;
        };
        if mine.health.is_well(from, to) && weather.is_well(from, to) {
            return Err(lost_its_bond(*node, *job, *end, (from, to)));
        }
        excused += 1;
    }
    Ok(excused)
}

/// Nobody is paid for a reveal that came when its window was over.
pub(crate) fn check_reveals(block: &Block, chain: &Chain) -> Result<(), Violation> {
    let before = &chain.after(block.number.saturating_sub(1)).facts;
    for event in &block.logs {
        let MarketEvent::Revealed { job, node, .. } = event else {
            continue;
        };
        let Some((progress, _)) = before.get(job).map(|facts| facts.at(block.time)) else {
            continue;
        };
        let is_over = match progress.phase {
            Phase::Closed => true,
            Phase::Reveal => block.time > progress.deadline,
            Phase::Seats | Phase::Run => false,
        };
        let is_paid = block.logs.iter().any(|other| {
            matches!(other, MarketEvent::SeatFinished { job: of, node: who, end: SeatEnd::Paid, .. }
                if of == job && who == node)
        });
        ensure(!(is_over && is_paid), || {
            format!("node {node} is paid for a reveal in job {job} that came too late")
        })?;
    }
    Ok(())
}

fn lost_its_bond(node: NodeIndex, job: JobId, end: SeatEnd, (from, to): (u64, u64)) -> Violation {
    Violation::new(format!(
        "node {node} is honest, was well from second {from} to {to}, and lost its bond in job {job}: {end:?}"
    ))
}

/// The seconds in which the seat could have been saved.
fn last_chance(chain: &Chain, job: JobId, seat: SeatIndex, end: SeatEnd) -> Option<(u64, u64)> {
    let facts = chain.tip().facts.get(&job)?;
    let round = facts.seats.get(usize::from(seat.0))?.round;
    let windows = windows_of(chain, job);
    let (deadline, needed) = match end {
        SeatEnd::SlashedUncommitted | SeatEnd::SlashedWrong => {
            let wall = u64::from(facts.order.wall_limit);
            (*windows.get(&(round, Phase::Run))?, FOR_A_RUN + wall)
        }
        SeatEnd::SlashedUnrevealed | SeatEnd::SlashedLate => {
            let own = windows.get(&(round, Phase::Reveal));
            let later = own.or_else(|| windows.get(&(Round::Extra, Phase::Reveal)));
            (*later?, FOR_A_REVEAL)
        }
        SeatEnd::Released | SeatEnd::Paid | SeatEnd::AttemptFee | SeatEnd::Shared | SeatEnd::Unpaid => {
            return None;
        }
    };
    let deadline = deadline.checked_sub(START)?;
    Some((deadline.saturating_sub(needed), deadline))
}

/// The deadlines of a job's windows, as its events tell them.
fn windows_of(chain: &Chain, job: JobId) -> BTreeMap<(Round, Phase), u64> {
    let mut windows = BTreeMap::new();
    let mut round = Round::First;
    for number in 1..=chain.height() {
        let Some(block) = chain.block(number) else { break };
        for event in block.logs.iter().filter(|event| event.job() == Some(job)) {
            if let MarketEvent::RoundOpened { deadline, .. } = event {
                round = Round::Extra;
                windows.insert((round, Phase::Seats), deadline.0);
            } else if let MarketEvent::PhaseChanged { phase, deadline, .. } = event {
                windows.insert((round, *phase), deadline.0);
            }
        }
    }
    windows
}

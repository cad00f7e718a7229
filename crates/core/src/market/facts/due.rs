//! What a keeper should do for a job now.

use sandrun_types::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::JobFacts;
use crate::market::Phase;
use crate::market::rules::Transition;

/// Something that anyone may do and that nobody's own step brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// Send `poke`: it makes these transitions, in this order.
    Poke(Vec<Transition>),
    /// Send `refund`: the job is closed and something is left.
    Refund,
}

/// What is due for `facts` at `now`. A run or a reveal window that only has to be noticed is not: the next commit or
/// reveal does that by itself.
pub fn due(facts: &JobFacts, now: UnixSeconds) -> Option<Due> {
    let (progress, pending) = facts.at(now);
    if pending.iter().any(|it| !it.comes_by_itself()) {
        return Some(Due::Poke(pending));
    }
    (progress.phase == Phase::Closed && !facts.remaining().is_zero()).then_some(Due::Refund)
}

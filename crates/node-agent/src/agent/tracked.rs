//! What the agent keeps for one job beside its machine. Plain data.

use std::sync::Arc;

use sandrun_core::market::Round;
use sandrun_core::seat::{Loss, Seat, State};
use sandrun_types::{Attempt, Order, UnixSeconds};
use tokio::task::AbortHandle;

use crate::bundle::Bundle;
use crate::tickets::BestTicket;

/// A seat phase as its opening event tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) round: Round,
    /// When it was opened: units of stake have to be older.
    pub(super) at: UnixSeconds,
    /// Its end.
    pub(super) deadline: UnixSeconds,
}

/// One job.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) order: Order,
    pub(super) seat: Seat,
    /// Block of its posting.
    pub(super) posted: u64,
    /// Its seat phases so far, the present one last.
    pub(super) openings: Vec<Opening>,
    /// The bundle, while it is held.
    pub(super) bundle: Option<Arc<Bundle>>,
    /// What was said last of a bundle that is not held.
    pub(super) trouble: Trouble,
    /// The best ticket, once the seed of the present round is known.
    pub(super) ticket: Option<BestTicket>,
    /// The run under way.
    pub(super) run: Option<(Attempt, AbortHandle)>,
    /// Head at which nothing was left to do for the first time.
    pub(super) over_since: Option<u64>,
}

/// What was complained of last: said once, however often it comes again.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<String>);

impl Trouble {
    /// Whether this was not said last; it counts as said now.
    pub(super) fn is_news(&mut self, text: &str) -> bool {
        let is_news = self.0.as_deref() != Some(text);
        self.0 = Some(text.to_owned());
        is_news
    }

    /// All is well again.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

impl Tracked {
    /// Whether the machine has nothing left to do unless the chain takes something back.
    pub(super) fn is_over(&self) -> bool {
        match self.seat.state() {
            State::Finished { .. } | State::Lost(Loss::Over(_) | Loss::Unposted) => true,
            State::Lost(Loss::NoSeats | Loss::BadBundle)
            | State::Recovering
            | State::Seen
            | State::Declined(_)
            | State::Fetching
            | State::Accepted
            | State::Claiming { .. }
            | State::Seated(_)
            | State::Running { .. }
            | State::Answered { .. }
            | State::Committing { .. }
            | State::Committed { .. }
            | State::Revealing { .. }
            | State::Revealed { .. }
            | State::Missed(_) => false,
        }
    }

    /// Whether the operator's opinion of the job still matters.
    pub(super) fn is_undecided(&self) -> bool {
        match self.seat.state() {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_said_once_until_it_changes() {
        let mut trouble = Trouble::default();
        assert!(trouble.is_news("nobody serves it"));
        assert!(!trouble.is_news("nobody serves it"));
        assert!(trouble.is_news("the disk is full"));
        trouble.clear();
        assert!(trouble.is_news("the disk is full"));
    }
}

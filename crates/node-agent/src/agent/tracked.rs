//! What the agent keeps for one job beside its machine. Plain data.

use std::sync::Arc;

use sandrun_core::market::Round;
use sandrun_core::seat::{Loss, Seat, State};
use sandrun_types::{Attempt, JobId, NodeIndex, Order, UnixSeconds};
use tokio::task::AbortHandle;
use tracing::{Span, error_span};

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
    /// Whether the bundle is on its way, and whether the last try failed.
    pub(super) fetching: bool,
    pub(super) fetch_failed: bool,
    /// What was said last of a bundle that is not held.
    pub(super) trouble: Trouble,
    /// The best ticket, once the seed of the present round is known.
    pub(super) ticket: Option<BestTicket>,
    /// The last run that was begun.
    pub(super) attempt: Option<Attempt>,
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

    /// The seat's name, in the log and to the executor: whose it is, and of which round.
    pub(super) fn seat_name(&self, node: NodeIndex) -> Option<String> {
        let round = match self.seat.state() {
            State::Claiming { round, .. } => Some(*round),
            State::Seated(held)
            | State::Missed(held)
            | State::Running { held, .. }
            | State::Answered { held, .. }
            | State::Committing { held, .. }
            | State::Committed { held, .. }
            | State::Revealing { held, .. }
            | State::Revealed { held, .. }
            | State::Finished { held, .. } => Some(held.round),
            State::Recovering
            | State::Seen
            | State::Declined(_)
            | State::Fetching
            | State::Accepted
            | State::Lost(_) => None,
        };
        let round = match round? {
            Round::First => "first",
            Round::Extra => "extra",
        };
        Some(format!("{node}/{round}"))
    }

    /// What each line of the log about the job says.
    pub(super) fn span(&self, job: JobId, node: NodeIndex) -> Span {
        let (seat, attempt) = (self.seat_name(node), self.attempt.map(|it| it.0));
        // of the highest level, so that no filter takes it from a line that is shown
        error_span!("job", %job, seat, attempt)
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

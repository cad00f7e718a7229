//! The lottery from a node's side: which of its units has the best ticket. Pure; the rule is in docs/protocol.md,
//! "Ticket".

use sandrun_core::market::Round;
use sandrun_types::{B256, JobId, NodeIndex, U256, ticket};

/// A node's best ticket in one round of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BestTicket {
    /// The seed that it was drawn from: another seed makes it worthless.
    pub(crate) seed: B256,
    /// The round.
    pub(crate) round: Round,
    /// The unit.
    pub(crate) unit: u32,
    /// The ticket.
    value: U256,
}

impl BestTicket {
    /// The lowest ticket among `units` units of stake; `None` without units.
    pub(crate) fn draw(seed: B256, job: JobId, round: Round, node: NodeIndex, units: u32) -> Option<Self> {
        (0..units)
            .map(|unit| Self {
                seed,
                round,
                unit,
                value: ticket(seed, job, round.number(), node, unit),
            })
            .min_by_key(|it| it.value)
    }

    /// Whether a claim with it succeeds at `threshold`. At a saturated threshold every ticket wins, the largest too.
    pub(crate) fn wins(&self, threshold: U256) -> bool {
        self.value < threshold || threshold == U256::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: B256 = B256::repeat_byte(7);
    const JOB: JobId = JobId([3; 32]);

    #[test]
    fn without_units_there_is_no_ticket() {
        assert_eq!(BestTicket::draw(SEED, JOB, Round::First, NodeIndex(1), 0), None);
    }

    #[test]
    fn rounds_and_nodes_draw_different_tickets() {
        let best = |round, node| {
            BestTicket::draw(SEED, JOB, round, NodeIndex(node), 50)
                .unwrap()
                .value
        };
        assert_ne!(best(Round::First, 1), best(Round::Extra, 1));
        assert_ne!(best(Round::First, 1), best(Round::First, 2));
    }

    proptest! {
        /// No unit has a better ticket than the drawn one, and it wins exactly when any of them does.
        #[test]
        fn the_best_is_the_best(seed: [u8; 32], units in 1u32..40, threshold: [u8; 32]) {
            let (seed, threshold) = (B256::from(seed), U256::from_be_bytes(threshold));
            let best = BestTicket::draw(seed, JOB, Round::First, NodeIndex(5), units).unwrap();
            let any = (0..units).any(|unit| ticket(seed, JOB, 0, NodeIndex(5), unit) < threshold);
            prop_assert_eq!(best.wins(threshold), any || threshold == U256::MAX);
            prop_assert!(best.unit < units);
        }
    }
}

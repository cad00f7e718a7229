//! What the agent shows of itself: a picture of its jobs, its gate and its money.

use sandrun_types::{Amount, U256};

use super::Agent;
use super::consider::GAS_PER_SEAT;
use crate::vitals::{Money, Standing};

impl Agent {
    /// How it stands now.
    pub(super) fn standing_now(&self) -> Standing {
        let mut seats = std::collections::BTreeMap::new();
        for tracked in self.jobs.values() {
            *seats.entry(tracked.seat.state().name()).or_default() += 1;
        }
        let money = self.survey.as_ref().map(|survey| {
            let escrow = &survey.record.escrow;
            let gas = U256::from(GAS_PER_SEAT).saturating_mul(U256::from(self.gas_price(survey)));
            Money {
                coin: survey.gas_money,
                seat_costs: Amount(gas),
                stake: escrow.cap,
                locked: escrow.locked,
                earned: escrow.earned,
                reputation: escrow.reputation,
            }
        });
        Standing {
            seats,
            fault: self.gate.fault().map(|fault| fault.to_string()),
            held_back: self.held_back.map(|reason| reason.to_string()),
            executor_lives: self.survey.as_ref().is_some_and(|it| it.executor_lives),
            money,
        }
    }
}

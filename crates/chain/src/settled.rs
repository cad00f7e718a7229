//! How seats ended, as counters: for whoever follows the market. Owns the counters alone.

use sandrun_core::market::SeatEnd;
use sandrun_metrics::{Coins, Exposition, Tally};
use sandrun_types::Amount;

use crate::meters::coins;

/// Seats that were finished, and what that paid and cost.
#[derive(Debug)]
pub struct SettledSeats {
    ends: Tally<9>,
    paid: Coins,
    slashed: Coins,
}

impl Default for SettledSeats {
    fn default() -> Self {
        let names = [
            SeatEnd::Released,
            SeatEnd::Paid,
            SeatEnd::AttemptFee,
            SeatEnd::Shared,
            SeatEnd::Unpaid,
            SeatEnd::SlashedWrong,
            SeatEnd::SlashedLate,
            SeatEnd::SlashedUnrevealed,
            SeatEnd::SlashedUncommitted,
        ];
        Self {
            ends: Tally::new("end", names.map(name)),
            paid: Coins::default(),
            slashed: Coins::default(),
        }
    }
}

/// An end as a label.
const fn name(end: SeatEnd) -> &'static str {
    match end {
        SeatEnd::Released => "released",
        SeatEnd::Paid => "paid",
        SeatEnd::AttemptFee => "attempt_fee",
        SeatEnd::Shared => "shared",
        SeatEnd::Unpaid => "unpaid",
        SeatEnd::SlashedWrong => "slashed_wrong",
        SeatEnd::SlashedLate => "slashed_late",
        SeatEnd::SlashedUnrevealed => "slashed_unrevealed",
        SeatEnd::SlashedUncommitted => "slashed_uncommitted",
    }
}

impl SettledSeats {
    /// A seat has ended so. `paid` is in the base coin: zero where a token pays. A later reorganisation takes nothing
    /// back: a counter only grows.
    pub fn note(&self, end: SeatEnd, paid: Amount, slashed: Amount) {
        self.ends.count(name(end));
        self.paid.add(coins(paid));
        self.slashed.add(coins(slashed));
    }

    /// Writes all of it.
    pub fn expose(&self, out: &mut Exposition) {
        let help = "Seats that were finished, by how.";
        self.ends.expose(out, "sandrun_seats_finished_total", help);
        let help = "What finished seats were credited in the base coin, in whole coins.";
        out.counter("sandrun_seats_paid_coins_total", help, self.paid.sum());
        let help = "What was taken from the bonds of finished seats, in whole coins.";
        out.counter("sandrun_seats_slashed_coins_total", help, self.slashed.sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_is_counted_by_its_kind_and_its_sum() {
        let seats = SettledSeats::default();
        let bond = Amount::from_gwei(500_000_000);
        seats.note(SeatEnd::SlashedWrong, Amount::ZERO, bond);
        seats.note(SeatEnd::Paid, bond, Amount::ZERO);
        let mut out = Exposition::default();
        seats.expose(&mut out);
        let text = out.finish();
        for line in [
            "sandrun_seats_finished_total{end=\"slashed_wrong\"} 1",
            "sandrun_seats_finished_total{end=\"slashed_late\"} 0",
            "sandrun_seats_paid_coins_total 0.5",
            "sandrun_seats_slashed_coins_total 0.5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}

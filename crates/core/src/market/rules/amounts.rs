//! How much: prices, attempt fees, shares, slashes and tips. docs/protocol.md, below the table in "What becomes of a
//! seat". Every division rounds down; payments to the token's granule.

use sandrun_types::{Amount, ClassKind, Redundancy, U256};
use serde::{Deserialize, Serialize};

use super::{Penalty, SeatRecord, Verdict, penalty, seat_end};
use crate::market::SeatEnd;

macro_rules! money {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Amount);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(Amount::ZERO);

            /// `gwei` billions of base units.
            pub fn from_gwei(gwei: u64) -> Self {
                Self(Amount::from_gwei(gwei))
            }

            /// Sum, or `None` on overflow.
            #[must_use]
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Difference, or `None` when `other` is larger.
            #[must_use]
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            /// Sum, or the largest amount.
            #[must_use]
            pub fn saturating_add(self, other: Self) -> Self {
                Self(Amount(self.0.0.saturating_add(other.0.0)))
            }

            /// Difference, or nothing.
            #[must_use]
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(Amount(self.0.0.saturating_sub(other.0.0)))
            }

            /// Product, or the largest amount.
            #[must_use]
            pub fn saturating_mul(self, factor: usize) -> Self {
                Self(Amount(self.0.0.saturating_mul(U256::from(factor))))
            }

            /// Whether this is nothing.
            pub fn is_zero(self) -> bool {
                self.0.is_zero()
            }
        }
    };
}

money!(
    /// Money that pays for work: base units of the order's token.
    Payment
);
money!(
    /// Money that stands behind a node: wei of the deployment's stake asset.
    Stake
);

impl Payment {
    /// This amount split among `parts`, rounded down to `granule`; the whole for no parts.
    fn split(self, parts: usize, granule: Self) -> Self {
        let parts = U256::from(parts.max(1));
        Self(Amount(self.0.0 / parts)).round_down(granule)
    }

    /// The largest multiple of `granule` that is not above this.
    #[must_use]
    pub fn round_down(self, granule: Self) -> Self {
        let granule = granule.0.0.max(U256::from(1u8));
        Self(Amount(self.0.0 - self.0.0 % granule))
    }
}

/// What an order and its token fix about money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// n and q.
    pub redundancy: Redundancy,
    /// Kind of the order's class.
    pub kind: ClassKind,
    /// Payment for each replica.
    pub price: Payment,
    /// Stake locked for each seat.
    pub bond: Stake,
    /// The token's attempt fee.
    pub fee: Payment,
    /// The token's granule.
    pub granule: Payment,
}

/// Every seat's end and money, and what goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// In the order of the seats.
    pub seats: Vec<SettledSeat>,
    /// What is left of the locked sum: the payer's.
    pub rest: Payment,
}

/// One seat's end and money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledSeat {
    /// What became of it.
    pub end: SeatEnd,
    /// Credited to the node.
    pub paid: Payment,
    /// Taken from its bond.
    pub slashed: Stake,
}

impl Terms {
    /// L: the price for each replica, and one more for 2-of-2.
    pub fn locked_sum(&self) -> Payment {
        self.price
            .saturating_mul(usize::from(self.redundancy.locked_prices()))
    }

    /// What becomes of all seats and of the locked sum under `verdict`.
    pub fn settle(&self, verdict: Verdict, seats: &[SeatRecord]) -> Settlement {
        let ends: Vec<SeatEnd> = seats.iter().map(|seat| seat_end(verdict, *seat, seats)).collect();
        let count = |end: SeatEnd| ends.iter().filter(|it| **it == end).count();
        let prices = self.price.saturating_mul(count(SeatEnd::Paid));
        let left = self.locked_sum().saturating_sub(prices);
        let fees = count(SeatEnd::AttemptFee);
        let fee = self.fee.min(left.split(fees, self.granule));
        let left = left.saturating_sub(fee.saturating_mul(fees));
        let shares = count(SeatEnd::Shared);
        let share = self.price.min(left.split(shares, self.granule));
        let rest = left.saturating_sub(share.saturating_mul(shares));
        let paid = |end: SeatEnd| match end {
            SeatEnd::Paid => self.price,
            SeatEnd::AttemptFee => fee,
            SeatEnd::Shared => share,
            SeatEnd::Released
            | SeatEnd::Unpaid
            | SeatEnd::SlashedWrong
            | SeatEnd::SlashedLate
            | SeatEnd::SlashedUnrevealed
            | SeatEnd::SlashedUncommitted => Payment::ZERO,
        };
        let settled = seats.iter().zip(&ends).map(|(seat, end)| SettledSeat {
            end: *end,
            paid: paid(*end),
            slashed: slash_amount(self.bond, penalty(self.kind, *end, seat.standing)),
        });
        Settlement {
            seats: settled.collect(),
            rest,
        }
    }
}

/// What `penalty` takes of `bond`.
pub fn slash_amount(bond: Stake, penalty: Penalty) -> Stake {
    const PART_PERCENT: u64 = 30;
    match penalty {
        Penalty::None => Stake::ZERO,
        // division first would lose wei, multiplication first can overflow only above 2^249 wei
        Penalty::Part => Stake(Amount(
            bond.0.0.saturating_mul(U256::from(PART_PERCENT)) / U256::from(100u8),
        )),
        Penalty::Whole => bond,
    }
}

/// What the caller of `poke` gets of a slash: the deployment's fixed `tip`, at most 5 %.
pub fn tip_amount(tip: Stake, slashed: Stake) -> Stake {
    tip.min(Stake(Amount(slashed.0.0 / U256::from(20u8))))
}

/// What each claimant of an expired job gets: its claim's gas, at most a third of the attempt fee; in an ERC-20 (`gas`
/// is `None`) the third.
pub fn expiry_payment(fee: Payment, gas: Option<Payment>, granule: Payment) -> Payment {
    let third = fee.split(3, granule);
    gas.map_or(third, |gas| third.min(gas.round_down(granule)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Round;
    use crate::market::rules::Standing;
    use sandrun_types::{Answer, ResultDigest};

    fn terms(redundancy: Redundancy, price: u64, fee: u64) -> Terms {
        Terms {
            redundancy,
            kind: ClassKind::Native,
            price: Payment::from_gwei(price),
            bond: Stake::from_gwei(5 * price),
            fee: Payment::from_gwei(fee),
            granule: Payment::from_gwei(1),
        }
    }

    fn revealed(round: Round, digest: u8) -> SeatRecord {
        SeatRecord {
            round,
            standing: Standing::Revealed(Answer::Digest(ResultDigest([digest; 32]))),
        }
    }

    #[test]
    fn shares_are_equal_rounded_down_and_capped_at_the_price() {
        let seats = [
            revealed(Round::First, 1),
            revealed(Round::First, 2),
            revealed(Round::Extra, 3),
            revealed(Round::Extra, 4),
        ];
        let settled = terms(Redundancy::Two, 101, 10).settle(Verdict::NoneWins, &seats);
        // 303 among four: 75 each, 3 back
        assert!(settled.seats.iter().all(|it| it.paid == Payment::from_gwei(75)));
        assert_eq!(settled.rest, Payment::from_gwei(3));
        let settled = terms(Redundancy::Two, 101, 10).settle(Verdict::NoneWins, &seats[..2]);
        assert!(settled.seats.iter().all(|it| it.paid == Payment::from_gwei(101)));
    }

    #[test]
    fn fees_come_from_what_payees_leave() {
        let limit = SeatRecord {
            round: Round::First,
            standing: Standing::Revealed(Answer::Limit),
        };
        let seats = [limit, limit, revealed(Round::First, 1)];
        let settled = terms(Redundancy::Three, 100, 10).settle(Verdict::Won(Answer::Limit), &seats);
        assert_eq!(settled.seats[2].paid, Payment::from_gwei(10));
        assert_eq!(settled.rest, Payment::from_gwei(90));
        // three payees leave nothing
        let seats = [
            revealed(Round::First, 1),
            revealed(Round::First, 2),
            limit,
            limit,
            limit,
        ];
        let settled = terms(Redundancy::Three, 100, 10).settle(Verdict::Won(Answer::Limit), &seats);
        assert_eq!(settled.seats[0].paid, Payment::ZERO);
        assert_eq!(settled.rest, Payment::ZERO);
    }

    #[test]
    fn slashes_and_tips_round_down() {
        assert_eq!(
            slash_amount(Stake(Amount(U256::from(9u8))), Penalty::Part),
            Stake(Amount(U256::from(2u8)))
        );
        assert_eq!(
            slash_amount(Stake::from_gwei(9), Penalty::Whole),
            Stake::from_gwei(9)
        );
        assert_eq!(
            tip_amount(Stake::from_gwei(4), Stake::from_gwei(100)),
            Stake::from_gwei(4)
        );
        assert_eq!(
            tip_amount(Stake::from_gwei(9), Stake::from_gwei(100)),
            Stake::from_gwei(5)
        );
    }

    #[test]
    fn a_claim_that_expired_costs_the_client_at_most_a_third_of_the_fee() {
        let [fee, granule] = [100, 1].map(Payment::from_gwei);
        assert_eq!(expiry_payment(fee, None, granule), Payment::from_gwei(33));
        assert_eq!(
            expiry_payment(fee, Some(Payment::from_gwei(20)), granule),
            Payment::from_gwei(20)
        );
        assert_eq!(
            expiry_payment(fee, Some(Payment::from_gwei(50)), granule),
            Payment::from_gwei(33)
        );
        assert_eq!(expiry_payment(fee, Some(Payment::ZERO), granule), Payment::ZERO);
    }
}

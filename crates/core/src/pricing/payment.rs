//! A payment that somebody wants to make: which price per replica it is, and whether a deployment takes it.

use sandrun_types::{Amount, Redundancy, U256};
use serde::{Deserialize, Serialize};

/// A deployment's limits for prices in one token, in its base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenLimits {
    /// Decimals of the token, for messages.
    pub decimals: u8,
    /// Prices are multiples of this.
    pub granule: Amount,
    /// Least price per replica.
    pub min_price: Amount,
    /// Largest price of a job with redundancy 1, which nobody verifies.
    pub max_single_price: Amount,
}

/// Why a payment is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// Too little.
    #[error("the payment of {} is too low: with redundancy {} it has to be at least {}", .payment.display(*.decimals), .redundancy.replicas(), .least.display(*.decimals))]
    TooLow {
        /// What was offered.
        payment: Amount,
        /// n and q.
        redundancy: Redundancy,
        /// The least that is taken.
        least: Amount,
        /// Decimals of the token.
        decimals: u8,
    },
    /// Too much to be paid without verification.
    #[error("the payment of {} is too high for redundancy 1, which nobody verifies: pay at most {}, or choose redundancy 2, 3 or 5", .payment.display(*.decimals), .most.display(*.decimals))]
    TooHighUnverified {
        /// What was offered.
        payment: Amount,
        /// The most that is taken.
        most: Amount,
        /// Decimals of the token.
        decimals: u8,
    },
    /// A limit of the deployment does not fit a number.
    #[error("this deployment's minimum price is beyond all bounds; use another one")]
    Limits,
}

/// The price per replica of a job whose payment is at most `payment`: the sum that is locked, in equal parts, rounded
/// down to the granule.
///
/// # Errors
/// [`PaymentError`] when the deployment would refuse the order.
pub fn price_per_replica(
    payment: Amount,
    redundancy: Redundancy,
    limits: &TokenLimits,
) -> Result<Amount, PaymentError> {
    let parts = u64::from(redundancy.locked_prices());
    let granule = limits.granule.0.max(U256::from(1u8));
    let price = Amount(payment.0 / U256::from(parts) / granule * granule);
    let least_price = limits
        .min_price
        .0
        .div_ceil(granule)
        .checked_mul(granule)
        .map(Amount);
    let least_price = least_price.ok_or(PaymentError::Limits)?.max(Amount(granule));
    let decimals = limits.decimals;
    if price < least_price {
        let least = least_price.checked_mul(parts).ok_or(PaymentError::Limits)?;
        return Err(PaymentError::TooLow {
            payment,
            redundancy,
            least,
            decimals,
        });
    }
    if redundancy == Redundancy::One && price > limits.max_single_price {
        return Err(PaymentError::TooHighUnverified {
            payment,
            most: limits.max_single_price,
            decimals,
        });
    }
    Ok(price)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> TokenLimits {
        TokenLimits {
            decimals: 18,
            granule: Amount::from_gwei(1),
            min_price: Amount::from_gwei(1_000_000),
            max_single_price: Amount::from_gwei(50_000_000),
        }
    }

    fn coin(text: &str) -> Amount {
        Amount::parse(text, 18).unwrap()
    }

    #[test]
    fn a_payment_is_parted_among_the_locked_prices() {
        let of = |text, redundancy| price_per_replica(coin(text), redundancy, &limits());
        assert_eq!(of("0.05", Redundancy::One), Ok(coin("0.05")));
        assert_eq!(of("0.1", Redundancy::Two), Ok(coin("0.033333333")));
        assert_eq!(of("0.1", Redundancy::Three), Ok(coin("0.033333333")));
        assert_eq!(of("0.1", Redundancy::Five), Ok(coin("0.02")));
    }

    #[test]
    fn refusals_say_what_to_pay() {
        let low = price_per_replica(coin("0.0001"), Redundancy::Three, &limits()).unwrap_err();
        assert_eq!(
            low.to_string(),
            "the payment of 0.0001 is too low: with redundancy 3 it has to be at least 0.003"
        );
        let high = price_per_replica(coin("0.06"), Redundancy::One, &limits()).unwrap_err();
        assert_eq!(
            high.to_string(),
            "the payment of 0.06 is too high for redundancy 1, which nobody verifies: pay at most 0.05, or choose \
             redundancy 2, 3 or 5"
        );
        let absurd = TokenLimits {
            min_price: Amount(U256::MAX),
            ..limits()
        };
        assert_eq!(
            price_per_replica(coin("1"), Redundancy::Two, &absurd),
            Err(PaymentError::Limits)
        );
    }

    #[test]
    fn what_is_verified_has_no_cap() {
        for redundancy in [Redundancy::Two, Redundancy::Three, Redundancy::Five] {
            let wanted = Amount(coin("15").0 / U256::from(redundancy.locked_prices()));
            assert!(wanted > limits().max_single_price);
            assert_eq!(price_per_replica(coin("15"), redundancy, &limits()), Ok(wanted));
        }
    }

    #[test]
    fn nothing_is_never_a_price() {
        let free = TokenLimits {
            min_price: Amount::ZERO,
            granule: Amount::ZERO,
            ..limits()
        };
        assert!(price_per_replica(Amount::ZERO, Redundancy::Three, &free).is_err());
        assert_eq!(
            price_per_replica(Amount(U256::from(3u8)), Redundancy::Three, &free),
            Ok(Amount(U256::from(1u8)))
        );
    }

    proptest! {
        #[test]
        fn what_is_locked_never_exceeds_the_payment(gwei in 0u64..1_000_000_000, which in 0usize..4) {
            let redundancy = Redundancy::ALL[which];
            let payment = Amount::from_gwei(gwei);
            if let Ok(price) = price_per_replica(payment, redundancy, &limits()) {
                let locked = price.checked_mul(u64::from(redundancy.locked_prices())).unwrap();
                prop_assert!(locked <= payment);
                prop_assert!(price >= limits().min_price);
                prop_assert!((price.0 % limits().granule.0).is_zero());
            }
        }

        #[test]
        fn the_least_payment_that_is_named_is_taken(gwei in 0u64..2_999_999, which in 1usize..4) {
            let redundancy = Redundancy::ALL[which];
            if let Err(PaymentError::TooLow { least, .. }) = price_per_replica(Amount::from_gwei(gwei), redundancy, &limits()) {
                prop_assert!(price_per_replica(least, redundancy, &limits()).is_ok());
            }
        }
    }
}

//! A quote: what a job should be paid, in dollars and in coins.

use sandrun_types::{Amount, Redundancy, U256};
use serde::{Deserialize, Serialize};

use super::{Dollars, PriceList, Resources};

/// What transactions cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gas {
    /// Gas that the client pays for: the posting.
    pub client: u64,
    /// Gas that one node pays for: claim, commit and reveal.
    pub node: u64,
    /// Price of a unit of gas, wei.
    pub price: Amount,
}

/// What a job should cost, in the native coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quote {
    /// What one replica's resources cost by the list.
    pub resources: Dollars,
    /// The same in wei.
    pub resources_wei: Amount,
    /// A node's gas, wei: part of the price, or nobody works at a loss.
    pub node_gas: Amount,
    /// Price per replica, wei: resources and gas, rounded up to the granule.
    pub price: Amount,
    /// The sum that is locked, wei: the most that the job can cost besides `client_gas`.
    pub payment: Amount,
    /// Gas of the posting, wei; paid by the client to the chain.
    pub client_gas: Amount,
}

/// Why there is no quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Without a price of the coin nothing can be converted.
    #[error("the dollars per coin are zero; set what a coin costs")]
    NoCoinPrice,
    /// The numbers are beyond all bounds.
    #[error("the job is beyond all bounds: its price does not fit a number")]
    TooLarge,
}

/// What one replica with these resources should be paid at `redundancy`, `per_coin` dollars for a whole coin, in
/// multiples of `granule` wei.
///
/// # Errors
/// [`QuoteError`].
pub fn quote(
    list: &PriceList,
    resources: &Resources,
    redundancy: Redundancy,
    gas: Gas,
    per_coin: Dollars,
    granule: Amount,
) -> Result<Quote, QuoteError> {
    let dollars = list.price(resources).ok_or(QuoteError::TooLarge)?;
    let resources_wei = to_wei(dollars, per_coin)?;
    let node_gas = gas.price.checked_mul(gas.node).ok_or(QuoteError::TooLarge)?;
    let client_gas = gas.price.checked_mul(gas.client).ok_or(QuoteError::TooLarge)?;
    let exact = resources_wei.checked_add(node_gas).ok_or(QuoteError::TooLarge)?;
    let price = round_up(exact, granule).ok_or(QuoteError::TooLarge)?;
    let payment = price
        .checked_mul(u64::from(redundancy.locked_prices()))
        .ok_or(QuoteError::TooLarge)?;
    Ok(Quote {
        resources: dollars,
        resources_wei,
        node_gas,
        price,
        payment,
        client_gas,
    })
}

/// Dollars in wei, rounded up.
fn to_wei(dollars: Dollars, per_coin: Dollars) -> Result<Amount, QuoteError> {
    if per_coin == Dollars::ZERO {
        return Err(QuoteError::NoCoinPrice);
    }
    let coin = U256::from(10u8).pow(U256::from(Amount::COIN_DECIMALS));
    // 64 + 60 bits: no overflow
    let scaled = U256::from(dollars.micro()) * coin;
    Ok(Amount(scaled.div_ceil(U256::from(per_coin.micro()))))
}

/// The next multiple of `granule`; a granule of zero rounds nothing.
fn round_up(amount: Amount, granule: Amount) -> Option<Amount> {
    if granule.is_zero() {
        return Some(amount);
    }
    amount.0.div_ceil(granule.0).checked_mul(granule.0).map(Amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resources(cpu_seconds: u64) -> Resources {
        Resources {
            cpu_seconds,
            gpu: None,
            memory_mb: 512,
            priority: false,
        }
    }

    const NO_GAS: Gas = Gas {
        client: 0,
        node: 0,
        price: Amount::ZERO,
    };

    #[test]
    fn a_quote_adds_gas_and_locks_one_price_more_for_two_of_two() {
        let gas = Gas {
            client: 100_000,
            node: 150_000,
            price: Amount::from_gwei(1),
        };
        let per_coin = "2500".parse().unwrap();
        let quote = quote(
            &PriceList::default(),
            &resources(60),
            Redundancy::Two,
            gas,
            per_coin,
            Amount::from_gwei(1),
        )
        .unwrap();
        // 60 × 0.001 + 512 × 0.0001 = 0.1112 dollars, / 2500 = 0.00004448 coin
        assert_eq!(quote.resources.to_string(), "$0.1112");
        assert_eq!(quote.resources_wei, Amount::from_gwei(44_480));
        assert_eq!(quote.node_gas, Amount::from_gwei(150_000));
        assert_eq!(quote.price, Amount::from_gwei(194_480));
        assert_eq!(quote.payment, Amount::from_gwei(3 * 194_480));
        assert_eq!(quote.client_gas, Amount::from_gwei(100_000));
    }

    #[test]
    fn there_is_no_quote_without_a_coin_price_or_beyond_all_bounds() {
        let list = PriceList::default();
        let of = |resources, per_coin, gas| {
            quote(
                &list,
                &resources,
                Redundancy::One,
                gas,
                per_coin,
                Amount::from_gwei(1),
            )
        };
        assert_eq!(
            of(resources(1), Dollars::ZERO, NO_GAS),
            Err(QuoteError::NoCoinPrice)
        );
        let one = Dollars::from_micro(1_000_000);
        assert_eq!(of(resources(u64::MAX), one, NO_GAS), Err(QuoteError::TooLarge));
        let huge = Gas {
            client: 2,
            node: 1,
            price: Amount(U256::MAX),
        };
        assert_eq!(of(resources(1), one, huge), Err(QuoteError::TooLarge));
    }

    proptest! {
        #[test]
        fn a_price_is_never_below_its_dollars_and_by_less_than_a_granule_above(
            cpu in 0u64..10_000_000, per_coin in 1u64..u64::MAX, granule in 0u64..1_000_000_000_000,
        ) {
            let per_coin = Dollars::from_micro(per_coin);
            let granule = Amount(U256::from(granule));
            let it = quote(&PriceList::default(), &resources(cpu), Redundancy::Three, NO_GAS, per_coin, granule).unwrap();
            let coin = U256::from(10u8).pow(U256::from(18u8));
            prop_assert!(it.resources_wei.0 * U256::from(per_coin.micro()) >= U256::from(it.resources.micro()) * coin);
            prop_assert!(it.price >= it.resources_wei);
            if granule.is_zero() {
                prop_assert_eq!(it.price, it.resources_wei);
            } else {
                prop_assert!((it.price.0 % granule.0).is_zero());
                prop_assert!(it.price.0 - it.resources_wei.0 < granule.0);
            }
        }
    }
}

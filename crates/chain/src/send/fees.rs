//! Fees of a replacement. Pure.

use crate::connect::Fees;

/// Fees of the next version: `percent` more than the last in both parts (nodes refuse a replacement that raises either
/// by less than ten per cent), or the market's if that is more; `None` when it would pass the cap.
pub(super) fn bump(last: Fees, market: Fees, percent: u64, cap: u128) -> Option<Fees> {
    let raise = |fee: u128| {
        fee.saturating_add(fee.saturating_mul(u128::from(percent.max(10))).div_ceil(100))
            .max(1)
    };
    let next = Fees {
        max_fee_per_gas: raise(last.max_fee_per_gas).max(market.max_fee_per_gas),
        max_priority_fee_per_gas: raise(last.max_priority_fee_per_gas).max(market.max_priority_fee_per_gas),
    };
    (next.max_fee_per_gas <= cap && next.max_priority_fee_per_gas <= next.max_fee_per_gas).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_replacement_is_one_that_nodes_take(fee in 0u128..1 << 80, tip in 0u128..1 << 80, market: u64) {
            let last = Fees { max_fee_per_gas: fee.max(tip), max_priority_fee_per_gas: tip };
            let market = Fees { max_fee_per_gas: market.into(), max_priority_fee_per_gas: 1 };
            let next = bump(last, market, 10, u128::MAX).unwrap();
            prop_assert!(next.max_fee_per_gas * 10 >= last.max_fee_per_gas * 11);
            prop_assert!(next.max_priority_fee_per_gas * 10 >= tip * 11);
            prop_assert!(next.max_fee_per_gas >= next.max_priority_fee_per_gas);
            prop_assert!(bump(last, market, 10, last.max_fee_per_gas).is_none());
        }
    }
}

//! The lottery of seats: seed block, threshold, and whose luck counts for reputation. docs/protocol.md, "Phases"
//! (Claim, Seed, Ticket) and "Reputation".

use sandrun_types::{Redundancy, U256};

use crate::market::Round;

/// Blocks whose hashes a contract can read.
const HASH_HORIZON: u64 = 256;

/// The seed block of a round that was opened in block `opened` and whose seed nobody recorded, seen from block
/// `present`: the block after the opening, moved on by exactly 256 as often as it went out of reach. It is known when
/// `present` is above it.
pub const fn seed_block(opened: u64, present: u64) -> u64 {
    let first = opened.saturating_add(1);
    if present <= first {
        return first;
    }
    first.saturating_add((present - first - 1) / HASH_HORIZON * HASH_HORIZON)
}

/// Seats of a round: what its threshold begins with.
const fn seats_of(redundancy: Redundancy, round: Round) -> u8 {
    match round {
        Round::First => redundancy.replicas(),
        Round::Extra => 2,
    }
}

/// Blocks since the first in which the seed is known; the threshold has doubled as often.
const fn doublings(opened: u64, present: u64) -> u64 {
    present.saturating_sub(opened.saturating_add(2))
}

/// The number that a ticket has to be below in block `present`: seats / `units` of 2^256, doubled with each block,
/// saturating.
pub fn threshold(redundancy: Redundancy, round: Round, units: u32, opened: u64, present: u64) -> U256 {
    let seats = U256::from(seats_of(redundancy, round));
    if units == 0 {
        return U256::MAX;
    }
    let mut threshold = (U256::MAX / U256::from(units)).saturating_mul(seats);
    for _ in 0..doublings(opened, present).min(256) {
        threshold = threshold.saturating_mul(U256::from(2u8));
    }
    threshold
}

/// Whether a seat that was won in block `present` can count for reputation: the threshold had doubled at most twice since
/// the round's lottery began, or takes everybody in that early.
pub fn counts_for_reputation(
    redundancy: Redundancy,
    round: Round,
    units: u32,
    opened: u64,
    present: u64,
) -> bool {
    doublings(opened, present) <= 2 || u64::from(units) < 4 * u64::from(seats_of(redundancy, round))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_block_moves_by_exactly_256() {
        assert_eq!(seed_block(10, 11), 11);
        assert_eq!(seed_block(10, 12), 11);
        assert_eq!(seed_block(10, 267), 11);
        assert_eq!(seed_block(10, 268), 267);
        assert_eq!(seed_block(10, 523), 267);
        assert_eq!(seed_block(10, 524), 523);
    }

    #[test]
    fn threshold_starts_at_n_of_u_and_doubles_until_it_takes_everybody_in() {
        let at = |present| threshold(Redundancy::Three, Round::First, 300, 10, present);
        let hundredth = U256::MAX / U256::from(100u8);
        assert!(at(12) <= hundredth && at(12) > hundredth - U256::from(1000u32));
        assert_eq!(at(13), at(12) * U256::from(2u8));
        assert_eq!(at(30), U256::MAX);
        assert_eq!(threshold(Redundancy::One, Round::First, 0, 10, 12), U256::MAX);
    }

    #[test]
    fn luck_counts_for_three_blocks() {
        let counts = |present| counts_for_reputation(Redundancy::Three, Round::First, 300, 10, present);
        assert!(counts(12) && counts(14) && !counts(15) && !counts(10_000));
        assert!(counts_for_reputation(Redundancy::Five, Round::Extra, 300, 10, 14));
        assert!(!counts_for_reputation(
            Redundancy::Five,
            Round::Extra,
            300,
            10,
            15
        ));
        // four times the start is everybody
        assert!(counts_for_reputation(Redundancy::Three, Round::First, 11, 10, 99));
        assert!(!counts_for_reputation(
            Redundancy::Three,
            Round::First,
            12,
            10,
            99
        ));
    }
}

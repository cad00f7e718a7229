//! A quick hash for tables whose keys are numbers that the kernel gives out.
//!
//! Never for what a job can choose at will: it could choose keys that all lie in one place.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such numbers.
pub(super) type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Mixes numbers by multiplication.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Mix(u64);

impl Mix {
    fn add(&mut self, number: u64) {
        /// The golden ratio's fraction, in 64 bits.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(25) ^ number).wrapping_mul(FACTOR);
    }
}

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        // the table takes its lowest and its highest bits, of which multiplication leaves the low ones poor
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.add(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    fn write_i32(&mut self, number: i32) {
        self.add(u64::from(number.cast_unsigned()));
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::*;

    #[test]
    fn neighbours_lie_apart() {
        let hash = |pair: (u64, u64)| BuildHasherDefault::<Mix>::default().hash_one(pair);
        let hashes: HashSet<u64> = (0..64)
            .flat_map(|first| (0..1024).map(move |second| (first, second)))
            .map(hash)
            .collect();
        assert_eq!(hashes.len(), 64 * 1024);
        let places: HashSet<u64> = (0..4096).map(|number| hash((21, number)) & 0xffff).collect();
        assert!(places.len() > 3500, "{}", places.len());
    }
}

//! Counters that many threads count up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::text::{Exposition, Kind, Sample};

/// A counter by one label, whose values are fixed.
#[derive(Debug)]
pub struct Tally<const N: usize> {
    label: &'static str,
    values: [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Tally<N> {
    /// Zero for each of the label's values.
    #[must_use]
    pub const fn new(label: &'static str, values: [&'static str; N]) -> Self {
        Self {
            label,
            values,
            counts: [const { AtomicU64::new(0) }; N],
        }
    }

    /// Counts one. A value that is none of the label's is not counted.
    pub fn count(&self, value: &str) {
        if let Some(at) = self.values.iter().position(|it| *it == value) {
            self.counts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of a value.
    #[must_use]
    pub fn of(&self, value: &str) -> u64 {
        let at = self.values.iter().position(|it| *it == value);
        at.map_or(0, |at| self.counts[at].load(Ordering::Relaxed))
    }

    /// Writes the family.
    pub fn expose(&self, out: &mut Exposition, name: &str, help: &str) {
        let samples: Vec<Sample> = self
            .values
            .iter()
            .zip(&self.counts)
            .map(|(value, count)| Sample::labelled(&[(self.label, *value)], count.load(Ordering::Relaxed)))
            .collect();
        out.family(name, Kind::Counter, help, &samples);
    }
}

/// A sum of money in whole coins: a double, as all numbers of Prometheus are.
#[derive(Debug, Default)]
pub struct Coins(Mutex<f64>);

impl Coins {
    /// Adds to it.
    pub fn add(&self, coins: f64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += coins;
    }

    /// The sum.
    #[must_use]
    pub fn sum(&self) -> f64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_knows() {
        let tally = Tally::new("end", ["good", "bad"]);
        tally.count("good");
        tally.count("good");
        tally.count("strange");
        assert_eq!(
            (tally.of("good"), tally.of("bad"), tally.of("strange")),
            (2, 0, 0)
        );
        let mut out = Exposition::default();
        tally.expose(&mut out, "ends_total", "Ends.");
        let text = out.finish();
        assert!(
            text.ends_with("ends_total{end=\"good\"} 2\nends_total{end=\"bad\"} 0\n"),
            "{text}"
        );
    }
}

//! A histogram of seconds with fixed bounds, as Prometheus counts one.

use std::time::Duration;

/// How many took at most how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Histogram<const N: usize> {
    /// Upper bounds, in seconds, ascending.
    pub bounds: [f64; N],
    /// How many are within each bound and above the one before it; what is above all bounds is in `count` alone.
    pub buckets: [u64; N],
    /// How many there were.
    pub count: u64,
    /// Seconds, all together.
    pub sum: f64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one.
    #[must_use]
    pub const fn new(bounds: [f64; N]) -> Self {
        Self {
            bounds,
            buckets: [0; N],
            count: 0,
            sum: 0.0,
        }
    }

    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        if let Some(at) = self.bounds.iter().position(|bound| seconds <= *bound) {
            self.buckets[at] += 1;
        }
    }

    /// Each bound with how many are within it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut within = 0;
        self.bounds.iter().zip(self.buckets).map(move |(bound, count)| {
            within += count;
            (*bound, within)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_within_each_bound() {
        let mut histogram = Histogram::new([0.5, 1.0]);
        for millis in [500, 501, 1_000, 3_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(0.5, 1), (1.0, 3)]);
        assert_eq!(histogram.count, 4);
        assert!((histogram.sum - 5.001).abs() < 1e-9);
    }
}

//! How long a client is waited for that sends a body. Pure: time is an argument.

use std::time::Duration;

/// What is left of a service's patience with one body. Waiting uses it up; what comes in restores it, at the rate below
/// which nobody may stay for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    left: Duration,
    most: Duration,
    /// Bytes that are worth a second.
    rate: u32,
}

impl Patience {
    /// All of it: so long without a byte, or for ever at `rate` bytes a second.
    pub(crate) const fn new(most: Duration, rate: u32) -> Self {
        let left = most;
        Self { left, most, rate }
    }

    /// How long the next piece is waited for.
    pub(crate) const fn left(&self) -> Duration {
        self.left
    }

    /// A piece of so many bytes came after it was waited for this long.
    pub(crate) fn received(&mut self, waited: Duration, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let rate = u64::from(self.rate.max(1));
        let worth = Duration::from_secs(bytes / rate)
            + Duration::from_secs(1) * millionths(bytes % rate, rate) / MILLION;
        self.left = self
            .left
            .saturating_sub(waited)
            .saturating_add(worth)
            .min(self.most);
    }
}

const MILLION: u32 = 1_000_000;

/// How many millionths of `rate` these bytes are, of which there are fewer.
fn millionths(bytes: u64, rate: u64) -> u32 {
    u32::try_from(bytes * u64::from(MILLION) / rate).unwrap_or(MILLION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bounds;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// How long a client is borne with that sends so many bytes at each of these intervals, up to an hour.
    fn borne(bytes: usize, every: Duration) -> Duration {
        let bounds = Bounds::fleet();
        let mut patience = Patience::new(bounds.body_idle, bounds.body_rate);
        let mut time = Duration::ZERO;
        while time < HOUR {
            if every >= patience.left() {
                return time + patience.left();
            }
            time += every;
            patience.received(every, bytes);
        }
        time
    }

    #[test]
    fn who_sends_slowly_is_borne_with_and_who_only_seems_to_send_is_not() {
        for (bytes, millis) in [
            (16 << 10, 1_000),
            (16, 1),
            (1 << 20, 29_000),
            (64 << 10, 4_000),
            (5 << 10, 1_000),
        ] {
            assert!(
                borne(bytes, Duration::from_millis(millis)) >= HOUR,
                "{bytes} bytes, {millis} ms"
            );
        }
        for (bytes, millis) in [
            (0, 60_000),
            (1, 1),
            (1, 1_000),
            (1, 29_999),
            (100, 100),
            (1 << 20, 31_000),
        ] {
            let borne = borne(bytes, Duration::from_millis(millis));
            assert!(
                borne <= Duration::from_secs(45),
                "{bytes} bytes, {millis} ms: {borne:?}"
            );
        }
    }

    #[test]
    fn what_came_fast_buys_no_time_to_be_silent() {
        let mut patience = Patience::new(Duration::from_secs(30), 4_096);
        patience.received(Duration::ZERO, 100 << 20);
        assert_eq!(patience.left(), Duration::from_secs(30));
        patience.received(Duration::from_secs(40), 2_048);
        assert_eq!(patience.left(), Duration::from_millis(500));
        patience.received(Duration::from_secs(9), usize::MAX);
        assert_eq!(patience.left(), Duration::from_secs(30));
        let mut none = Patience::new(Duration::from_secs(1), 0);
        none.received(Duration::from_secs(1), 1);
        assert_eq!(none.left(), Duration::from_secs(1));
    }
}

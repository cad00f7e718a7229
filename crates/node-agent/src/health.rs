//! Whether the executor is to be trusted with another seat, as its own runs tell. Pure: time is an argument.
//!
//! A run that fails says nothing about its program, and a seat whose runs all fail costs a part of its bond. So after
//! some failures in a row no seat is taken until a trivial program, the *probe*, has run. It is tried at once, then less
//! and less often; a node that passes it is on probation until a real run has worked.

use sandrun_types::UnixSeconds;

/// Failures in a row after which no seat is taken.
const DOUBT_AFTER: u32 = 3;
/// Seconds between the first two probes, and the longest pause.
const PAUSES: (u64, u64) = (10, 600);

/// What is known of the executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Health {
    /// Runs that failed in a row.
    failures: u32,
    /// Probes since the last real run that worked.
    probes: u32,
    trust: Trust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Trust {
    #[default]
    Given,
    /// No probe is under way; the next is due then.
    Withheld(UnixSeconds),
    Probing,
}

impl Health {
    /// Whether seats may be taken.
    pub(crate) fn is_good(&self) -> bool {
        self.trust == Trust::Given
    }

    /// A run has worked.
    pub(crate) fn run_worked(&mut self) {
        *self = Self::default();
    }

    /// The executor has failed in a run.
    pub(crate) fn run_failed(&mut self, now: UnixSeconds) {
        self.failures = self.failures.saturating_add(1);
        if self.is_good() && self.failures >= DOUBT_AFTER {
            self.trust = Trust::Withheld(now.plus(self.pause()));
        }
    }

    /// Whether to start a probe now; if so, it counts as under way.
    pub(crate) fn start_probe(&mut self, now: UnixSeconds) -> bool {
        let is_due = matches!(self.trust, Trust::Withheld(at) if at <= now);
        if is_due {
            self.trust = Trust::Probing;
            self.probes = self.probes.saturating_add(1);
        }
        is_due
    }

    /// The probe has ended, or was given up; does nothing when none is under way.
    pub(crate) fn probed(&mut self, now: UnixSeconds, has_worked: bool) {
        if self.trust != Trust::Probing {
            return;
        }
        if has_worked {
            // on probation
            self.failures = DOUBT_AFTER - 1;
            self.trust = Trust::Given;
        } else {
            self.trust = Trust::Withheld(now.plus(self.pause()));
        }
    }

    /// Seconds before the next probe: 0, then 10, 20, 40, … up to ten minutes.
    fn pause(&self) -> u64 {
        let (first, longest) = PAUSES;
        match self.probes.checked_sub(1) {
            None => 0,
            Some(doublings) => 1u64
                .checked_shl(doublings)
                .and_then(|factor| factor.checked_mul(first))
                .map_or(longest, |pause| pause.min(longest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: UnixSeconds = UnixSeconds(1_000);

    fn doubted() -> Health {
        let mut it = Health::default();
        for _ in 0..DOUBT_AFTER {
            assert!(it.is_good());
            assert!(!it.start_probe(T), "a trusted executor is not probed");
            it.run_failed(T);
        }
        it
    }

    #[test]
    fn a_run_that_works_wipes_failures_out() {
        let mut it = Health::default();
        for _ in 0..10 {
            it.run_failed(T);
            it.run_failed(T);
            it.run_worked();
        }
        assert!(it.is_good());
    }

    #[test]
    fn failures_in_a_row_withhold_trust_until_a_probe_has_worked() {
        let mut it = doubted();
        assert!(!it.is_good());
        assert!(it.start_probe(T), "the first is due at once");
        assert!(!it.start_probe(T), "one at a time");
        assert!(!it.is_good());
        it.probed(T, true);
        assert!(it.is_good());
        // on probation: one failure is enough, and the next probe waits
        it.run_failed(T);
        assert!(!it.is_good());
        assert!(!it.start_probe(T.plus(9)));
        assert!(it.start_probe(T.plus(10)));
        it.run_worked();
        it.probed(T, false);
        assert_eq!(
            it,
            Health::default(),
            "a late report of a probe that nobody needs"
        );
    }

    #[test]
    fn probes_that_fail_come_less_and_less_often() {
        let mut it = doubted();
        let (mut now, mut pauses) = (T, vec![]);
        for _ in 0..9 {
            let begun = now;
            while !it.start_probe(now) {
                now = now.plus(1);
            }
            pauses.push(begun.until(now));
            it.probed(now, false);
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
    }
}

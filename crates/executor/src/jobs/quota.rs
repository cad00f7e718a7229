//! What one client address may use: CPU seconds in a minute, jobs at once, jobs in an hour.
//!
//! Owns the arithmetic of one client. Use is what a run really took, counted when it ends, never what its manifest
//! asked for.

use std::collections::VecDeque;
use std::time::Duration;

use thiserror::Error;

use super::Moment;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What each client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaRules {
    /// CPU time in any 60 seconds.
    pub cpu_per_minute: Duration,
    /// Jobs that wait or run at once.
    pub jobs_at_once: u32,
    /// Jobs accepted in any hour.
    pub jobs_per_hour: u32,
}

impl Default for QuotaRules {
    fn default() -> Self {
        Self {
            cpu_per_minute: Duration::from_secs(10),
            jobs_at_once: 2,
            jobs_per_hour: 20,
        }
    }
}

/// Why a client may not submit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QuotaRefusal {
    /// Its CPU time of this minute is used up.
    #[error(
        "quota: {:.1} of {:.1} CPU seconds a minute are used; try again in {} s",
        used.as_secs_f64(), limit.as_secs_f64(), seconds(*retry_after)
    )]
    Cpu {
        /// Used in the last minute.
        used: Duration,
        /// Allowed.
        limit: Duration,
        /// When there is some again.
        retry_after: Duration,
    },
    /// It has as many jobs as it may have.
    #[error("quota: {limit} jobs at once; wait until one has ended")]
    AtOnce {
        /// Allowed.
        limit: u32,
    },
    /// It has submitted as many jobs as it may in an hour.
    #[error("quota: {limit} jobs an hour; try again in {} s", seconds(*retry_after))]
    PerHour {
        /// Allowed.
        limit: u32,
        /// When the oldest leaves the hour.
        retry_after: Duration,
    },
}

fn seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
        .max(1)
}

impl QuotaRefusal {
    /// Whole seconds after which to try again, for `Retry-After`.
    #[must_use]
    pub fn retry_after_seconds(self) -> u64 {
        match self {
            Self::Cpu { retry_after, .. } | Self::PerHour { retry_after, .. } => seconds(retry_after),
            Self::AtOnce { .. } => 1,
        }
    }
}

/// What `GET /stats` shows a client of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaView {
    /// CPU time used in the last minute.
    pub used: Duration,
    /// Its jobs that wait or run.
    pub active_jobs: u32,
    /// Why it may not submit now, if so.
    pub refusal: Option<QuotaRefusal>,
}

/// One client's use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientUse {
    active: u32,
    runs: VecDeque<(Moment, Duration)>,
    accepted: VecDeque<Moment>,
}

impl ClientUse {
    fn used(&self, now: Moment) -> Duration {
        self.runs
            .iter()
            .filter(|(at, _)| *at + MINUTE > now)
            .map(|(_, cpu)| *cpu)
            .sum()
    }

    #[cfg(test)]
    pub(super) fn active(&self) -> u32 {
        self.active
    }

    pub(super) fn view(&self, now: Moment, rules: Option<&QuotaRules>) -> QuotaView {
        let refusal = rules.and_then(|rules| self.check(now, rules).err());
        QuotaView {
            used: self.used(now),
            active_jobs: self.active,
            refusal,
        }
    }

    /// Whether the client may submit a job now.
    pub(super) fn check(&self, now: Moment, rules: &QuotaRules) -> Result<(), QuotaRefusal> {
        if self.active >= rules.jobs_at_once {
            return Err(QuotaRefusal::AtOnce {
                limit: rules.jobs_at_once,
            });
        }
        let in_hour: Vec<Moment> = self
            .accepted
            .iter()
            .copied()
            .filter(|at| *at + HOUR > now)
            .collect();
        let limit = usize::try_from(rules.jobs_per_hour).unwrap_or(usize::MAX);
        if in_hour.len() >= limit {
            let leaving = in_hour
                .len()
                .checked_sub(limit)
                .and_then(|at| in_hour.get(at))
                .copied();
            let retry_after = leaving.map_or(HOUR, |at| (at + HOUR).saturating_sub(now));
            return Err(QuotaRefusal::PerHour {
                limit: rules.jobs_per_hour,
                retry_after,
            });
        }
        let used = self.used(now);
        if used >= rules.cpu_per_minute {
            return Err(QuotaRefusal::Cpu {
                used,
                limit: rules.cpu_per_minute,
                retry_after: self
                    .cpu_free_at(now, used, rules.cpu_per_minute)
                    .saturating_sub(now),
            });
        }
        Ok(())
    }

    /// When enough runs have left the minute for some CPU time to be free.
    fn cpu_free_at(&self, now: Moment, used: Duration, limit: Duration) -> Moment {
        let mut left = used;
        for (at, cpu) in self.runs.iter().filter(|(at, _)| *at + MINUTE > now) {
            left = left.saturating_sub(*cpu);
            if left < limit {
                return *at + MINUTE;
            }
        }
        now + MINUTE
    }

    pub(super) fn accept(&mut self, now: Moment) {
        self.active = self.active.saturating_add(1);
        self.accepted.push_back(now);
    }

    pub(super) fn finish(&mut self, now: Moment, cpu: Duration) {
        self.active = self.active.saturating_sub(1);
        self.runs.push_back((now, cpu));
    }

    /// Drops what no longer counts; true if nothing is left of the client.
    pub(super) fn forget_old(&mut self, now: Moment) -> bool {
        // in the order in which they came: only the first ones are old
        while self.runs.front().is_some_and(|(at, _)| *at + MINUTE <= now) {
            self.runs.pop_front();
        }
        while self.accepted.front().is_some_and(|at| *at + HOUR <= now) {
            self.accepted.pop_front();
        }
        self.active == 0 && self.runs.is_empty() && self.accepted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn actual_cpu_use_counts_for_a_minute() {
        let rules = QuotaRules::default();
        let mut client = ClientUse::default();
        for (at, cpu) in [(0, 6), (10, 5)] {
            assert_eq!(client.check(SECOND * at, &rules), Ok(()));
            client.accept(SECOND * at);
            client.finish(SECOND * at, SECOND * cpu);
        }
        let refusal = client.check(SECOND * 20, &rules).unwrap_err();
        assert_eq!(
            refusal,
            QuotaRefusal::Cpu {
                used: SECOND * 11,
                limit: SECOND * 10,
                retry_after: SECOND * 40
            }
        );
        assert_eq!(client.check(SECOND * 60, &rules), Ok(()));
        assert_eq!(client.view(SECOND * 60, Some(&rules)).used, SECOND * 5);
    }

    #[test]
    fn two_at_once_and_twenty_an_hour() {
        let rules = QuotaRules::default();
        let mut client = ClientUse::default();
        client.accept(SECOND);
        client.accept(SECOND);
        assert_eq!(
            client.check(SECOND, &rules),
            Err(QuotaRefusal::AtOnce { limit: 2 })
        );
        for n in 0..20u32 {
            client.finish(SECOND * n, Duration::ZERO);
            if n < 18 {
                client.accept(SECOND * (n + 2));
            }
        }
        let refusal = client.check(SECOND * 100, &rules).unwrap_err();
        assert_eq!(
            refusal,
            QuotaRefusal::PerHour {
                limit: 20,
                retry_after: SECOND * 3501
            }
        );
        assert_eq!(client.check(SECOND * 3601, &rules), Ok(()));
    }

    proptest! {
        #[test]
        fn waiting_as_told_is_enough_and_use_never_exceeds_the_rule_by_more_than_one_run(
            runs in prop::collection::vec((0..20u64, 0..8u64), 1..40),
        ) {
            let rules = QuotaRules { jobs_at_once: 1, jobs_per_hour: 1000, ..QuotaRules::default() };
            let mut client = ClientUse::default();
            let mut now = Duration::ZERO;
            for (pause, cpu) in runs {
                now += SECOND * u32::try_from(pause).unwrap();
                if let Err(refusal) = client.check(now, &rules) {
                    now += Duration::from_secs(refusal.retry_after_seconds());
                }
                prop_assert_eq!(client.check(now, &rules), Ok(()));
                prop_assert!(client.used(now) < rules.cpu_per_minute);
                client.accept(now);
                client.finish(now, Duration::from_secs(cpu));
                prop_assert!(!client.forget_old(now));
            }
            prop_assert!(client.forget_old(now + HOUR));
        }
    }
}

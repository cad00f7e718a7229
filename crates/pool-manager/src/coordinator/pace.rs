//! When to ask a worker again: about a run, and after it refused. Pure.

use std::time::Duration;

/// Pauses before the first questions about a run, in milliseconds: a run that does nothing is over within these.
const FIRST: [u64; 7] = [2, 5, 10, 20, 50, 100, 200];
/// Pause before all others.
const LATER: Duration = Duration::from_millis(500);
/// Pause after the first refusal of a job; it doubles.
const REFUSED: Duration = Duration::from_millis(100);
/// Longest pause after a refusal.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause after so many questions about a run.
pub(super) fn before_question(asked: usize) -> Duration {
    FIRST
        .get(asked)
        .map_or(LATER, |millis| Duration::from_millis(*millis))
}

/// Whether a run has gone on for so long that what it prints is fetched while it runs.
pub(super) const fn is_long(asked: usize) -> bool {
    asked >= FIRST.len() - 1
}

/// How long a slot stays taken after its worker refused the `attempt`th attempt for now; the worker's own wish counts.
pub(super) fn after_refusal(attempt: u32, wish: Option<Duration>) -> Duration {
    let doubled = REFUSED.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    wish.unwrap_or(doubled).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_is_asked_for_often_and_a_long_one_twice_a_second() {
        let millis: Vec<u128> = (0..9).map(|it| before_question(it).as_millis()).collect();
        assert_eq!(millis, [2, 5, 10, 20, 50, 100, 200, 500, 500]);
        assert!(!is_long(5) && is_long(6));
    }

    #[test]
    fn refusals_double_the_pause_up_to_a_bound() {
        let pause = |attempt| after_refusal(attempt, None).as_millis();
        assert_eq!(
            [pause(0), pause(1), pause(2), pause(3), pause(u32::MAX)],
            [100, 100, 200, 400, 30_000]
        );
        assert_eq!(
            after_refusal(9, Some(Duration::from_secs(2))),
            Duration::from_secs(2)
        );
        assert_eq!(after_refusal(1, Some(Duration::from_secs(3_600))), LONGEST);
    }
}

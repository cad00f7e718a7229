//! When a node does what: pure decisions, with time and chance as arguments.

use std::time::Duration;

use super::wire::Protocol;

/// How long a broker is asked to wait with its answer where it has no job.
const LONG_POLL: Duration = Duration::from_secs(25);
/// Longest pause between two signs of life while a broker may want to cancel something.
const BUSY_HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a piece of output may wait for more of it before it is sent; a program that ends before sends nothing twice.
const LOG_DELAY: Duration = Duration::from_millis(200);
/// Least and longest pause after a claim that came back empty sooner than it was asked to wait: its broker is ending.
const SOON: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// A node of many slots does not ask for each by itself: it waits until a quarter of them is free, but for no longer than
/// this.
const GATHER: Duration = Duration::from_millis(20);
const FEW: u32 = 4;
/// Answers that wait for a broker which takes claims, but no answers, before no more is claimed.
const MAX_UNDELIVERED: usize = 256;

/// Pauses after failures: doubling from `first` to `longest`, each shortened by chance to between half and all of it, so
/// that many nodes do not come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The usual one.
    pub(crate) const USUAL: Self = Self {
        first: Duration::from_millis(250),
        longest: Duration::from_secs(30),
    };

    /// The pause after so many failures in a row; `chance` is from 0 to 1.
    pub(crate) fn pause(self, failures: u32, chance: f64) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        whole.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

/// How the last claim went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Last {
    /// There was none, or its pause is over, or it brought a job.
    Fresh,
    /// There was no job; so long had been waited.
    Empty { protocol: Protocol, took: Duration },
    /// It failed, so often in a row.
    Failed { failures: u32, chance: f64 },
}

/// What the next step depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// The node is to end.
    pub(crate) stopping: bool,
    /// The broker wants it to take nothing new.
    pub(crate) draining: bool,
    /// Jobs at once.
    pub(crate) slots: u32,
    /// Jobs under way.
    pub(crate) running: usize,
    /// How long there has been a free slot, since the last claim.
    pub(crate) free_for: Duration,
    /// Answers that the broker could not be told yet.
    pub(crate) undelivered: usize,
    /// Whether the executor has answered since it last failed.
    pub(crate) executor_is_up: bool,
    /// How long it still takes nothing, after attempts came to nothing here.
    pub(crate) rests_for: Duration,
    /// Pause between two claims where there was no job.
    pub(crate) poll_interval: Duration,
}

/// What is to be done next about claims.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// Nothing any more.
    End,
    /// Nothing for so long.
    Pause(Duration),
    /// Nothing until something changes here.
    Wait,
    /// Ask the executor whether it is there.
    AskExecutor,
    /// Ask for so many jobs, and let the broker wait so long.
    Claim { max: u32, wait: Duration },
}

/// Decides it.
pub(crate) fn next_step(view: &View, last: Last) -> Step {
    if view.stopping {
        return Step::End;
    }
    if !view.rests_for.is_zero() {
        return Step::Pause(view.rests_for);
    }
    match last {
        Last::Failed { failures, chance } => return Step::Pause(Backoff::USUAL.pause(failures, chance)),
        Last::Empty {
            protocol: Protocol::Plain,
            ..
        } => return Step::Pause(view.poll_interval),
        Last::Empty {
            protocol: Protocol::Two,
            took,
        } if took < LONG_POLL / 2 => return Step::Pause(view.poll_interval.clamp(SOON.0, SOON.1)),
        Last::Empty { .. } | Last::Fresh => {}
    }
    let free = view
        .slots
        .saturating_sub(u32::try_from(view.running).unwrap_or(u32::MAX));
    if view.draining || free == 0 || view.undelivered >= MAX_UNDELIVERED {
        Step::Wait
    } else if view.executor_is_up && free < view.slots / FEW && view.free_for < GATHER {
        Step::Pause(GATHER.saturating_sub(view.free_for))
    } else if view.executor_is_up {
        Step::Claim {
            max: free,
            wait: LONG_POLL,
        }
    } else {
        Step::AskExecutor
    }
}

/// How long after the last sign of life the next one is due. A broker that cancels and drains is asked more often while
/// there is something that it may want to say.
pub(crate) fn heartbeat_interval(configured: Duration, protocol: Protocol, is_busy: bool) -> Duration {
    match protocol {
        Protocol::Two if is_busy => configured.min(BUSY_HEARTBEAT),
        Protocol::Two | Protocol::Plain => configured,
    }
}

/// How long after the first piece that was not sent output is due.
pub(crate) const fn log_delay() -> Duration {
    LOG_DELAY
}

/// How long a program may run: what the job says, else what the node's operator says.
pub(crate) fn run_time(job: Option<f64>, manifest: Option<u32>, configured: Duration) -> Duration {
    let stated = job
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    manifest
        .map(|seconds| Duration::from_secs(seconds.into()))
        .or(stated)
        .unwrap_or(configured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn view() -> View {
        View {
            stopping: false,
            draining: false,
            slots: 4,
            running: 1,
            free_for: GATHER,
            undelivered: 0,
            executor_is_up: true,
            rests_for: Duration::ZERO,
            poll_interval: Duration::from_secs(5),
        }
    }

    fn step(change: impl FnOnce(&mut View), last: Last) -> Step {
        let mut view = view();
        change(&mut view);
        next_step(&view, last)
    }

    fn empty(protocol: Protocol, seconds: u64) -> Last {
        Last::Empty {
            protocol,
            took: Duration::from_secs(seconds),
        }
    }

    const CLAIM: Step = Step::Claim {
        max: 3,
        wait: LONG_POLL,
    };

    #[test]
    fn a_broker_that_waits_is_asked_again_at_once_and_one_that_does_not_after_a_pause() {
        assert_eq!(step(|_| (), Last::Fresh), CLAIM);
        assert_eq!(step(|_| (), empty(Protocol::Two, 25)), CLAIM);
        let pause = Step::Pause(Duration::from_secs(5));
        assert_eq!(step(|_| (), empty(Protocol::Plain, 0)), pause);
        assert_eq!(step(|_| (), empty(Protocol::Plain, 30)), pause);
        // an answer of ours that comes too soon must not make a hot loop
        assert_eq!(step(|_| (), empty(Protocol::Two, 0)), Step::Pause(SOON.1));
        let eager = step(|it| it.poll_interval = Duration::ZERO, empty(Protocol::Two, 0));
        assert_eq!(eager, Step::Pause(SOON.0));
    }

    #[test]
    fn nothing_is_claimed_that_could_not_be_run_or_answered() {
        assert_eq!(step(|it| it.running = 4, Last::Fresh), Step::Wait);
        assert_eq!(step(|it| it.running = 9, Last::Fresh), Step::Wait);
        assert_eq!(step(|it| it.draining = true, Last::Fresh), Step::Wait);
        let rest = Duration::from_secs(3);
        assert_eq!(step(|it| it.rests_for = rest, Last::Fresh), Step::Pause(rest));
        assert_eq!(
            step(|it| it.undelivered = MAX_UNDELIVERED, Last::Fresh),
            Step::Wait
        );
        assert_eq!(
            step(|it| it.executor_is_up = false, Last::Fresh),
            Step::AskExecutor
        );
    }

    proptest! {
        #[test]
        fn a_node_that_is_to_end_ends_whatever_else_is(running in 0_usize..9, failures in 0_u32..99, draining: bool) {
            let last = Last::Failed { failures, chance: 0.5 };
            let ended = step(|it| { it.stopping = true; it.running = running; it.draining = draining; }, last);
            prop_assert_eq!(ended, Step::End);
        }

        #[test]
        fn pauses_grow_and_never_exceed_the_longest(failures in 1_u32..200, chance in 0.0_f64..=1.0) {
            let pause = Backoff::USUAL.pause(failures, chance);
            prop_assert!(pause <= Backoff::USUAL.longest);
            prop_assert!(pause >= Backoff::USUAL.first / 2);
            prop_assert!(Backoff::USUAL.pause(failures + 1, chance) >= pause);
            prop_assert!(Backoff::USUAL.pause(failures, 0.0) * 2 >= Backoff::USUAL.pause(failures, 1.0));
        }
    }

    #[test]
    fn a_busy_node_of_a_broker_that_cancels_shows_more_often_that_it_lives() {
        let half = Duration::from_secs(30);
        assert_eq!(heartbeat_interval(half, Protocol::Plain, true), half);
        assert_eq!(heartbeat_interval(half, Protocol::Two, false), half);
        assert_eq!(heartbeat_interval(half, Protocol::Two, true), BUSY_HEARTBEAT);
        let second = Duration::from_secs(1);
        assert_eq!(heartbeat_interval(second, Protocol::Two, true), second);
    }

    #[test]
    fn a_job_runs_as_long_as_it_says() {
        let configured = Duration::from_secs(300);
        assert_eq!(run_time(None, None, configured), configured);
        assert_eq!(run_time(Some(60.0), None, configured), Duration::from_secs(60));
        assert_eq!(run_time(Some(60.0), Some(5), configured), Duration::from_secs(5));
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            assert_eq!(run_time(Some(bad), None, configured), configured);
        }
    }
}

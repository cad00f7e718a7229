//! What a node knows at one moment, and the few steps that change it. Synchronous; one lock around it is in `node.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandrun_types::{ClassId, WorkerId, node_features};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pace::{Backoff, View};
use super::wire::{Held, NodeId, Protocol, Wishes};

/// What an executor says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExecutorFacts {
    /// Its key; an anonymous one signs no receipts.
    pub(crate) worker_id: Option<WorkerId>,
    /// The classes that jobs run under, as they ask for one.
    pub(crate) classes: Vec<ClassId>,
    /// Whether it fetches the environments that jobs name.
    pub(crate) environments: bool,
}

impl ExecutorFacts {
    /// What a broker is told of it.
    pub(crate) fn features(&self) -> BTreeSet<String> {
        node_features(self.classes.iter().copied(), self.environments)
    }
}

/// How a node stands, for whoever watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) running: usize,
    pub(crate) undelivered: usize,
    pub(crate) executor_is_up: bool,
    pub(crate) draining: bool,
    /// It pauses after attempts that came to nothing here.
    pub(crate) rests: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    /// What the broker calls this node; `None` until it has registered.
    pub(crate) node_id: Option<NodeId>,
    pub(crate) protocol: Protocol,
    pub(crate) draining: bool,
    /// `None` until it has answered, and after it has failed.
    pub(crate) executor: Option<ExecutorFacts>,
    /// What the broker was told of the executor.
    pub(crate) told: Option<BTreeSet<String>>,
    /// Jobs under way, and how each is told to stop.
    running: BTreeMap<Held, CancellationToken>,
    /// Attempts whose answers the broker could not be told yet.
    undelivered: BTreeSet<Held>,
    /// Attempts that came to nothing, while the broker is told so.
    given_up: BTreeSet<Held>,
    /// The number of the last claim.
    last_claim: u64,
    /// Every claim up to this one is settled: its answer was read whole, and what it brought is in `held`, or it never
    /// will be read.
    settled: u64,
    /// When a slot became free, since the last claim.
    pub(crate) free_since: Option<Instant>,
    /// Pauses since an attempt last ended with an answer, and until when the last one lasts.
    faults: u32,
    rests_until: Option<Instant>,
}

impl State {
    /// `first` is higher than the number of every claim that this node has ever made: its processes count from the
    /// milliseconds since 1970.
    pub(crate) const fn new(first: u64) -> Self {
        Self {
            node_id: None,
            protocol: Protocol::Plain,
            draining: false,
            executor: None,
            told: None,
            running: BTreeMap::new(),
            undelivered: BTreeSet::new(),
            given_up: BTreeSet::new(),
            last_claim: first,
            settled: first,
            free_since: None,
            faults: 0,
            rests_until: None,
        }
    }

    /// What the broker calls this node, as long as what it was told of the executor is still so.
    pub(crate) fn known(&self) -> Option<NodeId> {
        let features = self.executor.as_ref().map(ExecutorFacts::features);
        let is_told = features.is_none() || features == self.told;
        self.node_id.clone().filter(|_| is_told)
    }

    /// An attempt came to nothing here, and another node may do better: a machine that is broken (its disk is full) must not
    /// take job after job, and use up their attempts. What goes wrong during a pause is part of the same trouble.
    pub(crate) fn fault(&mut self, chance: f64) {
        let now = Instant::now();
        if self.rests_until.is_none_or(|until| until <= now) {
            self.faults = self.faults.saturating_add(1);
            self.rests_until = Some(now + Backoff::USUAL.pause(self.faults, chance));
        }
    }

    /// An attempt ended with an answer.
    pub(crate) const fn sound(&mut self) {
        self.faults = 0;
        self.rests_until = None;
    }

    /// The number of a claim that is made now. There is one at a time.
    pub(crate) fn next_claim(&mut self) -> u64 {
        self.last_claim += 1;
        self.last_claim
    }

    /// The claim's answer was read whole and [`Self::begin`] was called with all that it brought, or nobody will read it.
    pub(crate) fn settle(&mut self, claim: u64) {
        self.settled = self.settled.max(claim);
    }

    /// Takes a job on; `None` where it is under way already, or answered.
    pub(crate) fn begin(&mut self, held: &Held) -> Option<CancellationToken> {
        if self.running.contains_key(held) || self.undelivered.contains(held) {
            return None;
        }
        let token = CancellationToken::new();
        self.running.insert(held.clone(), token.clone());
        Some(token)
    }

    /// A job is over.
    pub(crate) fn end(&mut self, held: &Held) {
        self.running.remove(held);
        self.free_since = self.free_since.or_else(|| Some(Instant::now()));
    }

    /// An attempt has come to nothing, of which the broker is told now.
    pub(crate) fn give_up(&mut self, held: &Held) {
        self.given_up.insert(held.clone());
    }

    /// The broker knows that it came to nothing, or does not want to.
    pub(crate) fn has_given_up(&mut self, held: &Held) {
        self.given_up.remove(held);
    }

    /// A job has an answer that is still to be told.
    pub(crate) fn keep_answer(&mut self, held: &Held) {
        self.undelivered.insert(held.clone());
    }

    /// There is nothing more to be told about it.
    pub(crate) fn drop_answer(&mut self, held: &Held) {
        self.undelivered.remove(held);
    }

    /// Attempts that this node answers for: under way, or with an answer or a failure that is still to be told.
    pub(crate) fn held(&self) -> Vec<Held> {
        let told_later = self.undelivered.iter().chain(&self.given_up);
        self.running.keys().chain(told_later).cloned().collect()
    }

    /// Up to which claim the broker may go by [`Self::held`]: what it gave in answer to those and is not in there this node
    /// does not have. Both are to be read under one lock. `None` where an attempt is known without its number.
    pub(crate) fn answered_up_to(&self) -> Option<u64> {
        let has_number = |held: &Held| held.attempt.is_some();
        self.held().iter().all(has_number).then_some(self.settled)
    }

    /// Does what the broker wishes; returns the jobs that are told to stop now.
    pub(crate) fn obey(&mut self, wishes: &Wishes) -> Vec<Held> {
        self.draining = wishes.drain.unwrap_or(false);
        let unwanted = wishes.cancel.iter().filter_map(|held| {
            let (held, token) = self.running.get_key_value(held)?;
            (!token.is_cancelled()).then(|| {
                token.cancel();
                held.clone()
            })
        });
        unwanted.collect()
    }

    /// Whether the broker may have something to say that does not wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.draining || !self.running.is_empty()
    }

    /// How it stands.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            running: self.running.len(),
            undelivered: self.undelivered.len(),
            executor_is_up: self.executor.is_some(),
            draining: self.draining,
            rests: self.rests_until.is_some_and(|until| until > Instant::now()),
        }
    }

    /// What the next step depends on.
    pub(crate) fn view(&self, stopping: bool, slots: u32, poll_interval: Duration) -> View {
        View {
            stopping,
            draining: self.draining,
            slots,
            running: self.running.len(),
            free_for: self.free_since.map_or(Duration::MAX, |since| since.elapsed()),
            undelivered: self.undelivered.len(),
            executor_is_up: self.executor.is_some(),
            rests_for: self.rests_until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now())
            }),
            poll_interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::wire::BrokerJob;
    use sandrun_types::Attempt;

    fn held(job: &str, attempt: u32) -> Held {
        Held {
            id: BrokerJob(job.to_owned()),
            attempt: Some(Attempt(attempt)),
        }
    }

    #[test]
    fn trouble_here_makes_pauses_that_grow_until_an_attempt_is_answered() {
        let mut state = State::new(0);
        let rests = |state: &State| state.view(false, 4, Duration::ZERO).rests_for;
        assert_eq!(rests(&state), Duration::ZERO);
        state.fault(1.0);
        let first = rests(&state);
        assert!(!first.is_zero() && first <= Backoff::USUAL.first, "{first:?}");
        // several jobs of one trouble are one
        state.fault(1.0);
        assert!(rests(&state) <= first);
        state.rests_until = Some(Instant::now());
        state.fault(1.0);
        assert!(rests(&state) > first, "the second pause is longer");
        state.sound();
        assert_eq!(rests(&state), Duration::ZERO);
        state.fault(1.0);
        assert!(rests(&state) <= Backoff::USUAL.first);
    }

    #[test]
    fn a_job_is_taken_on_once_and_cancelled_once_and_by_its_attempt() {
        let mut state = State::new(7);
        assert_eq!((state.answered_up_to(), state.next_claim()), (Some(7), 8));
        assert_eq!(state.answered_up_to(), Some(7));
        let token = state.begin(&held("a", 2)).unwrap();
        state.settle(8);
        assert_eq!(
            (state.answered_up_to(), state.held()),
            (Some(8), vec![held("a", 2)])
        );
        assert!(state.begin(&held("a", 2)).is_none());
        let other = state.begin(&held("b", 1)).unwrap();
        let wishes = |attempt| Wishes {
            cancel: vec![held("a", attempt), held("gone", 1)],
            drain: Some(true),
        };
        assert_eq!(state.obey(&wishes(1)), []);
        assert!(!token.is_cancelled());
        assert_eq!(state.obey(&wishes(2)), [held("a", 2)]);
        assert!(token.is_cancelled() && !other.is_cancelled());
        assert_eq!(state.obey(&wishes(2)), []);
        assert!(state.draining && state.is_busy());
        state.keep_answer(&held("b", 1));
        state.end(&held("a", 2));
        state.end(&held("b", 1));
        assert_eq!(state.held(), [held("b", 1)]);
        assert!(state.begin(&held("b", 1)).is_none());
        state.drop_answer(&held("b", 1));
        assert_eq!(state.held(), []);
        assert_eq!(state.obey(&Wishes::default()), []);
        assert!(!state.draining && !state.is_busy());
        state.give_up(&held("c", 1));
        assert_eq!(state.held(), [held("c", 1)]);
        state.has_given_up(&held("c", 1));
        let unnumbered = Held {
            attempt: None,
            ..held("d", 1)
        };
        state.keep_answer(&unnumbered);
        assert_eq!(state.answered_up_to(), None);
    }
}

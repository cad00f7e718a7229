//! What has been promised and whether it holds, from what was written and from what left the service.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{
    Action, Answered, FailReason, JobEnd, JobLife, JobNumber, JobSnapshot, NodeStatus, OpenJob, Pool,
    Settings,
};

use super::call::{Answer, Key, LeaseId};
use super::store::{Store, Writes};

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Attempts that were given out, to whom.
    given: BTreeMap<(JobNumber, u32), LeaseId>,
    /// Attempts whose answers count.
    accepted: BTreeMap<(JobNumber, u32), Answered>,
    /// Which job a client was told for its key.
    acknowledged: BTreeMap<Key, JobNumber>,
    /// Every action that was written, in words.
    pub(crate) history: Vec<String>,
    /// How many retries each job has had, but for attempts that its node never had.
    retried: BTreeMap<JobNumber, u8>,
    /// Leases that ended because their nodes said that they do not have them.
    pub(crate) not_held: Vec<LeaseId>,
    pub(crate) ends: BTreeMap<&'static str, usize>,
    pub(crate) actions: BTreeMap<&'static str, usize>,
}

impl Ledger {
    /// Leases go to nodes that take jobs, and no more of them than the node has slots.
    pub(crate) fn check_places(&mut self, pool: &Pool, actions: &[Action]) {
        for action in actions {
            let Action::Lease { job, node, .. } = action else {
                continue;
            };
            let view = pool.nodes().find(|it| it.number == *node).unwrap();
            assert_eq!(view.status, NodeStatus::Up, "job {job} was given to {view:?}");
            assert!(view.active <= view.spec.slots, "too many jobs: {view:?}");
            let snapshot = pool.job_snapshot(*job).unwrap();
            if let JobLife::Open(open) = snapshot.life {
                assert!(view.spec.offer.meets(&open.needs), "{view:?} can't do {open:?}");
            }
        }
    }

    /// What a transaction is about to write.
    pub(crate) fn look_at(
        &mut self,
        now: u64,
        settings: &Settings,
        store: &Store,
        writes: &Writes,
        actions: &[Action],
    ) {
        let is_new = |key: &&Key| store.keys.contains_key(key);
        assert_eq!(writes.keys.keys().find(is_new), None, "a key has two jobs");
        let mut ended = BTreeSet::new();
        for action in actions {
            self.look_at_action(now, action, settings, store, writes);
            if let Action::End { job, .. } = action {
                assert!(ended.insert(*job), "job {job} ended twice at once");
            }
        }
        for (job, after) in &writes.jobs {
            let before = store.job(*job);
            self.look_at_job(*job, settings, before, after, writes, store);
            let has_ended = matches!(after.life, JobLife::Ended { .. });
            let was_open = before.is_none_or(|it| matches!(it.life, JobLife::Open(_)));
            assert_eq!(
                has_ended && was_open,
                ended.contains(job),
                "job {job}: its end and its row differ"
            );
        }
    }

    fn look_at_action(
        &mut self,
        now: u64,
        action: &Action,
        settings: &Settings,
        store: &Store,
        writes: &Writes,
    ) {
        if !matches!(action, Action::NoWork { .. }) {
            self.history.push(format!("{now} {action:?}"));
        }
        let name = match *action {
            Action::Lease {
                job,
                node,
                attempt,
                until,
                ..
            } => {
                assert!(until.0 > now);
                let lease = LeaseId { job, node, attempt };
                let other = self.given.insert((job, attempt.0), lease);
                assert_eq!(other, None, "attempt {attempt} of job {job} was given out twice");
                let spec = store.specs.get(&job).or_else(|| writes.specs.get(&job)).unwrap();
                for parent in &spec.parents {
                    let row = writes.jobs.get(parent).or_else(|| store.job(*parent));
                    assert!(
                        did_well(row.unwrap()),
                        "job {job} began before its parent {parent}"
                    );
                }
                "lease"
            }
            Action::NoWork { .. } => "no work",
            Action::Stop { .. } => "stop",
            Action::Retry { job, attempt, reason } => {
                if reason == FailReason::NotHeld {
                    self.not_held.push(self.given[&(job, attempt.0)]);
                } else {
                    let retried = self.retried.entry(job).or_default();
                    *retried += 1;
                    assert!(
                        *retried <= settings.max_retries,
                        "job {job} was tried again {retried} times"
                    );
                }
                "retry"
            }
            Action::ExtraPlaces { .. } => "extra places",
            Action::End { .. } => "end",
            Action::NodeLost { .. } => "node lost",
        };
        *self.actions.entry(name).or_default() += 1;
    }

    fn look_at_job(
        &mut self,
        job: JobNumber,
        settings: &Settings,
        before: Option<&JobSnapshot>,
        after: &JobSnapshot,
        writes: &Writes,
        store: &Store,
    ) {
        let spec = store.specs.get(&job).or_else(|| writes.specs.get(&job)).unwrap();
        let (leases, answers, retries) = match before.map(|it| &it.life) {
            None => (vec![], vec![], settings.max_retries),
            Some(JobLife::Open(open)) => (open.leases.clone(), open.answers.clone(), open.retries_left),
            Some(JobLife::Ended { .. }) => {
                assert_eq!(before, Some(after), "job {job} changed after its end");
                return;
            }
        };
        let now_counts = match &after.life {
            JobLife::Open(open) => {
                self.check_open(job, open, &leases);
                let extra = if spec.replicas > 1 {
                    settings.policy.extra_places
                } else {
                    0
                };
                let places = usize::from(open.waiting) + open.leases.len() + open.answers.len();
                let most = usize::from(spec.replicas) + usize::from(extra - open.extra_places);
                assert!(places <= most, "job {job} has {places} places of {most}");
                assert!(
                    open.retries_left <= retries,
                    "job {job} has more retries left than before"
                );
                &open.answers
            }
            JobLife::Ended { end, accepted } => {
                self.check_end(job, *end, accepted, usize::from(spec.quorum), writes, store);
                accepted
            }
        };
        for answer in &answers {
            assert!(now_counts.contains(answer), "job {job} has lost {answer:?}");
        }
        for answer in now_counts.iter().filter(|it| !answers.contains(it)) {
            let at = (job, answer.attempt.0);
            assert_eq!(
                self.given.get(&at).map(|it| it.node),
                Some(answer.node),
                "{answer:?}"
            );
            let other = self.accepted.insert(at, *answer);
            assert_eq!(
                other, None,
                "an attempt of job {job} was accepted twice: {answer:?}"
            );
        }
        let mut nodes: Vec<_> = now_counts.iter().map(|it| it.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), now_counts.len(), "job {job}: a node answered twice");
    }

    fn check_open(&self, job: JobNumber, open: &OpenJob, before: &[sandrun_core::pool::Lease]) {
        let mut attempts = BTreeSet::new();
        for lease in &open.leases {
            assert!(
                attempts.insert(lease.attempt),
                "job {job}: two leases of one attempt"
            );
            let given = self.given.get(&(job, lease.attempt.0)).map(|it| it.node);
            assert_eq!(
                given,
                Some(lease.node),
                "job {job}: {lease:?} was never given out"
            );
            let is_answered = self.accepted.contains_key(&(job, lease.attempt.0));
            assert!(!is_answered, "job {job}: {lease:?} goes on after its answer");
        }
        // a lease is never handed on under its number
        for lease in before {
            let same = open.leases.iter().find(|it| it.attempt == lease.attempt);
            assert!(same.is_none_or(|it| it.node == lease.node && it.until >= lease.until));
        }
    }

    fn check_end(
        &mut self,
        job: JobNumber,
        end: JobEnd,
        accepted: &[Answered],
        quorum: usize,
        writes: &Writes,
        store: &Store,
    ) {
        let name = match end {
            JobEnd::Agreed(digest) => {
                let votes = accepted.iter().filter(|it| it.digest == digest).count();
                assert!(
                    votes >= quorum && 2 * votes > accepted.len(),
                    "job {job}: {votes} votes of {accepted:?}"
                );
                "agreed"
            }
            JobEnd::Cancelled => "cancelled",
            JobEnd::Failed(FailReason::Parent(parent)) => {
                let row = writes.jobs.get(&parent).or_else(|| store.job(parent)).unwrap();
                let has_ended = matches!(row.life, JobLife::Ended { .. });
                assert!(
                    has_ended && !did_well(row),
                    "job {job} failed by {parent}: {row:?}"
                );
                "parent"
            }
            JobEnd::Failed(FailReason::Attempt) => "attempt",
            JobEnd::Failed(FailReason::Refused) => "refused",
            JobEnd::Failed(FailReason::LeaseOver) => "lease over",
            JobEnd::Failed(FailReason::NodeLost) => "node lost",
            JobEnd::Failed(FailReason::NotHeld) => "not held",
            JobEnd::Failed(FailReason::BadSignature) => "bad signature",
            JobEnd::Failed(FailReason::NoAgreement) => "no agreement",
        };
        *self.ends.entry(name).or_default() += 1;
    }

    /// After a commit memory and disk say the same: each job is in exactly one state.
    pub(crate) fn compare(&mut self, store: &Store, pool: &Pool) {
        let counts = pool.counts();
        let open = counts.blocked + counts.queued + counts.running;
        assert_eq!((open, counts.ended), (store.open().count(), 0), "{counts:?}");
        assert_eq!(pool.jobs().count(), open);
        // all of it now and then: most commits change little
        for job in pool.jobs().filter(|_| store.commits.is_multiple_of(4)) {
            let here = pool.job_snapshot(job);
            assert_eq!(here.as_ref(), store.job(job), "job {job} differs on disk");
        }
        assert_eq!(store.jobs.len(), store.specs.len(), "a job was lost");
    }

    /// What reaches somebody was written before.
    pub(crate) fn hear(&mut self, answer: Answer, store: &Store) {
        match answer {
            Answer::Accepted { key, job } => {
                assert!(store.jobs.contains_key(&job), "{answer:?}");
                let first = *self.acknowledged.entry(key).or_insert(job);
                assert_eq!(first, job, "{key:?} has two jobs");
            }
            Answer::Cancelled { job } => {
                let end = store.job(job).map(|it| it.life.clone());
                let is_cancelled = matches!(
                    end,
                    Some(JobLife::Ended {
                        end: JobEnd::Cancelled,
                        ..
                    })
                );
                assert!(is_cancelled, "{answer:?}: {end:?}");
            }
            Answer::Over { job } => assert!(!store.is_open(job), "{answer:?}"),
            Answer::Leased { lease, .. } => {
                assert_eq!(self.given.get(&(lease.job, lease.attempt.0)), Some(&lease));
            }
            Answer::Known { node } => assert!(store.nodes.contains_key(&node), "{answer:?}"),
            Answer::NoWork { .. }
            | Answer::Unknown { .. }
            | Answer::Stop(_)
            | Answer::Counted(_)
            | Answer::Stale(_) => {}
        }
    }

    /// Whether the answer of an attempt counts.
    pub(crate) fn counts(&self, lease: LeaseId) -> bool {
        self.accepted.contains_key(&(lease.job, lease.attempt.0))
    }
}

/// Whether a job's children may start.
fn did_well(row: &JobSnapshot) -> bool {
    let JobLife::Ended {
        end: JobEnd::Agreed(digest),
        accepted,
    } = &row.life
    else {
        return false;
    };
    accepted
        .iter()
        .filter(|it| it.digest == *digest)
        .all(|it| it.success)
}

//! What has been promised and whether it holds, from what was written and from what left the service.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{
    Action, Answered, FailReason, JobEnd, JobLife, JobNumber, JobSnapshot, Lease, NodeStatus, OpenJob, Pool,
    Settings,
};

use crate::census::Census;
use crate::violation::{Known as _, Violation, promise, promise_eq};

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
    /// What was written since it was taken, in words.
    pub(crate) lines: Vec<String>,
    /// Events that were applied.
    pub(crate) steps: u64,
    /// How many retries each job has had, but for attempts that its node never had.
    retried: BTreeMap<JobNumber, u8>,
    /// Leases that ended because their nodes said that they do not have them.
    pub(crate) not_held: Vec<LeaseId>,
    ends: BTreeMap<&'static str, u64>,
    retries: BTreeMap<&'static str, u64>,
    actions: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Leases go to nodes that take jobs, and no more of them than the node has slots.
    pub(crate) fn check_places(&mut self, pool: &Pool, actions: &[Action]) -> Result<(), Violation> {
        for action in actions {
            let Action::Lease { job, node, .. } = action else {
                continue;
            };
            let view = pool.nodes().find(|it| it.number == *node).known()?;
            promise_eq!(view.status, NodeStatus::Up, "job {job} was given to {view:?}");
            promise!(view.active <= view.spec.slots, "too many jobs: {view:?}");
            let snapshot = pool.job_snapshot(*job).known()?;
            if let JobLife::Open(open) = snapshot.life {
                promise!(view.spec.offer.meets(&open.needs), "{view:?} can't do {open:?}");
            }
        }
        Ok(())
    }

    /// What a transaction is about to write.
    pub(crate) fn look_at(
        &mut self,
        now: u64,
        settings: &Settings,
        store: &Store,
        writes: &Writes,
        actions: &[Action],
    ) -> Result<(), Violation> {
        let is_new = |key: &&Key| store.keys.contains_key(key);
        promise_eq!(writes.keys.keys().find(is_new), None, "a key has two jobs");
        let mut ended = BTreeSet::new();
        for action in actions {
            self.look_at_action(now, action, settings, store, writes)?;
            if let Action::End { job, .. } = action {
                promise!(ended.insert(*job), "job {job} ended twice at once");
            }
        }
        for (job, after) in &writes.jobs {
            let before = store.job(*job);
            self.look_at_job(*job, settings, before, after, writes, store)?;
            let has_ended = matches!(after.life, JobLife::Ended { .. });
            let was_open = before.is_none_or(|it| matches!(it.life, JobLife::Open(_)));
            promise_eq!(
                has_ended && was_open,
                ended.contains(job),
                "job {job}: its end and its row differ"
            );
        }
        Ok(())
    }

    fn look_at_action(
        &mut self,
        now: u64,
        action: &Action,
        settings: &Settings,
        store: &Store,
        writes: &Writes,
    ) -> Result<(), Violation> {
        if !matches!(action, Action::NoWork { .. }) {
            self.lines.push(format!("{action:?}"));
        }
        let name = match *action {
            Action::Lease {
                job,
                node,
                attempt,
                until,
                ..
            } => {
                promise!(until.0 > now, "a lease of job {job} is over when it begins");
                let lease = LeaseId { job, node, attempt };
                let other = self.given.insert((job, attempt.0), lease);
                promise_eq!(other, None, "attempt {attempt} of job {job} was given out twice");
                let spec = store.specs.get(&job).or_else(|| writes.specs.get(&job)).known()?;
                for parent in &spec.parents {
                    let row = writes.jobs.get(parent).or_else(|| store.job(*parent));
                    promise!(
                        did_well(row.known()?),
                        "job {job} began before its parent {parent}"
                    );
                }
                "lease"
            }
            Action::NoWork { .. } => "no work",
            Action::Stop { .. } => "stop",
            Action::Retry { job, attempt, reason } => {
                *self.retries.entry(reason_name(reason)).or_default() += 1;
                if reason == FailReason::NotHeld {
                    self.not_held.push(*self.given.get(&(job, attempt.0)).known()?);
                } else {
                    let retried = self.retried.entry(job).or_default();
                    *retried += 1;
                    promise!(
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
        Ok(())
    }

    fn look_at_job(
        &mut self,
        job: JobNumber,
        settings: &Settings,
        before: Option<&JobSnapshot>,
        after: &JobSnapshot,
        writes: &Writes,
        store: &Store,
    ) -> Result<(), Violation> {
        let spec = store.specs.get(&job).or_else(|| writes.specs.get(&job)).known()?;
        let (leases, answers, retries) = match before.map(|it| &it.life) {
            None => (vec![], vec![], settings.max_retries),
            Some(JobLife::Open(open)) => (open.leases.clone(), open.answers.clone(), open.retries_left),
            Some(JobLife::Ended { .. }) => {
                promise_eq!(before, Some(after), "job {job} changed after its end");
                return Ok(());
            }
        };
        let now_counts = match &after.life {
            JobLife::Open(open) => {
                self.check_open(job, open, &leases)?;
                let extra = if spec.replicas > 1 {
                    settings.policy.extra_places
                } else {
                    0
                };
                let places = usize::from(open.waiting) + open.leases.len() + open.answers.len();
                let most = usize::from(spec.replicas) + usize::from(extra - open.extra_places);
                promise!(places <= most, "job {job} has {places} places of {most}");
                promise!(
                    open.retries_left <= retries,
                    "job {job} has more retries left than before"
                );
                &open.answers
            }
            JobLife::Ended { end, accepted } => {
                self.check_end(job, *end, accepted, usize::from(spec.quorum), writes, store)?;
                accepted
            }
        };
        for answer in &answers {
            promise!(now_counts.contains(answer), "job {job} has lost {answer:?}");
        }
        for answer in now_counts.iter().filter(|it| !answers.contains(it)) {
            let at = (job, answer.attempt.0);
            promise_eq!(
                self.given.get(&at).map(|it| it.node),
                Some(answer.node),
                "{answer:?}"
            );
            let other = self.accepted.insert(at, *answer);
            promise_eq!(
                other,
                None,
                "an attempt of job {job} was accepted twice: {answer:?}"
            );
        }
        let mut nodes: Vec<_> = now_counts.iter().map(|it| it.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        promise_eq!(nodes.len(), now_counts.len(), "job {job}: a node answered twice");
        Ok(())
    }

    fn check_open(&self, job: JobNumber, open: &OpenJob, before: &[Lease]) -> Result<(), Violation> {
        let mut attempts = BTreeSet::new();
        for lease in &open.leases {
            promise!(
                attempts.insert(lease.attempt),
                "job {job}: two leases of one attempt"
            );
            let given = self.given.get(&(job, lease.attempt.0)).map(|it| it.node);
            promise_eq!(
                given,
                Some(lease.node),
                "job {job}: {lease:?} was never given out"
            );
            let is_answered = self.accepted.contains_key(&(job, lease.attempt.0));
            promise!(!is_answered, "job {job}: {lease:?} goes on after its answer");
        }
        // a lease is never handed on under its number
        for lease in before {
            let same = open.leases.iter().find(|it| it.attempt == lease.attempt);
            promise!(
                same.is_none_or(|it| it.node == lease.node && it.until >= lease.until),
                "job {job}: {lease:?} became {same:?}"
            );
        }
        Ok(())
    }

    fn check_end(
        &mut self,
        job: JobNumber,
        end: JobEnd,
        accepted: &[Answered],
        quorum: usize,
        writes: &Writes,
        store: &Store,
    ) -> Result<(), Violation> {
        let name = match end {
            JobEnd::Agreed(digest) => {
                let votes = accepted.iter().filter(|it| it.digest == digest).count();
                promise!(
                    votes >= quorum && 2 * votes > accepted.len(),
                    "job {job}: {votes} votes of {accepted:?}"
                );
                "agreed"
            }
            JobEnd::Cancelled => "cancelled",
            JobEnd::Failed(FailReason::Parent(parent)) => {
                let row = writes.jobs.get(&parent).or_else(|| store.job(parent)).known()?;
                let has_ended = matches!(row.life, JobLife::Ended { .. });
                promise!(
                    has_ended && !did_well(row),
                    "job {job} failed by {parent}: {row:?}"
                );
                reason_name(FailReason::Parent(parent))
            }
            JobEnd::Failed(reason) => reason_name(reason),
        };
        *self.ends.entry(name).or_default() += 1;
        Ok(())
    }

    /// After a commit memory and disk say the same: each job is in exactly one state.
    pub(crate) fn compare(&self, store: &Store, pool: &Pool) -> Result<(), Violation> {
        let counts = pool.counts();
        let open = counts.blocked + counts.queued + counts.running;
        promise_eq!((open, counts.ended), (store.open().count(), 0), "{counts:?}");
        promise_eq!(pool.jobs().count(), open, "jobs in memory");
        // all of it now and then: most commits change little
        for job in pool.jobs().filter(|_| store.commits.is_multiple_of(4)) {
            let here = pool.job_snapshot(job);
            promise_eq!(here.as_ref(), store.job(job), "job {job} differs on disk");
        }
        promise_eq!(store.jobs.len(), store.specs.len(), "a job was lost");
        Ok(())
    }

    /// What reaches somebody was written before.
    pub(crate) fn hear(&mut self, answer: Answer, store: &Store) -> Result<(), Violation> {
        match answer {
            Answer::Accepted { key, job } => {
                promise!(store.jobs.contains_key(&job), "{answer:?}");
                let first = *self.acknowledged.entry(key).or_insert(job);
                promise_eq!(first, job, "{key:?} has two jobs");
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
                promise!(is_cancelled, "{answer:?}: {end:?}");
            }
            Answer::Over { job } => promise!(!store.is_open(job), "{answer:?}"),
            Answer::Leased { lease, .. } => {
                let given = self.given.get(&(lease.job, lease.attempt.0));
                promise_eq!(given, Some(&lease), "a lease that was not written");
            }
            Answer::Known { node } => promise!(store.nodes.contains_key(&node), "{answer:?}"),
            Answer::NoWork { .. }
            | Answer::Unknown { .. }
            | Answer::Stop(_)
            | Answer::Counted(_)
            | Answer::Stale(_) => {}
        }
        Ok(())
    }

    /// Counts the rows that were reached.
    pub(crate) fn count(&self, service: &str, census: &mut Census) {
        for (of, counts) in [
            ("", &self.actions),
            ("end: ", &self.ends),
            ("retry: ", &self.retries),
        ] {
            for (name, count) in counts {
                *census.rows.entry(format!("{service}: {of}{name}")).or_default() += count;
            }
        }
    }

    /// Whether the answer of an attempt counts.
    pub(crate) fn counts(&self, lease: LeaseId) -> bool {
        self.accepted.contains_key(&(lease.job, lease.attempt.0))
    }
}

/// A reason's name.
const fn reason_name(reason: FailReason) -> &'static str {
    match reason {
        FailReason::Parent(_) => "parent",
        FailReason::Attempt => "attempt",
        FailReason::Refused => "refused",
        FailReason::LeaseOver => "lease over",
        FailReason::NodeLost => "node lost",
        FailReason::NotHeld => "not held",
        FailReason::BadSignature => "bad signature",
        FailReason::NoAgreement => "no agreement",
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

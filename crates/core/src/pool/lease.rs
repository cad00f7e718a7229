//! Leases: their steps, and the ways in which they end.

use std::collections::BTreeSet;

use sandrun_types::{Attempt, UnixSeconds};

use super::job::{Job, Life, Open, as_parent};
use super::{
    Action, Answered, ClaimNumber, FailReason, Illegal, JobEnd, JobNumber, Lease, LeaseStep, NodeNumber,
    NodeStatus, Pool, Report, SignatureCheck, Verification,
};

/// Up to this attempt one that its node never had costs the job no retry. Later ones do: a job that brings down whoever
/// gets it has to end.
const FREE_ATTEMPTS: Attempt = Attempt(16);

impl Pool {
    /// The lease that a node holds under this number.
    fn held(&self, job: JobNumber, node: NodeNumber, attempt: Attempt) -> Result<(&Open, &Lease), Illegal> {
        let stale = Illegal::StaleAttempt { job, node, attempt };
        let known = self.jobs.get(job).ok_or(Illegal::UnknownJob(job))?;
        let open = known.open().ok_or(stale)?;
        let index = open.lease(node, attempt).ok_or(stale)?;
        open.leases.get(index).map(|lease| (open, lease)).ok_or(stale)
    }

    /// Notes in the answer to which claim a lease goes out.
    pub(super) fn handed(
        &mut self,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
        claim: ClaimNumber,
    ) -> Result<(), Illegal> {
        self.held(job, node, attempt)?;
        let open = self.jobs.get_mut(job).and_then(Job::open_mut);
        if let Some(open) = open
            && let Some(index) = open.lease(node, attempt)
            && let Some(lease) = open.leases.get_mut(index)
        {
            lease.claim = Some(claim);
        }
        self.touch(job);
        Ok(())
    }

    /// Ends the leases of a node that came in answers which it has read, or never will, and that it does not have.
    pub(super) fn holds(
        &mut self,
        node: NodeNumber,
        settled: ClaimNumber,
        held: &BTreeSet<(JobNumber, Attempt)>,
        out: &mut Vec<Action>,
    ) -> Result<(), Illegal> {
        if !self.nodes.contains_key(&node) {
            return Err(Illegal::UnknownNode(node));
        }
        let leases = self.held.get(&node).into_iter().flatten();
        let missing: Vec<(JobNumber, Attempt)> = leases
            .filter(|lease| !held.contains(lease))
            .filter(|(job, attempt)| {
                let lease = self.held(*job, node, *attempt);
                lease.is_ok_and(|(_, lease)| lease.claim.is_some_and(|claim| claim <= settled))
            })
            .copied()
            .collect();
        for (job, attempt) in missing {
            self.come_to_nothing(job, node, attempt, FailReason::NotHeld, true, out);
        }
        Ok(())
    }

    pub(super) fn started(
        &mut self,
        now: UnixSeconds,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
    ) -> Result<(), Illegal> {
        let (_, lease) = self.held(job, node, attempt)?;
        if lease.step == LeaseStep::Committed {
            return Err(Illegal::OutOfTurn {
                job,
                attempt,
                event: "started",
            });
        }
        if lease.step != LeaseStep::Started {
            self.advance(job, node, attempt, LeaseStep::Started);
        }
        self.hear(now, node);
        Ok(())
    }

    /// A commit gives its node as long again to reveal.
    pub(super) fn committed(
        &mut self,
        now: UnixSeconds,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
    ) -> Result<(), Illegal> {
        let (open, lease) = self.held(job, node, attempt)?;
        let has_commits = self.settings.policy.verification == Verification::CommitReveal;
        if !has_commits || lease.step == LeaseStep::Committed || open.places_are_closed() {
            return Err(Illegal::OutOfTurn {
                job,
                attempt,
                event: "committed",
            });
        }
        let old = lease.until;
        let until = now.plus(u64::from(open.lease_seconds)).max(old);
        self.expiries.remove(&(old, job, attempt, node));
        self.expiries.insert((until, job, attempt, node));
        self.advance(job, node, attempt, LeaseStep::Committed);
        let open = self.jobs.get_mut(job).and_then(Job::open_mut);
        if let Some(lease) = open.and_then(|open| {
            let index = open.lease(node, attempt)?;
            open.leases.get_mut(index)
        }) {
            lease.until = until;
        }
        self.hear(now, node);
        Ok(())
    }

    fn advance(&mut self, job: JobNumber, node: NodeNumber, attempt: Attempt, step: LeaseStep) {
        let open = self.jobs.get_mut(job).and_then(Job::open_mut);
        let lease = open.and_then(|open| {
            open.leases
                .iter_mut()
                .find(|it| it.node == node && it.attempt == attempt)
        });
        if let Some(lease) = lease {
            lease.step = lease.step.max(step);
        }
        self.touch(job);
    }

    pub(super) fn answered(
        &mut self,
        now: UnixSeconds,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
        report: Report,
        out: &mut Vec<Action>,
    ) -> Result<(), Illegal> {
        let answer = Answered {
            node,
            attempt,
            digest: report.digest,
            success: report.success,
        };
        if self.is_repeat(job, &answer) {
            return Ok(());
        }
        let (open, lease) = self.held(job, node, attempt)?;
        let verification = self.settings.policy.verification;
        let all_committed = open.leases.iter().all(|it| it.step == LeaseStep::Committed);
        if verification == Verification::CommitReveal
            && !(lease.step == LeaseStep::Committed && all_committed)
        {
            return Err(Illegal::OutOfTurn {
                job,
                attempt,
                event: "answered",
            });
        }
        self.hear(now, node);
        let believed = match (verification, report.signature) {
            (_, SignatureCheck::Valid) => true,
            (_, SignatureCheck::Invalid) | (Verification::Signature, SignatureCheck::Absent) => false,
            (Verification::CommitReveal | Verification::Replicas, SignatureCheck::Absent) => true,
        };
        if !believed {
            self.come_to_nothing(job, node, attempt, FailReason::BadSignature, true, out);
            return Ok(());
        }
        self.release(job, node, attempt);
        if verification == Verification::CommitReveal {
            // seats that nobody took by now stay empty
            self.close_places(job);
        }
        if let Some(open) = self.jobs.get_mut(job).and_then(Job::open_mut) {
            open.answers.push(answer);
        }
        self.touch(job);
        self.settle(job, out);
        Ok(())
    }

    /// Whether this very answer was accepted before.
    fn is_repeat(&self, job: JobNumber, answer: &Answered) -> bool {
        self.jobs.get(job).is_some_and(|known| match &known.life {
            Life::Open(open) => open.answers.contains(answer),
            Life::Ended { accepted, .. } => accepted.contains(answer),
        })
    }

    pub(super) fn failed(
        &mut self,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
        retry: bool,
        out: &mut Vec<Action>,
    ) -> Result<(), Illegal> {
        self.held(job, node, attempt)?;
        let reason = if retry {
            FailReason::Attempt
        } else {
            FailReason::Refused
        };
        self.come_to_nothing(job, node, attempt, reason, retry, out);
        Ok(())
    }

    pub(super) fn lose_node(&mut self, node: NodeNumber, out: &mut Vec<Action>) -> Result<(), Illegal> {
        let known = self.nodes.get_mut(&node).ok_or(Illegal::UnknownNode(node))?;
        known.status = NodeStatus::Lost;
        self.heard.remove(&(known.heard, node));
        self.list(node);
        self.touch_node(node);
        let leases: Vec<(JobNumber, Attempt)> = self.held.get(&node).into_iter().flatten().copied().collect();
        for (job, attempt) in leases {
            self.come_to_nothing(job, node, attempt, FailReason::NodeLost, true, out);
        }
        Ok(())
    }

    /// Ends what has timed out: a lease is valid up to its last second.
    pub(super) fn tick(&mut self, now: UnixSeconds, out: &mut Vec<Action>) {
        self.heed(out);
        while let Some((until, job, attempt, node)) = self.expiries.first().copied()
            && until < now
        {
            self.come_to_nothing(job, node, attempt, FailReason::LeaseOver, true, out);
        }
        let Some(timeout) = self.settings.node_timeout else {
            return;
        };
        self.doubt(now, timeout);
        while let Some((heard, node)) = self.heard.first().copied()
            && heard.plus(u64::from(timeout)) < now
        {
            out.push(Action::NodeLost { node });
            if self.lose_node(node, out).is_err() {
                self.heard.remove(&(heard, node));
            }
        }
    }

    /// An attempt ends without an answer: its place waits again, or stays empty.
    fn come_to_nothing(
        &mut self,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
        reason: FailReason,
        retry: bool,
        out: &mut Vec<Action>,
    ) {
        let is_free = reason == FailReason::NotHeld
            && self.settings.policy.retries
            && attempt <= FREE_ATTEMPTS
            && self
                .held(job, node, attempt)
                .is_ok_and(|(_, lease)| lease.step == LeaseStep::Given);
        self.release(job, node, attempt);
        let Some(known) = self.jobs.get_mut(job) else {
            return;
        };
        let client = known.client;
        let Some(open) = known.open_mut() else { return };
        open.last_failure = Some(reason);
        if reason == FailReason::Attempt && !open.given_back.contains(&node) {
            open.given_back.push(node);
        }
        if retry && (is_free || open.retries_left > 0) {
            open.retries_left -= u8::from(!is_free);
            open.waiting += 1;
            self.queue.insert(open.entry(client, job), open.involved());
            self.touch(job);
            out.push(Action::Retry { job, attempt, reason });
        } else {
            if open.waiting > 0 {
                self.queue.insert(open.entry(client, job), open.involved());
            }
            self.touch(job);
            self.settle(job, out);
        }
    }

    /// Takes a lease out of job, node and index.
    fn release(&mut self, job: JobNumber, node: NodeNumber, attempt: Attempt) {
        let open = self.jobs.get_mut(job).and_then(Job::open_mut);
        if let Some(open) = open
            && let Some(index) = open.lease(node, attempt)
        {
            let lease = open.leases.remove(index);
            self.expiries.remove(&(lease.until, job, attempt, node));
        }
        self.let_go(job, node, attempt);
    }

    fn close_places(&mut self, job: JobNumber) {
        let Some(known) = self.jobs.get_mut(job) else {
            return;
        };
        let client = known.client;
        if let Some(open) = known.open_mut() {
            open.waiting = 0;
            self.queue.remove(open.entry(client, job));
        }
    }

    /// Ends a job, and those that waited for it in vain.
    pub(super) fn end(&mut self, job: JobNumber, end: JobEnd, out: &mut Vec<Action>) {
        self.end_alone(job, end, out);
        let end = self.end_as_parent(job).unwrap_or(end);
        self.spread(job, end, out);
    }

    /// What a job's end is to those that wait for it; `None` while it has not ended.
    pub(super) fn end_as_parent(&self, job: JobNumber) -> Option<JobEnd> {
        match &self.jobs.get(job)?.life {
            Life::Open(_) => None,
            Life::Ended { end, accepted } => Some(as_parent(*end, accepted)),
        }
    }

    /// Ends a job. Those who still work on it are told, but for a market's seats: they are paid by the escrow.
    pub(super) fn end_alone(&mut self, job: JobNumber, end: JobEnd, out: &mut Vec<Action>) {
        self.close_places(job);
        let Some(open) = self.jobs.get_mut(job).and_then(Job::open_mut) else {
            return;
        };
        let (needs, leases) = (open.needs, open.leases.clone());
        let accepted = std::mem::take(&mut open.answers);
        let seats_go_on = self.settings.policy.verification == Verification::CommitReveal
            && matches!(end, JobEnd::Agreed(_) | JobEnd::Failed(_));
        for Lease { node, attempt, .. } in leases {
            self.release(job, node, attempt);
            if !seats_go_on {
                out.push(Action::Stop { job, node, attempt });
            }
        }
        if let Some(known) = self.jobs.get_mut(job) {
            known.life = Life::Ended { end, accepted };
            self.queue.leave_set(needs);
        }
        self.dag.leave(job);
        self.touch(job);
        out.push(Action::End { job, end });
    }
}

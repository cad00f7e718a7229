//! The machine's check of itself, for tests and simulations: all indexes agree with jobs and nodes.

use std::collections::BTreeSet;

use super::job::{Job, Life};
use super::{Counts, JobNumber, NodeNumber, NodeStatus, Pool};

/// Two parts of the machine that do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// The queue's own indexes.
    #[error("the queue's indexes do not agree with each other")]
    Queue,
    /// A job and the queue.
    #[error("job {0} and the queue do not agree on whether it waits")]
    Waiting(JobNumber),
    /// A job's lease and its node, or the index of expiries.
    #[error("job {0} has a lease that its node or the index of expiries does not have")]
    Lease(JobNumber),
    /// A job with two places for one node, or two equal attempts.
    #[error("job {0} has one node twice or one attempt twice")]
    Twice(JobNumber),
    /// A job that should have ended, or should not have been left open.
    #[error("job {0} is open though nothing can come of it")]
    Stuck(JobNumber),
    /// A node is in the wrong index.
    #[error("node {0} and the indexes over nodes do not agree")]
    Node(NodeNumber),
    /// Leases of a node that is lost, or that there is none of: also what snapshots leave that contradict each other,
    /// until these leases end.
    #[error("node {0} has leases, though it is lost or was never here")]
    Holder(NodeNumber),
    /// The index of jobs that wait for others.
    #[error("the indexes of parents and children do not agree with each other")]
    Dag,
    /// A job waits for another one that is not here, or that has ended.
    #[error("job {0} waits for jobs in vain, or was given to nodes before its time")]
    Parents(JobNumber),
    /// Counts differ.
    #[error("jobs, nodes and expiries do not have equally many leases, or jobs are counted wrongly")]
    Count,
}

impl Pool {
    /// Checks the whole state.
    ///
    /// # Errors
    /// The first [`Inconsistency`]: a defect of the machine.
    pub fn sanity_check(&self) -> Result<(), Inconsistency> {
        if !self.queue.is_consistent() {
            return Err(Inconsistency::Queue);
        }
        let mut leases = 0;
        let mut waiting = 0;
        let mut counts = Counts::default();
        for (number, job) in self.jobs.iter() {
            *counts.of_class(job.class(self.dag.is_blocked(number))) += 1;
            let Life::Open(open) = &job.life else {
                continue;
            };
            let entry = open.entry(job.client, number);
            let is_queued = self.queue.contains(entry, &open.involved());
            if is_queued != (open.waiting > 0 && !self.dag.is_blocked(number)) {
                return Err(Inconsistency::Waiting(number));
            }
            waiting += usize::from(is_queued);
            leases += open.leases.len();
            self.check_leases(number)?;
            if open.to_come() == 0 {
                return Err(Inconsistency::Stuck(number));
            }
        }
        if waiting != self.queue.len {
            return Err(Inconsistency::Queue);
        }
        let of_nodes: usize = self.held.values().map(BTreeSet::len).sum();
        if of_nodes != leases || self.expiries.len() != leases || counts != self.job_counts {
            return Err(Inconsistency::Count);
        }
        self.check_dag()?;
        self.nodes.keys().try_for_each(|node| self.check_node(*node))?;
        let is_stranger = |node: &&NodeNumber| {
            self.nodes
                .get(node)
                .is_none_or(|it| it.status == NodeStatus::Lost)
        };
        let stranger = self.held.keys().find(is_stranger);
        stranger.map_or(Ok(()), |node| Err(Inconsistency::Holder(*node)))
    }

    fn check_dag(&self) -> Result<(), Inconsistency> {
        if !self.dag.is_consistent() {
            return Err(Inconsistency::Dag);
        }
        for number in self.dag.waiting() {
            let open = self.jobs.get(number).and_then(Job::open);
            let is_idle = open.is_some_and(|it| it.leases.is_empty() && it.answers.is_empty());
            let will_end = |parent: JobNumber| {
                let is_open = self.jobs.get(parent).is_some_and(|it| it.open().is_some());
                is_open || self.dag.is_unheeded(parent)
            };
            if !is_idle || !self.dag.awaited(number).all(will_end) {
                return Err(Inconsistency::Parents(number));
            }
        }
        Ok(())
    }

    fn check_leases(&self, job: JobNumber) -> Result<(), Inconsistency> {
        let Some(known) = self.jobs.get(job) else {
            return Ok(());
        };
        let Some(open) = known.open() else { return Ok(()) };
        let mut nodes: Vec<NodeNumber> = open.leases.iter().map(|lease| lease.node).collect();
        nodes.extend(open.answers.iter().map(|answer| answer.node));
        let mut attempts: Vec<_> = open.leases.iter().map(|lease| lease.attempt).collect();
        attempts.extend(open.answers.iter().map(|answer| answer.attempt));
        if has_twice(&mut nodes) || has_twice(&mut attempts) || attempts.last().copied() > open.last_attempt {
            return Err(Inconsistency::Twice(job));
        }
        let is_known = |lease: &super::Lease| {
            let of_node = self
                .held
                .get(&lease.node)
                .is_some_and(|it| it.contains(&(job, lease.attempt)));
            of_node
                && self
                    .expiries
                    .contains(&(lease.until, job, lease.attempt, lease.node))
        };
        if open.leases.iter().all(is_known) {
            Ok(())
        } else {
            Err(Inconsistency::Lease(job))
        }
    }

    fn check_node(&self, number: NodeNumber) -> Result<(), Inconsistency> {
        let Some(node) = self.nodes.get(&number) else {
            return Ok(());
        };
        let active = self.active(number);
        let is_free = node.status == NodeStatus::Up && active < node.spec.slots;
        let is_listed = self.free.contains(&(active, number));
        let listed_right = node.listed == is_free.then_some(active) && is_listed == is_free;
        let is_heard = self.heard.contains(&(node.heard, number));
        let is_lost = node.status == NodeStatus::Lost;
        if listed_right && is_heard != is_lost {
            Ok(())
        } else {
            Err(Inconsistency::Node(number))
        }
    }
}

/// Whether anything is there twice; sorts.
fn has_twice<T: Ord>(items: &mut [T]) -> bool {
    items.sort_unstable();
    items.windows(2).any(|pair| pair[0] == pair[1])
}

//! What a service reads: nothing here changes anything.

use std::collections::BTreeSet;

use sandrun_types::UnixSeconds;

use super::job::{Job, Open};
use super::{Counts, JobNumber, JobStatus, Lease, NodeNumber, NodeSpec, NodeStatus, Pool};

/// A node as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeView<'a> {
    /// Its number.
    pub number: NodeNumber,
    /// What it brings.
    pub spec: &'a NodeSpec,
    /// How it stands.
    pub status: NodeStatus,
    /// Whether it was told to take nothing new: so it comes back where it is lost.
    pub drained: bool,
    /// When it was heard of, up to a quarter of the timeout ago.
    pub heard: UnixSeconds,
    /// How many leases it has.
    pub active: u32,
}

impl Pool {
    /// Where a job stands; `None` when there is none.
    pub fn job(&self, job: JobNumber) -> Option<JobStatus<'_>> {
        let is_blocked = self.dag.is_blocked(job);
        self.jobs.get(job).map(|it| it.status(is_blocked))
    }

    /// All jobs, by number.
    pub fn jobs(&self) -> impl Iterator<Item = JobNumber> {
        self.jobs.iter().map(|(number, _)| number)
    }

    /// How a node stands and how many leases it has; `None` when there is none.
    pub fn node(&self, node: NodeNumber) -> Option<(NodeStatus, u32)> {
        self.nodes.get(&node).map(|it| (it.status, self.active(node)))
    }

    /// All nodes, lost ones among them, by number.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.nodes.iter().map(|(number, known)| NodeView {
            number: *number,
            spec: &known.spec,
            status: known.status,
            drained: known.drained,
            heard: known.heard,
            active: self.active(*number),
        })
    }

    /// The leases that a node has, by job.
    pub fn leases_of(&self, node: NodeNumber) -> impl Iterator<Item = (JobNumber, Lease)> {
        let held = self.held.get(&node).into_iter().flatten();
        held.filter_map(move |(job, attempt)| {
            let open = self.jobs.get(*job)?.open()?;
            let lease = open.leases.get(open.lease(node, *attempt)?)?;
            Some((*job, *lease))
        })
    }

    /// Whether something waits that a node could take: whether it would get a lease if it asked now. A lost node that
    /// asks is back, so it is judged as if it were up, unless it was told to take nothing new.
    pub fn has_work_for(&self, node: NodeNumber) -> bool {
        let Some(known) = self.nodes.get(&node) else {
            return false;
        };
        if self.waiting() == 0 || known.drained || self.active(node) >= known.spec.slots {
            return false;
        }
        let mut waiting = self.queue.waiting(known.fits(node));
        waiting.any(|job| self.may_have(job, node))
    }

    /// Jobs with a place that waits for a node.
    pub const fn waiting(&self) -> usize {
        self.queue.len
    }

    /// How many jobs and nodes stand where. Jobs are counted as they change, nodes now.
    pub fn counts(&self) -> Counts {
        let mut counts = self.job_counts;
        for known in self.nodes.values() {
            *counts.of_status(known.status) += 1;
        }
        counts
    }

    /// Parents that jobs here still wait for and that are not here themselves: after a load, a service puts them.
    pub fn missing_parents(&self) -> BTreeSet<JobNumber> {
        let is_missing = |job: &JobNumber| !self.jobs.contains(*job) && !self.dag.is_unheeded(*job);
        self.dag.parents().filter(is_missing).collect()
    }

    /// When the next lease or node times out: a service ticks by then.
    pub fn next_timeout(&self) -> Option<UnixSeconds> {
        if self.dag.has_unheeded() {
            return Some(UnixSeconds::default());
        }
        let lease = self.expiries.first().map(|(until, ..)| *until);
        let silence = self.settings.node_timeout.zip(self.heard.first());
        let node = silence.map(|(timeout, (heard, _))| heard.plus(u64::from(timeout)));
        // valid up to the moment itself, over after it
        lease.into_iter().chain(node).min().map(|at| at.plus(1))
    }

    /// The job, open.
    pub(super) fn open(&self, job: JobNumber) -> Result<(&Job, &Open), super::Illegal> {
        let known = self.jobs.get(job).ok_or(super::Illegal::UnknownJob(job))?;
        known
            .open()
            .map(|open| (known, open))
            .ok_or(super::Illegal::Ended(job))
    }
}

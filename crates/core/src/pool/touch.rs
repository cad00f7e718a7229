//! What has changed since a service last wrote, and how many jobs stand where.

use std::collections::BTreeSet;

use super::job::Class;
use super::{JobNumber, NodeNumber, NodeStatus, Pool};

/// What has changed: whose snapshots are to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Jobs, those that have ended among them.
    pub jobs: BTreeSet<JobNumber>,
    /// Nodes: what they offer, how they stand, when they were heard of. Their leases stand with the jobs.
    pub nodes: BTreeSet<NodeNumber>,
}

/// How many jobs and nodes stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Jobs that wait for other jobs.
    pub blocked: usize,
    /// Jobs that nobody works on yet.
    pub queued: usize,
    /// Jobs that somebody works on or has answered.
    pub running: usize,
    /// Jobs that have ended and were not dropped yet.
    pub ended: usize,
    /// Nodes that take jobs.
    pub up: usize,
    /// Nodes that take nothing new.
    pub draining: usize,
    /// Nodes that are lost.
    pub lost: usize,
}

impl Counts {
    pub(super) const fn of_class(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Blocked => &mut self.blocked,
            Class::Queued => &mut self.queued,
            Class::Running => &mut self.running,
            Class::Ended => &mut self.ended,
        }
    }

    pub(super) const fn of_status(&mut self, status: NodeStatus) -> &mut usize {
        match status {
            NodeStatus::Up => &mut self.up,
            NodeStatus::Draining => &mut self.draining,
            NodeStatus::Lost => &mut self.lost,
        }
    }
}

impl Pool {
    /// What has changed since the last call: a service writes these snapshots before it answers anybody. What was put
    /// here from elsewhere is not among it.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// A job has changed: notes it and brings the counts up to date.
    pub(super) fn touch(&mut self, job: JobNumber) {
        self.recount(job);
        self.touched.jobs.insert(job);
    }

    /// Counts a job as what it is now.
    pub(super) fn recount(&mut self, job: JobNumber) {
        let is_blocked = self.dag.is_blocked(job);
        let Some(known) = self.jobs.get_mut(job) else {
            return;
        };
        let class = known.class(is_blocked);
        if class != known.counted {
            *self.job_counts.of_class(known.counted) -= 1;
            *self.job_counts.of_class(class) += 1;
            known.counted = class;
        }
    }

    /// A node has changed.
    pub(super) fn touch_node(&mut self, node: NodeNumber) {
        self.touched.nodes.insert(node);
    }
}

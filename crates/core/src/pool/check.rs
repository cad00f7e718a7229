//! The machine's check of itself, for tests and simulations: all indexes agree with jobs and nodes.

use super::job::Life;
use super::{JobNumber, NodeNumber, NodeStatus, Pool};

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
    /// A node has more leases than slots, or is in the wrong index.
    #[error("node {0} and the indexes over nodes do not agree")]
    Node(NodeNumber),
    /// Counts of leases differ.
    #[error("jobs, nodes and expiries do not have equally many leases")]
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
        for (number, job) in &self.jobs {
            let is_queued = self.queue.contains(job.needs, job.level, job.client, *number);
            let Life::Open(open) = &job.life else {
                if is_queued {
                    return Err(Inconsistency::Waiting(*number));
                }
                continue;
            };
            if is_queued != (open.waiting > 0) {
                return Err(Inconsistency::Waiting(*number));
            }
            waiting += usize::from(is_queued);
            leases += open.leases.len();
            self.check_leases(*number)?;
            if open.to_come() == 0 {
                return Err(Inconsistency::Stuck(*number));
            }
        }
        if waiting != self.queue.len {
            return Err(Inconsistency::Queue);
        }
        let of_nodes: usize = self.nodes.values().map(|node| node.leases.len()).sum();
        if of_nodes != leases || self.expiries.len() != leases {
            return Err(Inconsistency::Count);
        }
        self.nodes.keys().try_for_each(|node| self.check_node(*node))
    }

    fn check_leases(&self, job: JobNumber) -> Result<(), Inconsistency> {
        let Some(known) = self.jobs.get(&job) else {
            return Ok(());
        };
        let Some(open) = known.open() else { return Ok(()) };
        let mut nodes: Vec<NodeNumber> = open.leases.iter().map(|lease| lease.node).collect();
        nodes.extend(open.answers.iter().map(|answer| answer.node));
        let mut attempts: Vec<_> = open.leases.iter().map(|lease| lease.attempt).collect();
        attempts.extend(open.answers.iter().map(|answer| answer.attempt));
        if has_twice(&mut nodes) || has_twice(&mut attempts) || attempts.last().copied() > known.last_attempt
        {
            return Err(Inconsistency::Twice(job));
        }
        let is_known = |lease: &super::Lease| {
            let of_node = self
                .nodes
                .get(&lease.node)
                .is_some_and(|it| it.leases.contains(&(job, lease.attempt)));
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
        let is_listed = node
            .listed
            .is_some_and(|active| self.free.contains(&(active, number)));
        let listed_right =
            node.listed == node.is_free().then(|| node.active()) && is_listed == node.listed.is_some();
        let is_heard = self.heard.contains(&(node.heard, number));
        let is_lost = node.status == NodeStatus::Lost;
        if listed_right && is_heard != is_lost && !(is_lost && node.active() > 0) {
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

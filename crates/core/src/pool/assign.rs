//! Assignment: which job a node gets, or which node a job.

use sandrun_types::{Attempt, UnixSeconds};

use super::job::{Job, Lease, Open};
use super::queue::{NeedsId, Place};
use super::{
    Action, Assignment, Illegal, JobNumber, LeaseStep, Needs, NodeNumber, NodeStatus, Pool, TieBreak,
};

impl Pool {
    /// A node asks for work.
    pub(super) fn claim(
        &mut self,
        now: UnixSeconds,
        node: NodeNumber,
        named: Option<JobNumber>,
        out: &mut Vec<Action>,
    ) -> Result<(), Illegal> {
        let known = self.nodes.get(&node).ok_or(Illegal::UnknownNode(node))?;
        let is_lost = known.status == NodeStatus::Lost;
        match (self.settings.policy.assignment, named) {
            (Assignment::Claimed, None) => {
                if is_lost {
                    // it has come back
                    self.heartbeat(now, node)?;
                }
                self.hear(now, node);
                match self.next_for(node) {
                    Some(job) => self.give(now, job, node, out),
                    None => out.push(Action::NoWork { node }),
                }
                Ok(())
            }
            (Assignment::Tickets, Some(job)) => {
                let (_, open) = self.open(job)?;
                let fits = self
                    .queue
                    .needs(open.needs)
                    .is_some_and(|needs| known.spec.offer.meets(needs));
                let is_closed = open.waiting == 0 || self.dag.is_blocked(job);
                if is_closed || !self.may_have(job, node) || !self.is_free(node) || !fits {
                    return Err(Illegal::NoPlace { job, node });
                }
                self.hear(now, node);
                self.give(now, job, node, out);
                Ok(())
            }
            (Assignment::Claimed | Assignment::Tickets | Assignment::Pushed(_), _) => {
                Err(Illegal::WrongAssignment(node))
            }
        }
    }

    /// The job whose turn it is among those that the node can do.
    fn next_for(&mut self, node: NodeNumber) -> Option<JobNumber> {
        let Self { nodes, queue, .. } = self;
        let known = nodes.get(&node).filter(|it| it.listed.is_some())?;
        let first = queue.first(known.fits(node))?;
        if self.may_have(first, node) {
            return Some(first);
        }
        // it has given that one back
        let Self { nodes, queue, .. } = self;
        let known = nodes.get(&node)?;
        let places = queue.places(known.fits(node));
        places
            .iter()
            .find_map(|place| self.queue.in_order(place).find(|job| self.may_have(*job, node)))
    }

    /// Whether one of a job's places may be this node's: each place is another node's, and who gave it back is asked again
    /// when nobody else that is there can have it.
    pub(super) fn may_have(&self, job: JobNumber, node: NodeNumber) -> bool {
        let Some(open) = self.jobs.get(job).and_then(Job::open) else {
            return false;
        };
        !open.involves(node) && (!open.given_back.contains(&node) || !self.has_another_for(open))
    }

    fn has_another_for(&self, open: &Open) -> bool {
        let Some(needs) = self.queue.needs(open.needs) else {
            return false;
        };
        self.nodes.iter().any(|(number, it)| {
            it.status == NodeStatus::Up
                && it.spec.slots > 0
                && !open.involves(*number)
                && !open.given_back.contains(number)
                && it.spec.offer.meets(needs)
        })
    }

    /// Gives waiting jobs to free nodes, as far as there are any.
    pub(super) fn push(&mut self, now: UnixSeconds, tie: TieBreak, out: &mut Vec<Action>) {
        while let Some((job, node)) = self.next_pair(tie) {
            self.give(now, job, node, out);
        }
    }

    fn next_pair(&mut self, tie: TieBreak) -> Option<(JobNumber, NodeNumber)> {
        if self.free.is_empty() {
            return None;
        }
        let Self {
            nodes, queue, free, ..
        } = self;
        let some_node_fits = |needs: &Needs, involved: &[NodeNumber]| {
            let mut known = free
                .iter()
                .filter_map(|(_, node)| Some((nodes.get(node)?, *node)));
            known.any(|(it, node)| it.fits(node)(needs, involved))
        };
        let places = queue.places(some_node_fits);
        places.iter().find_map(|place| self.pair_in(place, tie))
    }

    fn pair_in(&self, place: &Place, tie: TieBreak) -> Option<(JobNumber, NodeNumber)> {
        self.queue
            .in_order(place)
            .find_map(|job| self.node_for(job, place.set, tie).map(|node| (job, node)))
    }

    /// The least busy node that can do the job and has no part in it yet.
    fn node_for(&self, job: JobNumber, id: NeedsId, tie: TieBreak) -> Option<NodeNumber> {
        let needs = self.queue.needs(id)?;
        let fits = |node: &NodeNumber| {
            self.may_have(job, *node) && self.nodes.get(node).is_some_and(|it| it.spec.offer.meets(needs))
        };
        let (least, first) = self.free.iter().find(|(_, node)| fits(node))?;
        match tie {
            TieBreak::Oldest => Some(*first),
            TieBreak::Rendezvous => {
                let (from, to) = ((*least, NodeNumber(0)), (*least, NodeNumber(u32::MAX)));
                let equals = self.free.range(from..=to).map(|(_, node)| *node).filter(fits);
                equals.max_by_key(|node| rendezvous(job, *node))
            }
        }
    }

    /// Gives one of a job's places to a node.
    fn give(&mut self, now: UnixSeconds, job: JobNumber, node: NodeNumber, out: &mut Vec<Action>) {
        let Some(known) = self.jobs.get_mut(job) else {
            return;
        };
        let client = known.client;
        let Some(open) = known.open_mut() else { return };
        let attempt = open.last_attempt.map_or(Attempt::FIRST, Attempt::next);
        let until = now.plus(u64::from(open.lease_seconds));
        open.last_attempt = Some(attempt);
        open.waiting = open.waiting.saturating_sub(1);
        open.leases.push(Lease {
            node,
            attempt,
            until,
            step: LeaseStep::Given,
            claim: None,
        });
        let entry = open.entry(client, job);
        let involved = (open.waiting > 0).then(|| open.involved());
        self.queue.charge(client);
        match involved {
            Some(involved) => self.queue.insert(entry, involved),
            None => self.queue.remove(entry),
        }
        self.expiries.insert((until, job, attempt, node));
        self.held.entry(node).or_default().insert((job, attempt));
        self.list(node);
        self.touch(job);
        out.push(Action::Lease {
            job,
            client,
            node,
            attempt,
            until,
        });
    }
}

/// A hash of job and node with the finaliser of SplitMix64 (Steele, Lea and Flood 2014), which mixes every bit of both.
fn rendezvous(job: JobNumber, node: NodeNumber) -> u64 {
    let mix = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    mix(mix(job.0.wrapping_add(0x9e37_79b9_7f4a_7c15))
        ^ u64::from(node.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendezvous_spreads_jobs_evenly_and_moves_few_when_a_node_goes() {
        let choose = |job, nodes: &[u32]| {
            nodes
                .iter()
                .copied()
                .max_by_key(|node| rendezvous(JobNumber(job), NodeNumber(*node)))
                .unwrap()
        };
        let mut counts = [0u32; 4];
        for job in 0..4_000 {
            let all = choose(job, &[0, 1, 2, 3]);
            counts[all as usize] += 1;
            if all != 3 {
                assert_eq!(
                    choose(job, &[0, 1, 2]),
                    all,
                    "job {job} moved though its node stayed"
                );
            }
        }
        assert!(
            counts.iter().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
    }
}

//! Jobs that wait for other jobs: an index of who awaits whom, and what an end means to those that waited.
//!
//! A job starts when all its parents were agreed on, with programs that did well; it fails when one of them was not, and
//! then so do those that wait for it. A parent is counted when it ends: it may be dropped right after.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::job::{Life, as_parent};
use super::{Action, FailReason, Illegal, JobEnd, JobNumber, Pool};

/// Who awaits whom: pairs in both directions, so that a job with one parent costs little more than two numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Dag {
    /// Jobs and the parents that they still wait for.
    awaited: BTreeSet<(JobNumber, JobNumber)>,
    /// The same, the other way round.
    children: BTreeSet<(JobNumber, JobNumber)>,
    /// Ends that came from elsewhere while jobs here still wait for them.
    unheeded: BTreeMap<JobNumber, JobEnd>,
}

/// What stands in pairs with `job`.
fn of(pairs: &BTreeSet<(JobNumber, JobNumber)>, job: JobNumber) -> impl Iterator<Item = JobNumber> {
    let all = (job, JobNumber(0))..=(job, JobNumber(u64::MAX));
    pairs.range(all).map(|(_, other)| *other)
}

impl Dag {
    pub(super) fn is_blocked(&self, job: JobNumber) -> bool {
        !self.awaited.is_empty() && self.awaited(job).next().is_some()
    }

    /// What a job still waits for.
    pub(super) fn awaited(&self, job: JobNumber) -> impl Iterator<Item = JobNumber> {
        of(&self.awaited, job)
    }

    /// Jobs that wait for others, once for each that they wait for.
    pub(super) fn waiting(&self) -> impl Iterator<Item = JobNumber> {
        self.awaited.iter().map(|(job, _)| *job)
    }

    /// Jobs that others wait for, once for each that waits.
    pub(super) fn parents(&self) -> impl Iterator<Item = JobNumber> {
        self.children.iter().map(|(parent, _)| *parent)
    }

    /// Lets a job wait.
    pub(super) fn join(&mut self, job: JobNumber, parents: BTreeSet<JobNumber>) {
        for parent in parents {
            self.children.insert((parent, job));
            self.awaited.insert((job, parent));
        }
    }

    /// Lets a job wait for nothing any more.
    pub(super) fn leave(&mut self, job: JobNumber) {
        let parents: Vec<JobNumber> = self.awaited(job).collect();
        for parent in parents {
            self.part(job, parent);
        }
    }

    /// Lets a job wait for one parent less.
    fn part(&mut self, job: JobNumber, parent: JobNumber) {
        self.awaited.remove(&(job, parent));
        self.children.remove(&(parent, job));
        if !self.is_awaited(parent) {
            self.unheeded.remove(&parent);
        }
    }

    fn is_awaited(&self, parent: JobNumber) -> bool {
        of(&self.children, parent).next().is_some()
    }

    /// An end that came from elsewhere: kept until the next tick, if anybody waits for it.
    pub(super) fn note_end(&mut self, job: JobNumber, end: JobEnd) {
        if self.is_awaited(job) {
            self.unheeded.insert(job, end);
        }
    }

    /// A job that came from elsewhere has not ended.
    pub(super) fn note_open(&mut self, job: JobNumber) {
        self.unheeded.remove(&job);
    }

    /// Whether jobs here wait for something that has ended elsewhere.
    pub(super) fn has_unheeded(&self) -> bool {
        !self.unheeded.is_empty()
    }

    pub(super) fn is_unheeded(&self, job: JobNumber) -> bool {
        self.unheeded.contains_key(&job)
    }

    /// Whether both directions say the same.
    pub(super) fn is_consistent(&self) -> bool {
        let mirrored = self
            .awaited
            .iter()
            .all(|(job, parent)| self.children.contains(&(*parent, *job)));
        mirrored
            && self.awaited.len() == self.children.len()
            && self.unheeded.keys().all(|it| self.is_awaited(*it))
    }
}

impl Pool {
    /// What a job's end means to those that wait for it, and to those that wait for them.
    pub(super) fn spread(&mut self, job: JobNumber, end: JobEnd, out: &mut Vec<Action>) {
        // a queue, not recursion: a chain may be as long as the memory holds
        let mut ended = VecDeque::from([(job, end)]);
        while let Some((parent, end)) = ended.pop_front() {
            let children: Vec<JobNumber> = of(&self.dag.children, parent).collect();
            for child in children {
                match end {
                    JobEnd::Agreed(_) => self.count_parent(child, parent),
                    JobEnd::Failed(_) | JobEnd::Cancelled => {
                        let end = JobEnd::Failed(FailReason::Parent(parent));
                        self.end_alone(child, end, out);
                        ended.push_back((child, end));
                    }
                }
            }
        }
    }

    /// Of the parents that a new job names: those that it has to wait for, or else one that will never be agreed on.
    pub(super) fn look_at_parents(
        &self,
        job: JobNumber,
        parents: &BTreeSet<JobNumber>,
    ) -> Result<(BTreeSet<JobNumber>, Option<JobNumber>), Illegal> {
        let mut awaited = BTreeSet::new();
        let mut failed = None;
        for parent in parents.iter().copied() {
            let unknown = Illegal::UnknownParent { job, parent };
            match &self.jobs.get(parent).ok_or(unknown)?.life {
                Life::Open(_) => {
                    awaited.insert(parent);
                }
                Life::Ended { end, accepted } => match as_parent(*end, accepted) {
                    JobEnd::Agreed(_) => {}
                    JobEnd::Failed(_) | JobEnd::Cancelled => failed = failed.or(Some(parent)),
                },
            }
        }
        Ok((awaited, failed))
    }

    fn count_parent(&mut self, job: JobNumber, parent: JobNumber) {
        self.dag.part(job, parent);
        let may_start = !self.dag.is_blocked(job);
        if let Some((client, open)) = self
            .jobs
            .get(job)
            .and_then(|it| it.open().map(|open| (it.client, open)))
            && may_start
            && open.waiting > 0
        {
            self.queue.insert(open.entry(client, job), open.involved());
        }
        self.touch(job);
    }

    /// Takes notice of ends that came from elsewhere and that no later snapshot has taken into account.
    pub(super) fn heed(&mut self, out: &mut Vec<Action>) {
        for (parent, end) in std::mem::take(&mut self.dag.unheeded) {
            self.spread(parent, end, out);
        }
    }
}

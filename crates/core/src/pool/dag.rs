//! Jobs that wait for other jobs: an index of who awaits whom, and what an end means to those that waited.
//!
//! A job starts when all its parents were agreed on; it fails when one of them came to nothing or was taken back, and
//! then so do those that wait for it. A parent is counted when it ends: it may be dropped right after.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::job::Life;
use super::{Action, FailReason, Illegal, JobEnd, JobNumber, Pool};

/// Who awaits whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Dag {
    /// Parents that a job still waits for; jobs that wait for none are not here.
    awaited: BTreeMap<JobNumber, BTreeSet<JobNumber>>,
    /// The same, the other way round.
    children: BTreeMap<JobNumber, BTreeSet<JobNumber>>,
    /// Ends that came from elsewhere while jobs here still wait for them.
    unheeded: BTreeMap<JobNumber, JobEnd>,
}

impl Dag {
    pub(super) fn is_blocked(&self, job: JobNumber) -> bool {
        self.awaited.contains_key(&job)
    }

    /// How many jobs wait for others.
    pub(super) fn blocked(&self) -> usize {
        self.awaited.len()
    }

    /// What a job still waits for.
    pub(super) fn awaited(&self, job: JobNumber) -> Option<&BTreeSet<JobNumber>> {
        self.awaited.get(&job)
    }

    /// Jobs that others wait for.
    pub(super) fn parents(&self) -> impl Iterator<Item = JobNumber> {
        self.children.keys().copied()
    }

    /// Lets a job wait.
    pub(super) fn join(&mut self, job: JobNumber, parents: BTreeSet<JobNumber>) {
        if parents.is_empty() {
            return;
        }
        for parent in &parents {
            self.children.entry(*parent).or_default().insert(job);
        }
        self.awaited.insert(job, parents);
    }

    /// Lets a job wait for nothing any more.
    pub(super) fn leave(&mut self, job: JobNumber) {
        for parent in self.awaited.remove(&job).unwrap_or_default() {
            if let Some(children) = self.children.get_mut(&parent) {
                children.remove(&job);
                if children.is_empty() {
                    self.children.remove(&parent);
                    self.unheeded.remove(&parent);
                }
            }
        }
    }

    /// One that a job waits for was agreed on. Whether it was the last one.
    fn count(&mut self, job: JobNumber, parent: JobNumber) -> bool {
        let Some(awaited) = self.awaited.get_mut(&job) else {
            return false;
        };
        awaited.remove(&parent);
        let is_last = awaited.is_empty();
        if is_last {
            self.awaited.remove(&job);
        }
        is_last
    }

    /// An end that came from elsewhere: kept until the next tick, if anybody waits for it.
    pub(super) fn note_end(&mut self, job: JobNumber, end: JobEnd) {
        if self.children.contains_key(&job) {
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
        let pairs =
            |map: &BTreeMap<JobNumber, BTreeSet<JobNumber>>| map.values().map(BTreeSet::len).sum::<usize>();
        let mirrored = self.awaited.iter().all(|(job, parents)| {
            let has = |parent| self.children.get(parent).is_some_and(|it| it.contains(job));
            !parents.is_empty() && parents.iter().all(has)
        });
        mirrored
            && pairs(&self.awaited) == pairs(&self.children)
            && self.children.values().all(|it| !it.is_empty())
            && self.unheeded.keys().all(|it| self.children.contains_key(it))
    }
}

impl Pool {
    /// What a job's end means to those that wait for it, and to those that wait for them.
    pub(super) fn spread(&mut self, job: JobNumber, end: JobEnd, out: &mut Vec<Action>) {
        // a queue, not recursion: a chain may be as long as the memory holds
        let mut ended = VecDeque::from([(job, end)]);
        while let Some((parent, end)) = ended.pop_front() {
            for child in self.dag.children.remove(&parent).unwrap_or_default() {
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
            match &self.jobs.get(&parent).ok_or(unknown)?.life {
                Life::Open(_) => {
                    awaited.insert(parent);
                }
                Life::Ended { end, .. } => match end {
                    JobEnd::Agreed(_) => {}
                    JobEnd::Failed(_) | JobEnd::Cancelled => failed = failed.or(Some(parent)),
                },
            }
        }
        Ok((awaited, failed))
    }

    fn count_parent(&mut self, job: JobNumber, parent: JobNumber) {
        let may_start = self.dag.count(job, parent);
        if let Some((client, open)) = self
            .jobs
            .get(&job)
            .and_then(|it| it.open().map(|open| (it.client, open)))
            && may_start
            && open.waiting > 0
        {
            self.queue.insert(open.needs, open.level, client, job);
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

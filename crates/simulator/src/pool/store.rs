//! What is on disk: rows of snapshots, each with the number of the commit that wrote it.

use std::collections::BTreeMap;

use super::call::Key;
use sandrun_core::pool::{JobLife, JobNumber, JobSnapshot, JobSpec, NodeNumber, NodeSnapshot};

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct Row<T> {
    pub(crate) changed: u64,
    /// What it says.
    pub(crate) value: T,
}

impl<T: Clone> Row<T> {
    fn new(changed: u64, value: &T) -> Self {
        Self {
            changed,
            value: value.clone(),
        }
    }

    /// What a process reads.
    pub(crate) fn read(&self) -> T {
        self.value.clone()
    }
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) jobs: BTreeMap<JobNumber, JobSnapshot>,
    pub(crate) nodes: BTreeMap<NodeNumber, NodeSnapshot>,
    pub(crate) keys: BTreeMap<Key, JobNumber>,
    pub(crate) specs: BTreeMap<JobNumber, JobSpec>,
}

/// The disk.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) jobs: BTreeMap<JobNumber, Row<JobSnapshot>>,
    pub(crate) nodes: BTreeMap<NodeNumber, Row<NodeSnapshot>>,
    pub(crate) keys: BTreeMap<Key, JobNumber>,
    /// What was asked: requests are rows of their own.
    pub(crate) specs: BTreeMap<JobNumber, JobSpec>,
    /// Number of the latest commit.
    pub(crate) commits: u64,
}

impl Store {
    pub(crate) fn write(&mut self, writes: Writes) {
        self.commits += 1;
        for (job, snapshot) in &writes.jobs {
            self.jobs.insert(*job, Row::new(self.commits, snapshot));
        }
        for (node, snapshot) in &writes.nodes {
            self.nodes.insert(*node, Row::new(self.commits, snapshot));
        }
        self.keys.extend(writes.keys);
        self.specs.extend(writes.specs);
    }

    pub(crate) fn job(&self, job: JobNumber) -> Option<&JobSnapshot> {
        self.jobs.get(&job).map(|row| &row.value)
    }

    pub(crate) fn is_open(&self, job: JobNumber) -> bool {
        matches!(self.job(job).map(|it| &it.life), Some(JobLife::Open(_)))
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = JobNumber> {
        self.jobs.keys().copied().filter(|job| self.is_open(*job))
    }
}

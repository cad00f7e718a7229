//! Leases that nobody has claimed: they go to whoever carries them to the nodes, after the batch that made them is on
//! disk. After a start, and after the memory was loaded anew, every open lease is given out again.
//!
//! A carried lease has a run: the executor's own id of it, kept with the job's row, so that a restart finds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sandrun_core::pool::{
    Assignment as Mode, Event, Illegal, JobLife, JobNumber, JobSnapshot, NodeNumber, NodeStatus,
};
use sandrun_store::queue::JobState;
use sandrun_types::{Attempt, UnixSeconds};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::batch::Batch;
use super::command::Outcome;
use super::error::QueueError;
use super::memory::Memory;

/// What the carrier is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// A node has a lease. May come again for a lease that is carried already.
    Give(Box<Assignment>),
    /// Nobody needs this attempt any more.
    Stop {
        /// The job.
        job: JobNumber,
        /// The attempt.
        attempt: Attempt,
    },
}

/// A lease that is to be carried to its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The job.
    pub job: JobNumber,
    /// Number of the attempt.
    pub attempt: Attempt,
    /// The node's id.
    pub node: String,
    /// When the lease ends by itself.
    pub until: UnixSeconds,
    /// The executor's id of the run, where the node has it already.
    pub run: Option<String>,
    /// The request as it was stored.
    pub request: Arc<[u8]>,
}

/// An attempt that an executor has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The node's id.
    pub node: String,
    /// The job.
    pub job: JobNumber,
    /// Its attempt.
    pub attempt: Attempt,
    /// The executor's id of the run.
    pub run: String,
}

/// A lease of this batch that nobody has claimed.
#[derive(Debug)]
pub(super) struct Pushed {
    job: JobNumber,
    attempt: Attempt,
    node: NodeNumber,
    until: UnixSeconds,
}

/// The runs of jobs that are carried, by attempt.
pub(super) type Runs = HashMap<JobNumber, Vec<(Attempt, String)>>;

/// The way to the carrier. There is one receiver, which is taken once.
#[derive(Debug, Clone)]
pub(super) struct Pushes {
    sender: UnboundedSender<Push>,
    receiver: Arc<Mutex<Option<UnboundedReceiver<Push>>>>,
}

impl Default for Pushes {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self {
            sender,
            receiver: Arc::new(Mutex::new(Some(receiver))),
        }
    }
}

impl Pushes {
    pub(super) fn take(&self) -> Option<UnboundedReceiver<Push>> {
        self.receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Tells the carrier what a batch has brought, if it is on disk.
    pub(super) fn hand_out(&self, batch: &mut Batch, outcome: &Outcome, memory: Option<&Memory>) {
        let (Outcome::Committed(requests), Some(memory)) = (outcome, memory) else {
            return;
        };
        for (job, attempt) in batch.stopped.drain(..) {
            // without a carrier nothing is carried
            drop(self.sender.send(Push::Stop { job, attempt }));
        }
        for lease in batch.pushed.drain(..) {
            let Some(request) = requests.get(&lease.job) else {
                continue;
            };
            let assignment = Assignment {
                job: lease.job,
                attempt: lease.attempt,
                node: memory.node_id(lease.node).to_owned(),
                until: lease.until,
                run: memory.run(lease.job, lease.attempt),
                request: Arc::clone(request),
            };
            drop(self.sender.send(Push::Give(Box::new(assignment))));
        }
    }
}

/// What a job's row holds beside the machine's part.
#[derive(Default, Serialize, Deserialize)]
struct RowRuns {
    #[serde(default)]
    runs: Vec<(Attempt, String)>,
}

/// A job's row: the machine's part, and the runs where there are any.
#[derive(Serialize)]
struct RowWithRuns<'a> {
    #[serde(flatten)]
    machine: &'a JobSnapshot,
    runs: &'a [(Attempt, String)],
}

impl Memory {
    /// A lease that nobody has claimed goes to the carrier.
    pub(super) fn push(
        &self,
        batch: &mut Batch,
        job: JobNumber,
        attempt: Attempt,
        node: NodeNumber,
        until: UnixSeconds,
    ) {
        if self.pushes() {
            batch.leased.insert(job);
            batch.pushed.push(Pushed {
                job,
                attempt,
                node,
                until,
            });
        }
    }

    /// All open leases go to the carrier once more, in the first batch after a load.
    pub(super) fn push_all(&mut self, batch: &mut Batch) {
        if !std::mem::take(&mut self.is_fresh) || !self.pushes() {
            return;
        }
        let nodes: Vec<NodeNumber> = self.pool.nodes().map(|it| it.number).collect();
        for node in nodes {
            for (job, lease) in self.pool.leases_of(node) {
                self.push(batch, job, lease.attempt, node, lease.until);
            }
        }
    }

    fn run(&self, job: JobNumber, attempt: Attempt) -> Option<String> {
        let runs = self.runs.get(&job)?;
        runs.iter()
            .find(|(of, _)| *of == attempt)
            .map(|(_, run)| run.clone())
    }

    /// Reads the runs of a job's row.
    pub(super) fn read_runs(&mut self, job: JobNumber, row: &[u8]) {
        if !self.pushes() {
            return;
        }
        let RowRuns { runs } = serde_json::from_slice(row).unwrap_or_default();
        if runs.is_empty() {
            self.runs.remove(&job);
        } else {
            self.runs.insert(job, runs);
        }
    }

    /// Puts the runs of a job's attempts into its row; those of attempts that are over are forgotten.
    pub(super) fn add_runs(&mut self, row: &mut JobState) {
        let Some(runs) = self.runs.get_mut(&row.number) else {
            return;
        };
        let snapshot = self.pool.job_snapshot(row.number);
        let leases = match snapshot.as_ref().map(|it| &it.life) {
            Some(JobLife::Open(open)) => open.leases.as_slice(),
            Some(JobLife::Ended { .. }) | None => &[],
        };
        runs.retain(|(attempt, _)| leases.iter().any(|lease| lease.attempt == *attempt));
        if runs.is_empty() {
            self.runs.remove(&row.number);
        } else if let Some(machine) = &snapshot
            && let Ok(bytes) = serde_json::to_vec(&RowWithRuns { machine, runs })
        {
            row.snapshot = bytes;
        }
    }

    /// Whether leases go to nodes without being asked for.
    pub(super) const fn pushes(&self) -> bool {
        matches!(self.settings.policy.assignment, Mode::Pushed(_))
    }

    /// A node's executor has taken an attempt.
    pub(super) fn begin(&mut self, begun: Begun, batch: &mut Batch) -> Result<(), QueueError> {
        let node = self.nodes.number(&begun.node)?;
        let (job, attempt) = (begun.job, begun.attempt);
        if self.held(job, node).map(|(held, _)| held) != Some(attempt) {
            return Err(Illegal::StaleAttempt { job, node, attempt }.into());
        }
        let runs = self.runs.entry(job).or_default();
        runs.retain(|(of, _)| *of != attempt);
        runs.push((attempt, begun.run));
        self.apply(Event::Started { job, node, attempt }, batch)
    }

    /// A node is gone: what it has goes to others.
    pub(super) fn lose(&mut self, node: &str, batch: &mut Batch) -> Result<(), QueueError> {
        let node = self.nodes.number(node)?;
        let is_lost = self
            .pool
            .node(node)
            .is_some_and(|(status, _)| status == NodeStatus::Lost);
        if is_lost {
            return Ok(());
        }
        batch.tally.nodes_lost += 1;
        self.apply(Event::Lost { node }, batch)
    }
}

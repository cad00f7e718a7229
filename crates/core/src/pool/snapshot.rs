//! Snapshots: the state of one job or node by value, as a service stores it and as replicas hand it to each other.
//!
//! An entry that is put replaces what was here and brings every index up to date, whatever stood here before. So a
//! pool that is given the snapshots of all that another one has touched stands where that one stands, but for whose
//! turn it is among clients. They are written as JSON: names are short, and what is empty or usual is left out.

use std::collections::BTreeSet;

use sandrun_types::{Attempt, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::job::{Life, Open, as_parent};
use super::node::Node;
use super::{
    Answered, ClientNumber, FailReason, JobEnd, JobNumber, Lease, Level, Needs, NodeNumber, NodeSpec,
    NodeStatus, Pool, Priority,
};

/// What most jobs have: it is left out, and jobs from before priorities were kept count as such.
const USUAL: Priority = Priority(4);

const fn usual() -> Priority {
    USUAL
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_usual(priority: &Priority) -> bool {
    *priority == USUAL
}

const fn one() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
const fn is_one(count: &u8) -> bool {
    *count == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
const fn is_zero(count: &u8) -> bool {
    *count == 0
}

/// All that the machine keeps of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSnapshot {
    /// Whose it is.
    #[serde(rename = "c", alias = "client")]
    pub client: ClientNumber,
    /// Where it stands.
    #[serde(rename = "is", alias = "life")]
    pub life: JobLife,
}

/// Where a job stands, with all that belongs to it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobLife {
    /// It has not ended.
    Open(Box<OpenJob>),
    /// It has ended.
    #[serde(with = "super::kept::ended")]
    Ended {
        /// How.
        end: JobEnd,
        /// Answers that were accepted: who repeats one is told so again.
        accepted: Vec<Answered>,
    },
}

/// A job that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenJob {
    /// What a node has to have.
    #[serde(rename = "n", alias = "needs")]
    pub needs: Needs,
    /// When its turn comes.
    #[serde(rename = "l", alias = "level")]
    pub level: Level,
    /// Among which jobs clients take turns.
    #[serde(
        rename = "p",
        alias = "priority",
        default = "usual",
        skip_serializing_if = "is_usual"
    )]
    pub priority: Priority,
    /// How many have to agree.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub quorum: u8,
    /// Seconds that a lease lasts.
    #[serde(rename = "s", alias = "lease_seconds")]
    pub lease_seconds: u32,
    /// The highest number that an attempt had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
    /// Places that wait for a node.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub waiting: u8,
    /// Attempts that are held now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Lease>,
    /// Answers that count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answered>,
    /// How many more attempts may come to nothing.
    #[serde(rename = "t", alias = "retries_left")]
    pub retries_left: u8,
    /// Places that may still be opened when the answers do not agree.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub extra_places: u8,
    /// Why the last attempt came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailReason>,
    /// Nodes that gave it back: each other one that could take it is asked before they are asked again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_back: Vec<NodeNumber>,
    /// Parents that it still waits for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parents: BTreeSet<JobNumber>,
}

/// All that the machine keeps of a node. Its leases stand with the jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSnapshot {
    /// What it brings.
    pub spec: NodeSpec,
    /// How it stands.
    pub status: NodeStatus,
    /// When it was heard of.
    pub heard: UnixSeconds,
    /// Whether it was told to take nothing new. One that is draining was, whatever this says: in snapshots of old there
    /// is nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

impl Pool {
    /// A job by value; `None` when there is none.
    pub fn job_snapshot(&self, job: JobNumber) -> Option<JobSnapshot> {
        let known = self.jobs.get(job)?;
        let life = match &known.life {
            Life::Open(open) => JobLife::Open(Box::new(OpenJob {
                needs: self.queue.needs(open.needs).cloned().unwrap_or_default(),
                level: open.level,
                priority: open.priority,
                quorum: open.quorum,
                lease_seconds: open.lease_seconds,
                last_attempt: open.last_attempt,
                waiting: open.waiting,
                leases: open.leases.clone(),
                answers: open.answers.clone(),
                retries_left: open.retries_left,
                extra_places: open.extra_places,
                last_failure: open.last_failure,
                given_back: open.given_back.clone(),
                parents: self.dag.awaited(job).collect(),
            })),
            Life::Ended { end, accepted } => JobLife::Ended {
                end: *end,
                accepted: accepted.clone(),
            },
        };
        let client = known.client;
        Some(JobSnapshot { client, life })
    }

    /// A node by value; `None` when there is none.
    pub fn node_snapshot(&self, node: NodeNumber) -> Option<NodeSnapshot> {
        self.nodes.get(&node).map(|known| NodeSnapshot {
            spec: known.spec.clone(),
            status: known.status,
            heard: known.heard,
            drained: known.drained,
        })
    }

    /// Takes a job over from a store or another replica, in place of what is here. Does not touch it. In which order
    /// jobs and nodes of one batch are put does not matter.
    pub fn put_job(&mut self, job: JobNumber, snapshot: JobSnapshot) {
        self.uproot(job);
        let JobSnapshot { client, life } = snapshot;
        match life {
            JobLife::Open(open) => self.plant(job, client, *open),
            JobLife::Ended { end, accepted } => {
                let to_children = as_parent(end, &accepted);
                self.add(job, client, Life::Ended { end, accepted });
                self.dag.note_end(job, to_children);
            }
        }
        self.touched.jobs.remove(&job);
    }

    /// Takes a node over from a store or another replica, in place of what is here. Does not touch it.
    pub fn put_node(&mut self, node: NodeNumber, snapshot: NodeSnapshot) {
        let NodeSnapshot {
            spec,
            status,
            heard,
            drained,
        } = snapshot;
        let mut listed = None;
        if let Some(known) = self.nodes.get(&node) {
            self.heard.remove(&(known.heard, node));
            listed = known.listed;
        }
        if status != NodeStatus::Lost {
            self.heard.insert((heard, node));
        }
        let known = Node {
            spec,
            status,
            drained: drained || status == NodeStatus::Draining,
            heard,
            listed,
        };
        self.nodes.insert(node, known);
        self.list(node);
        self.touched.nodes.remove(&node);
    }

    /// Lets an ended job out of memory; one that is open stays. Jobs that have counted it go on.
    pub fn drop_job(&mut self, job: JobNumber) {
        if self.jobs.get(job).is_some_and(|it| it.open().is_none()) {
            self.take_out(job);
            self.touched.jobs.remove(&job);
        }
    }

    /// Takes out a job, open or not, of which the store has nothing any more: it has ended elsewhere and was removed.
    pub fn take_away(&mut self, job: JobNumber) {
        self.uproot(job);
        self.touched.jobs.remove(&job);
    }

    /// Takes a job out of every index.
    fn uproot(&mut self, job: JobNumber) {
        let Some(known) = self.take_out(job) else { return };
        let Life::Open(open) = known.life else { return };
        self.dag.leave(job);
        self.queue.remove(open.entry(known.client, job));
        self.queue.leave_set(open.needs);
        for Lease {
            node, attempt, until, ..
        } in open.leases
        {
            self.expiries.remove(&(until, job, attempt, node));
            self.let_go(job, node, attempt);
        }
    }

    /// Puts an open job into every index.
    fn plant(&mut self, job: JobNumber, client: ClientNumber, open: OpenJob) {
        let needs = self.queue.join_set(open.needs);
        for Lease {
            node, attempt, until, ..
        } in &open.leases
        {
            self.expiries.insert((*until, job, *attempt, *node));
            self.held.entry(*node).or_default().insert((job, *attempt));
            self.list(*node);
        }
        let parents = open.parents.clone();
        self.dag.join(job, open.parents);
        let open = Open {
            needs,
            level: open.level,
            priority: open.priority,
            quorum: open.quorum,
            lease_seconds: open.lease_seconds,
            last_attempt: open.last_attempt,
            waiting: open.waiting,
            leases: open.leases,
            answers: open.answers,
            retries_left: open.retries_left,
            extra_places: open.extra_places,
            last_failure: open.last_failure,
            given_back: open.given_back,
        };
        if parents.is_empty() && open.waiting > 0 {
            self.queue.insert(open.entry(client, job), open.involved());
        }
        self.add(job, client, Life::Open(open));
        self.dag.note_open(job);
        for parent in parents {
            // it has ended here already and does not say so again
            if let Some(end) = self.end_as_parent(parent) {
                self.dag.note_end(parent, end);
            }
        }
    }

    /// Takes a lease out of the index by node.
    pub(super) fn let_go(&mut self, job: JobNumber, node: NodeNumber, attempt: Attempt) {
        if let Some(held) = self.held.get_mut(&node) {
            held.remove(&(job, attempt));
            if held.is_empty() {
                self.held.remove(&node);
            }
        }
        self.list(node);
    }
}

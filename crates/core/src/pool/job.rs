//! A job: what is asked, who works on it, what was answered.

use std::collections::BTreeSet;
use std::fmt;

use sandrun_types::{Attempt, ResultDigest, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::queue::{Entry, Involved, NeedsId};
use super::{ClaimNumber, ClientNumber, JobNumber, Level, Needs, NodeNumber, Priority};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Whose it is.
    pub client: ClientNumber,
    /// How urgent it is.
    pub priority: Priority,
    /// What the node has to have.
    pub needs: Needs,
    /// n: how many nodes run it.
    pub replicas: u8,
    /// q: how many have to agree.
    pub quorum: u8,
    /// Seconds that a lease lasts.
    pub lease_seconds: u32,
    /// How many attempts may come to nothing before it fails; at most, and without a word, what the service allows.
    pub retries: Option<u8>,
    /// Jobs that have to be agreed on before it may start. Each has to be in the pool, ended or not.
    pub parents: BTreeSet<JobNumber>,
}

/// One attempt of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The node.
    pub node: NodeNumber,
    /// Its number.
    pub attempt: Attempt,
    /// When it ends by itself.
    pub until: UnixSeconds,
    /// How far it is.
    pub step: LeaseStep,
    /// The claim that it was the answer to, where the node numbers its claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimNumber>,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseStep {
    /// Given to the node.
    Given,
    /// The node has said that it runs.
    Started,
    /// The node has bound itself to an answer.
    Committed,
}

/// An answer that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Who.
    pub node: NodeNumber,
    /// Under which number.
    pub attempt: Attempt,
    /// What.
    pub digest: ResultDigest,
    /// Whether the program did well.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub success: bool,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_yes(value: &bool) -> bool {
    *value
}

/// What an end is to the jobs that wait for it: to agree that a program failed is no result to them.
pub(super) fn as_parent(end: JobEnd, accepted: &[Answered]) -> JobEnd {
    match end {
        JobEnd::Agreed(digest) if accepted.iter().any(|it| it.digest == digest && !it.success) => {
            JobEnd::Failed(FailReason::Refused)
        }
        JobEnd::Agreed(_) | JobEnd::Failed(_) | JobEnd::Cancelled => end,
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEnd {
    /// Enough nodes gave this answer.
    Agreed(ResultDigest),
    /// It came to nothing.
    Failed(FailReason),
    /// Its client took it back.
    Cancelled,
}

/// Why an attempt, and at last the job, came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// The node said so, and another may have more luck.
    Attempt,
    /// The node said that no other will have more luck.
    Refused,
    /// The lease ended by itself.
    LeaseOver,
    /// The node is gone.
    NodeLost,
    /// The node says that it does not have it: it never got it, or has lost it.
    NotHeld,
    /// The answer's signature is not the worker's.
    BadSignature,
    /// The answers do not agree.
    NoAgreement,
    /// A job that it waited for came to nothing or was taken back.
    Parent(JobNumber),
}

impl FailReason {
    /// What happened, whatever came of it.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Attempt => "the last attempt failed",
            Self::Refused => "the node refused the job as it is",
            Self::LeaseOver => "the last attempt took longer than its lease",
            Self::NodeLost => "the last node was lost",
            Self::NotHeld => "the last node did not have the job",
            Self::BadSignature => "the last answer was not signed by its worker",
            Self::NoAgreement => "the nodes' answers do not agree",
            // the number is the machine's own: a service names the job by the id that its clients know
            Self::Parent(_) => "a job that it waited for did not end well",
        }
    }
}

/// As the reason for which a job failed.
impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause())?;
        match self {
            Self::Attempt | Self::LeaseOver | Self::NodeLost | Self::NotHeld | Self::BadSignature => {
                f.write_str(" and no retry is left")
            }
            Self::Refused | Self::NoAgreement | Self::Parent(_) => Ok(()),
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus<'a> {
    /// It waits for other jobs.
    Blocked,
    /// Nobody works on it yet.
    Queued,
    /// Somebody does, or has answered.
    Running(&'a [Lease]),
    /// It has ended.
    Ended(JobEnd),
}

/// What the machine keeps of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) client: ClientNumber,
    /// As what it is counted.
    pub(super) counted: Class,
    pub(super) life: Life,
}

/// A job's status without its data: what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Blocked,
    Queued,
    Running,
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    Open(Open),
    Ended { end: JobEnd, accepted: Vec<Answered> },
}

/// A job that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) needs: NeedsId,
    pub(super) level: Level,
    pub(super) priority: Priority,
    pub(super) quorum: u8,
    pub(super) lease_seconds: u32,
    pub(super) last_attempt: Option<Attempt>,
    /// Places that wait for a node.
    pub(super) waiting: u8,
    pub(super) leases: Vec<Lease>,
    pub(super) answers: Vec<Answered>,
    pub(super) retries_left: u8,
    pub(super) extra_places: u8,
    pub(super) last_failure: Option<FailReason>,
    /// Nodes that gave it back because another may have more luck.
    pub(super) given_back: Vec<NodeNumber>,
}

impl Open {
    /// It as the queue knows it.
    pub(super) const fn entry(&self, client: ClientNumber, job: JobNumber) -> Entry {
        Entry {
            set: self.needs,
            priority: self.priority,
            level: self.level,
            client,
            job,
        }
    }

    /// Nodes that work on it or have answered.
    pub(super) fn involved(&self) -> Involved {
        let leases = self.leases.iter().map(|it| it.node);
        let mut all: Involved = leases.chain(self.answers.iter().map(|it| it.node)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether `node` works on it or has answered: each place is another node's.
    pub(super) fn involves(&self, node: NodeNumber) -> bool {
        self.leases.iter().any(|lease| lease.node == node) || self.answers.iter().any(|it| it.node == node)
    }

    pub(super) fn lease(&self, node: NodeNumber, attempt: Attempt) -> Option<usize> {
        self.leases
            .iter()
            .position(|lease| lease.node == node && lease.attempt == attempt)
    }
}

impl Job {
    pub(super) const fn open(&self) -> Option<&Open> {
        match &self.life {
            Life::Open(open) => Some(open),
            Life::Ended { .. } => None,
        }
    }

    pub(super) const fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.life {
            Life::Open(open) => Some(open),
            Life::Ended { .. } => None,
        }
    }

    pub(super) fn status(&self, is_blocked: bool) -> JobStatus<'_> {
        match &self.life {
            Life::Open(_) if is_blocked => JobStatus::Blocked,
            Life::Open(open) if open.leases.is_empty() && open.answers.is_empty() => JobStatus::Queued,
            Life::Open(open) => JobStatus::Running(&open.leases),
            Life::Ended { end, .. } => JobStatus::Ended(*end),
        }
    }

    pub(super) fn class(&self, is_blocked: bool) -> Class {
        match self.status(is_blocked) {
            JobStatus::Blocked => Class::Blocked,
            JobStatus::Queued => Class::Queued,
            JobStatus::Running(_) => Class::Running,
            JobStatus::Ended(_) => Class::Ended,
        }
    }
}

//! A job: what is asked, who works on it, what was answered.

use std::fmt;

use sandrun_types::{Attempt, ResultDigest, UnixSeconds};

use super::queue::{Level, NeedsId};
use super::{ClientNumber, Needs, NodeNumber, Priority};

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
}

/// One attempt of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The node.
    pub node: NodeNumber,
    /// Its number.
    pub attempt: Attempt,
    /// When it ends by itself.
    pub until: UnixSeconds,
    /// How far it is.
    pub step: LeaseStep,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseStep {
    /// Given to the node.
    Given,
    /// The node has said that it runs.
    Started,
    /// The node has bound itself to an answer.
    Committed,
}

/// An answer that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Who.
    pub node: NodeNumber,
    /// Under which number.
    pub attempt: Attempt,
    /// What.
    pub digest: ResultDigest,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEnd {
    /// Enough nodes gave this answer.
    Agreed(ResultDigest),
    /// It came to nothing.
    Failed(FailReason),
    /// Its client took it back.
    Cancelled,
}

/// Why an attempt, and at last the job, came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// The node said so, and another may have more luck.
    Attempt,
    /// The node said that no other will have more luck.
    Refused,
    /// The lease ended by itself.
    LeaseOver,
    /// The node is gone.
    NodeLost,
    /// The answer's signature is not the worker's.
    BadSignature,
    /// The answers do not agree.
    NoAgreement,
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempt => "the last attempt failed and no retry is left",
            Self::Refused => "the node refused the job as it is",
            Self::LeaseOver => "the last attempt took longer than its lease and no retry is left",
            Self::NodeLost => "the last node was lost and no retry is left",
            Self::BadSignature => "the last answer was not signed by its worker and no retry is left",
            Self::NoAgreement => "the nodes' answers do not agree",
        })
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus<'a> {
    /// Nobody works on it yet.
    Queued,
    /// Somebody does.
    Running(&'a [Lease]),
    /// It has ended.
    Ended(JobEnd),
}

/// What the machine keeps of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) client: ClientNumber,
    pub(super) needs: NeedsId,
    pub(super) level: Level,
    pub(super) quorum: u8,
    pub(super) lease_seconds: u32,
    pub(super) last_attempt: Option<Attempt>,
    pub(super) life: Life,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    Open(Open),
    Ended { end: JobEnd, accepted: Vec<Answered> },
}

/// A job that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// Places that wait for a node.
    pub(super) waiting: u8,
    pub(super) leases: Vec<Lease>,
    pub(super) answers: Vec<Answered>,
    pub(super) retries_left: u8,
    pub(super) extra_places: u8,
    pub(super) last_failure: Option<FailReason>,
}

impl Open {
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

    pub(super) fn status(&self) -> JobStatus<'_> {
        match &self.life {
            Life::Open(open) if open.leases.is_empty() && open.answers.is_empty() => JobStatus::Queued,
            Life::Open(open) => JobStatus::Running(&open.leases),
            Life::Ended { end, .. } => JobStatus::Ended(*end),
        }
    }
}

//! What goes over the network.

use std::collections::BTreeSet;

use sandrun_core::pool::{ClaimNumber, ClientNumber, JobNumber, JobSpec, NodeNumber, NodeSpec, Report};
use sandrun_types::{Attempt, UnixSeconds};

/// One attempt of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseId {
    pub(crate) job: JobNumber,
    pub(crate) node: NodeNumber,
    pub(crate) attempt: Attempt,
}

/// A client's own name for a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) ClientNumber, pub(crate) u64);

/// A request to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Submit {
        key: Key,
        spec: JobSpec,
    },
    Cancel {
        job: JobNumber,
    },
    Register {
        node: NodeNumber,
        spec: NodeSpec,
    },
    Heartbeat {
        node: NodeNumber,
    },
    /// A question for a job; newer nodes number theirs.
    Claim {
        node: NodeNumber,
        claim: Option<ClaimNumber>,
    },
    /// What a node has of all claims up to a number.
    Holds {
        node: NodeNumber,
        settled: ClaimNumber,
        held: BTreeSet<(JobNumber, Attempt)>,
    },
    Started(LeaseId),
    Answered {
        lease: LeaseId,
        report: Report,
    },
    Failed {
        lease: LeaseId,
        retry: bool,
    },
    Lost {
        node: NodeNumber,
    },
    Drain {
        node: NodeNumber,
    },
    Resume {
        node: NodeNumber,
    },
}

impl Call {
    /// The jobs that it is about.
    pub(crate) fn jobs(&self) -> Vec<JobNumber> {
        match self {
            Self::Submit { spec, .. } => spec.parents.iter().copied().collect(),
            Self::Cancel { job } => vec![*job],
            Self::Started(lease) | Self::Answered { lease, .. } | Self::Failed { lease, .. } => {
                vec![lease.job]
            }
            Self::Register { .. }
            | Self::Heartbeat { .. }
            | Self::Claim { .. }
            | Self::Holds { .. }
            | Self::Lost { .. }
            | Self::Drain { .. }
            | Self::Resume { .. } => vec![],
        }
    }
}

/// What the service says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The job of a key: it was acknowledged.
    Accepted { key: Key, job: JobNumber },
    /// The job was taken back.
    Cancelled { job: JobNumber },
    /// The job had ended before.
    Over { job: JobNumber },
    /// The node is known.
    Known { node: NodeNumber },
    /// The node has to register.
    Unknown { node: NodeNumber },
    /// A job for a node.
    Leased {
        lease: LeaseId,
        until: UnixSeconds,
        claim: Option<ClaimNumber>,
    },
    /// There is none.
    NoWork {
        node: NodeNumber,
        claim: Option<ClaimNumber>,
    },
    /// Nobody needs the attempt.
    Stop(LeaseId),
    /// What the node said was taken in.
    Counted(LeaseId),
    /// The attempt is not held any more.
    Stale(LeaseId),
}

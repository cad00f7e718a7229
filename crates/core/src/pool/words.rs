//! Numbers that stand for jobs, nodes and clients, and what the machine refuses.

use std::fmt;

use sandrun_types::Attempt;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// A job, numbered in the order of submission.
    JobNumber(u64)
);
number!(
    /// A node, worker or peer.
    NodeNumber(u32)
);
number!(
    /// A node's own number of one of its claims, higher than those of all claims that it made before.
    ClaimNumber(u64)
);
number!(
    /// Whoever submits: what fair share is between.
    ClientNumber(u32)
);
number!(
    /// How urgent a job is: more is sooner.
    Priority(u8)
);

/// An event that has no place where the machine stands. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// There is no such job.
    #[error("there is no job {0}")]
    UnknownJob(JobNumber),
    /// There is no such node.
    #[error("there is no node {0}; register it first")]
    UnknownNode(NodeNumber),
    /// The number was given out already.
    #[error("job {0} was submitted already")]
    JobExists(JobNumber),
    /// A job that waits for one that is not here. The service puts ended ones back before it submits.
    #[error("job {job} waits for job {parent}, and there is none")]
    UnknownParent {
        /// The job.
        job: JobNumber,
        /// What it waits for.
        parent: JobNumber,
    },
    /// A job that can never be agreed on.
    #[error(
        "job {job} asks for {quorum} equal answers of {replicas}: choose at least one and at most all, and more than half"
    )]
    BadQuorum {
        /// The job.
        job: JobNumber,
        /// n.
        replicas: u8,
        /// q.
        quorum: u8,
    },
    /// The job has ended.
    #[error("job {0} has ended")]
    Ended(JobNumber),
    /// The job has not ended.
    #[error("job {0} has not ended; cancel it first")]
    StillOpen(JobNumber),
    /// The attempt is not (any more) the one that the node holds.
    #[error("attempt {attempt} at job {job} is not held by node {node} (any more)")]
    StaleAttempt {
        /// The job.
        job: JobNumber,
        /// Who said it.
        node: NodeNumber,
        /// Attempt that was told.
        attempt: Attempt,
    },
    /// The node may not work here.
    #[error("node {0} may not work here")]
    NotAdmitted(NodeNumber),
    /// This policy assigns in another way.
    #[error("node {0} asked for a job in a way that this policy does not have")]
    WrongAssignment(NodeNumber),
    /// The job has no place for this node: taken, not fitting, or held by it already.
    #[error("job {job} has no place for node {node}")]
    NoPlace {
        /// The job.
        job: JobNumber,
        /// The node.
        node: NodeNumber,
    },
    /// A step of a lease out of turn.
    #[error("attempt {attempt} at job {job}: `{event}` is out of turn")]
    OutOfTurn {
        /// The job.
        job: JobNumber,
        /// Its attempt.
        attempt: Attempt,
        /// Name of the event.
        event: &'static str,
    },
}

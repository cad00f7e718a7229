//! What the machine is told and what it asks for.

use std::collections::BTreeSet;

use sandrun_types::{Attempt, ResultDigest, UnixSeconds};

use super::{ClaimNumber, ClientNumber, FailReason, JobEnd, JobNumber, JobSpec, NodeNumber, NodeSpec};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job was accepted from a client.
    Submit {
        /// Its number, new.
        job: JobNumber,
        /// What is asked.
        spec: JobSpec,
    },
    /// A node has come, or come back, or changed what it offers.
    Register {
        /// Its number.
        node: NodeNumber,
        /// What it offers.
        spec: NodeSpec,
    },
    /// A node is alive.
    Heartbeat {
        /// The node.
        node: NodeNumber,
    },
    /// A node asks for work ([`super::Assignment::Claimed`]), or names the job whose lottery it has won
    /// ([`super::Assignment::Tickets`]).
    Claim {
        /// The node.
        node: NodeNumber,
        /// The job that it names.
        job: Option<JobNumber>,
    },
    /// A lease that was just given goes out in the answer to this claim of its node.
    Handed {
        /// The job.
        job: JobNumber,
        /// The node.
        node: NodeNumber,
        /// Its attempt.
        attempt: Attempt,
        /// The claim.
        claim: ClaimNumber,
    },
    /// A node says which attempts it has, now that all its claims up to a number are settled: it has read their answers
    /// or never will. Its other leases from these claims have come to nothing. What was given in a later claim, or in
    /// one without a number, may still be on its way.
    Holds {
        /// The node.
        node: NodeNumber,
        /// The highest number up to which all claims are settled.
        settled: ClaimNumber,
        /// What it has.
        held: BTreeSet<(JobNumber, Attempt)>,
    },
    /// A node has begun.
    Started {
        /// The job.
        job: JobNumber,
        /// The node.
        node: NodeNumber,
        /// Its attempt.
        attempt: Attempt,
    },
    /// A node has bound itself to an answer ([`super::Verification::CommitReveal`] alone).
    Committed {
        /// The job.
        job: JobNumber,
        /// The node.
        node: NodeNumber,
        /// Its attempt.
        attempt: Attempt,
    },
    /// A node has answered.
    Answered {
        /// The job.
        job: JobNumber,
        /// The node.
        node: NodeNumber,
        /// Its attempt.
        attempt: Attempt,
        /// What it says.
        report: Report,
    },
    /// An attempt has come to nothing.
    Failed {
        /// The job.
        job: JobNumber,
        /// The node.
        node: NodeNumber,
        /// Its attempt.
        attempt: Attempt,
        /// Whether another node may have more luck: a lost connection may, a refused manifest may not.
        retry: bool,
    },
    /// A node is gone.
    Lost {
        /// The node.
        node: NodeNumber,
    },
    /// A node takes nothing new and ends what it has.
    Drain {
        /// The node.
        node: NodeNumber,
    },
    /// A node takes jobs again.
    Resume {
        /// The node.
        node: NodeNumber,
    },
    /// A client takes a job back.
    Cancel {
        /// The job.
        job: JobNumber,
    },
    /// An ended job need not be known any more.
    Forget {
        /// The job.
        job: JobNumber,
    },
    /// Time has passed.
    Tick,
}

/// What a node says about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What it agrees on with others.
    pub digest: ResultDigest,
    /// What came of checking its signature.
    pub signature: SignatureCheck,
    /// Whether the program did well: of equal digests all or none. Jobs that wait for this one start only then.
    pub success: bool,
}

/// What came of checking a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureCheck {
    /// There is none.
    Absent,
    /// It is the worker's over this very receipt.
    Valid,
    /// It is not.
    Invalid,
}

/// Something to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A node has a lease: give the job to it, as the answer to its claim or by a call to it.
    Lease {
        /// The job.
        job: JobNumber,
        /// Whose it is: what is charged for.
        client: ClientNumber,
        /// The node.
        node: NodeNumber,
        /// Number of the attempt; every report has to carry it.
        attempt: Attempt,
        /// When the lease ends by itself.
        until: UnixSeconds,
    },
    /// A node asked and there is nothing for it.
    NoWork {
        /// The node.
        node: NodeNumber,
    },
    /// Nobody needs this attempt any more: tell the node.
    Stop {
        /// The job.
        job: JobNumber,
        /// The node.
        node: NodeNumber,
        /// The attempt.
        attempt: Attempt,
    },
    /// An attempt came to nothing and the job waits again.
    Retry {
        /// The job.
        job: JobNumber,
        /// The attempt.
        attempt: Attempt,
        /// Why.
        reason: FailReason,
    },
    /// The answers do not agree: more places were opened.
    ExtraPlaces {
        /// The job.
        job: JobNumber,
        /// How many.
        places: u8,
    },
    /// The job has ended.
    End {
        /// The job.
        job: JobNumber,
        /// How.
        end: JobEnd,
    },
    /// A node has not been heard of for too long.
    NodeLost {
        /// The node.
        node: NodeNumber,
    },
}

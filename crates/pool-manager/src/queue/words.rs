//! What callers say to the queue and what it answers.

use std::sync::Arc;

use sandrun_core::pool::{
    ClaimNumber, JobNumber, Needs, NodeNumber, NodeStatus, Offer, Priority, SignatureCheck,
};
use sandrun_store::queue::{BlobHash, Body, LogStream, OutputRef, UnixMillis};
use sandrun_types::Attempt;
use serde::{Deserialize, Serialize};

/// A job that a client submits, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Its client's name.
    pub client: String,
    /// How urgent it is.
    pub priority: Priority,
    /// What the node has to have.
    pub needs: Needs,
    /// How many nodes run it.
    pub replicas: u8,
    /// How many have to agree.
    pub quorum: u8,
    /// Seconds that it may run.
    pub timeout: u32,
    /// How many attempts may be lost before it fails; as many as the service allows where it does not say.
    pub retries: Option<u8>,
    /// The request as it is stored and given to nodes, JSON.
    pub request: Vec<u8>,
    /// Bodies that the request refers to, stored already or among `bodies`.
    pub blobs: Vec<BlobHash>,
    /// Bodies that are written with it.
    pub bodies: Vec<Body>,
    /// Jobs whose outputs it needs.
    pub parents: Vec<JobNumber>,
    /// The client's own name for this submission: a repeat gets the same job.
    pub idempotency: Option<String>,
}

impl Submission {
    /// Bytes of its request and of what is written with it.
    pub(super) fn bytes(&self) -> usize {
        self.request.len() + self.bodies.iter().map(|body| body.data.len()).sum::<usize>()
    }
}

/// What a submission became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The job.
    pub job: JobNumber,
    /// Whether the client had submitted it before, under the same idempotency key.
    pub is_known: bool,
    /// Whether it failed at once, below a parent that has.
    pub has_failed: bool,
}

/// A node that comes, or comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where its executor is; equal endpoints are one node.
    pub endpoint: String,
    /// What it offers.
    pub offer: Offer,
    /// What it said, for lists.
    pub announced: Announced,
}

/// What a node said at its registration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announced {
    /// Version of the node protocol: 1 for existing node clients, 2 for ours.
    pub protocol: u32,
    /// How many jobs it takes at once; `None` where it never said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Its capabilities in its own words.
    pub capabilities: serde_json::Value,
}

/// Work that a node asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The node's id.
    pub node: String,
    /// Most jobs that it takes now.
    pub max: u32,
    /// Milliseconds that it waits for the first one.
    pub wait: u64,
    /// The node's own number of this claim.
    pub number: Option<ClaimNumber>,
}

/// A job that a node has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The job.
    pub job: JobNumber,
    /// Number of the attempt.
    pub attempt: Attempt,
    /// The request as it was stored; where it is `None` the store's reading side has it.
    pub request: Option<Arc<[u8]>>,
}

/// What a node says about a job that it has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The node's id.
    pub node: String,
    /// The job.
    pub job: JobNumber,
    /// Its attempt; the one that the node holds now where it does not say.
    pub attempt: Option<Attempt>,
    /// Exit code of the program.
    pub exit_code: i32,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it printed as errors.
    pub stderr: Vec<u8>,
    /// Files that it left, stored already.
    pub outputs: Vec<OutputRef>,
    /// The executor's receipt.
    pub receipt: Option<Vec<u8>>,
    /// The worker key's signature over the receipt.
    pub signature: Option<Vec<u8>>,
    /// What came of checking it.
    pub check: SignatureCheck,
    /// What else is kept, JSON.
    pub details: Vec<u8>,
}

impl Completion {
    /// Bytes of what it brings, but for the files, which are stored already.
    pub(super) fn bytes(&self) -> usize {
        let signed = [&self.receipt, &self.signature];
        let signed = signed.into_iter().flatten().map(Vec::len).sum::<usize>();
        self.stdout.len() + self.stderr.len() + self.details.len() + signed
    }
}

/// An attempt that came to nothing at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The node's id.
    pub node: String,
    /// The job.
    pub job: JobNumber,
    /// Its attempt; the one that the node holds now where it does not say.
    pub attempt: Option<Attempt>,
    /// Whether another node may have more luck.
    pub retry: bool,
    /// Why, in the node's words.
    pub words: String,
}

/// New output of a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The node's id.
    pub node: String,
    /// The job.
    pub job: JobNumber,
    /// Its attempt.
    pub attempt: Attempt,
    /// Pieces: which output, from which byte on, what.
    pub pieces: Vec<(LogStream, u64, Vec<u8>)>,
}

/// What a node is told when it says that it is alive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// Whether the node understands anything beyond "ok".
    pub speaks: bool,
    /// Attempts that nobody needs any more.
    pub cancel: Vec<(JobNumber, Attempt)>,
    /// Whether it takes nothing new.
    pub drain: bool,
}

/// A node, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its number.
    pub number: NodeNumber,
    /// Its id.
    pub id: String,
    /// Its endpoint.
    pub endpoint: String,
    /// What it announced.
    pub announced: Announced,
    /// When it was heard of.
    pub heard: UnixMillis,
    /// Jobs whose program ended with 0 here.
    pub completed: u64,
    /// Jobs whose program ended otherwise here.
    pub failed: u64,
    /// How it stands.
    pub status: NodeStatus,
    /// Whether it was told to take nothing new: so it comes back where it is lost.
    pub drained: bool,
    /// Leases that it has.
    pub active: u32,
    /// What it offers.
    pub offer: Offer,
}

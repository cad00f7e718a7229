//! What is written and read: plain rows.

use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::Attempt;

/// Milliseconds since 1970, UTC.
pub type UnixMillis = u64;

/// How a job stands, for lists and for old clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobWord { Pending, Assigned, Running, Completed, Failed }

/// A job's changing part. `snapshot` is the machine's, opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    pub number: JobNumber,
    pub open: bool,
    pub word: JobWord,
    pub reason: Option<String>,
    pub node: Option<NodeNumber>,
    pub attempt: Option<Attempt>,
    pub started: Option<UnixMillis>,
    pub ended: Option<UnixMillis>,
    pub snapshot: Vec<u8>,
}

/// A job's fixed part, written once, with its first state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    pub number: JobNumber,
    pub client: ClientNumber,
    pub created: UnixMillis,
    pub priority: u8,
    /// Canonical JSON of the request, without file bodies.
    pub request: Vec<u8>,
    /// Bodies that it refers to, already stored.
    pub blobs: Vec<BlobHash>,
    pub parents: Vec<JobNumber>,
    pub idempotency: Option<String>,
}

/// A whole job, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow { pub new: NewJob, pub client_name: String, pub state: JobState }

/// A node: its public id, the machine's snapshot, counters, and what it announced (JSON), for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    pub number: NodeNumber,
    pub id: String,
    pub endpoint: String,
    pub announced: Vec<u8>,
    pub heard: UnixMillis,
    pub completed: u64,
    pub failed: u64,
    pub snapshot: Vec<u8>,
}

/// A client's name and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRow { pub number: ClientNumber, pub name: String }

/// SHA-256 of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

/// A file that a job left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRef { pub path: String, pub size: u64, pub blob: BlobHash }

/// What a node answered under an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub job: JobNumber,
    pub attempt: Attempt,
    pub node: NodeNumber,
    pub exit_code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub outputs: Vec<OutputRef>,
    pub receipt: Option<Vec<u8>>,
    pub signature: Option<Vec<u8>>,
    /// Anything else, JSON (the executor's own status for the coordinator).
    pub details: Vec<u8>,
}

/// As [`Answer`], read back.
pub type StoredAnswer = Answer;

/// Which output a piece of a log belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream { Stdout, Stderr }

/// A piece of a running job's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPiece { pub job: JobNumber, pub attempt: Attempt, pub stream: LogStream, pub from: u64, pub bytes: Vec<u8> }

/// What one batch writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Writes {
    pub clients: Vec<ClientRow>,
    pub new_jobs: Vec<NewJob>,
    pub jobs: Vec<JobState>,
    pub nodes: Vec<NodeRow>,
    pub answers: Vec<Answer>,
    pub logs: Vec<LogPiece>,
}

/// What others have written (or, from `load`, all that is open).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    pub clients: Vec<ClientRow>,
    pub jobs: Vec<JobState>,
    pub nodes: Vec<NodeRow>,
    /// Highest numbers given out so far, by anybody.
    pub last_job: u64,
    pub last_node: u32,
    pub last_client: u32,
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter { pub word: Option<JobWord>, pub client: Option<String>, pub below: Option<JobNumber>, pub limit: u32 }

//! What is written and read: plain rows.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::{Attempt, OutputRoot};
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, UTC.
pub type UnixMillis = u64;

/// How a job stands, for lists and for old clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobWord {
    /// Nobody has it, or it waits for its parents.
    Pending,
    /// A node has it and has not said that it began.
    Assigned,
    /// A node works on it.
    Running,
    /// It ended with a result.
    Completed,
    /// It ended without one.
    Failed,
}

/// A job's changing part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// Which job.
    pub number: JobNumber,
    /// Whether anything can still happen to it; [`super::QueueStore::load`] gives those back.
    pub open: bool,
    /// How it stands.
    pub word: JobWord,
    /// Why it failed, for people.
    pub reason: Option<String>,
    /// Who has it, or had it last.
    pub node: Option<NodeNumber>,
    /// Its latest attempt.
    pub attempt: Option<Attempt>,
    /// When its latest attempt began.
    pub started: Option<UnixMillis>,
    /// When it ended; its results are kept for a time from here on.
    pub ended: Option<UnixMillis>,
    /// The machine's own bytes, never opened here.
    #[serde(with = "serde_bytes")]
    pub snapshot: Vec<u8>,
}

/// A job's fixed part, written once, in one batch with its first [`JobState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    /// Its number: higher than all before.
    pub number: JobNumber,
    /// Who submitted it; the [`ClientRow`] is in this batch or an earlier one.
    pub client: ClientNumber,
    /// When it was submitted.
    pub created: UnixMillis,
    /// From 0 to 9.
    pub priority: u8,
    /// Canonical JSON of the request, without file bodies.
    #[serde(with = "serde_bytes")]
    pub request: Vec<u8>,
    /// Bodies that it refers to, already stored or among [`Writes::bodies`]. They stay for as long as the job does.
    pub blobs: Vec<BlobHash>,
    /// Jobs that have to end before it. They stay for as long as it is open.
    pub parents: Vec<JobNumber>,
    /// The key under which its client can submit it again without making another.
    pub idempotency: Option<String>,
}

/// A whole job, for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The part that never changes.
    pub new: NewJob,
    /// Name of its client.
    pub client_name: String,
    /// The part that does.
    pub state: JobState,
    /// Of an ended job: its program's exit status, where there is a result and the program ended by itself.
    pub exit_code: Option<i32>,
}

/// A node, for the machine and for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its number.
    pub number: NodeNumber,
    /// Its public id.
    pub id: String,
    /// Where it listens, as it said; may be empty.
    pub endpoint: String,
    /// What it announced, JSON.
    #[serde(with = "serde_bytes")]
    pub announced: Vec<u8>,
    /// When it was heard last, as far as it was written.
    pub heard: UnixMillis,
    /// Jobs that it completed.
    pub completed: u64,
    /// Jobs that failed at it.
    pub failed: u64,
    /// The machine's own bytes, never opened here.
    #[serde(with = "serde_bytes")]
    pub snapshot: Vec<u8>,
}

/// A client's name and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Its number.
    pub number: ClientNumber,
    /// Its name; one number has one name, and one name one number.
    pub name: String,
}

/// A job that a client submitted under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Whose key it is.
    pub client: ClientNumber,
    /// The key.
    pub key: String,
    /// The job.
    pub job: JobNumber,
}

/// SHA-256 of a body; as text 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlobHash(pub [u8; 32]);

impl fmt::Display for BlobHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A text that is no SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256: give 64 hexadecimal digits")]
pub struct NotABlobHash;

impl FromStr for BlobHash {
    type Err = NotABlobHash;

    fn from_str(text: &str) -> Result<Self, NotABlobHash> {
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| NotABlobHash)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(NotABlobHash);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| NotABlobHash)?;
        }
        Ok(Self(hash))
    }
}

impl From<BlobHash> for String {
    fn from(hash: BlobHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for BlobHash {
    type Error = NotABlobHash;

    fn try_from(text: String) -> Result<Self, NotABlobHash> {
        text.parse()
    }
}

/// A file that a job left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRef {
    /// Where the job left it, relative to its folder.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Its body, already stored. It stays for as long as the job does.
    #[serde(rename = "sha256")]
    pub blob: BlobHash,
}

/// What a node answered under an attempt. One for each attempt: the first stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The job.
    pub job: JobNumber,
    /// Under which attempt.
    pub attempt: Attempt,
    /// Who answered.
    pub node: NodeNumber,
    /// The program's exit status, where it ended by itself.
    pub exit_code: Option<i32>,
    /// What it printed.
    #[serde(with = "serde_bytes")]
    pub stdout: Vec<u8>,
    /// What it complained.
    #[serde(with = "serde_bytes")]
    pub stderr: Vec<u8>,
    /// Files that it left.
    pub outputs: Vec<OutputRef>,
    /// The executor's receipt, where it gives one.
    #[serde(with = "serde_bytes")]
    pub receipt: Option<Vec<u8>>,
    /// The node's signature, where it gives one.
    #[serde(with = "serde_bytes")]
    pub signature: Option<Vec<u8>>,
    /// Anything else, JSON (the executor's own status for the coordinator).
    #[serde(with = "serde_bytes")]
    pub details: Vec<u8>,
    /// What it is found by ([`super::QueueReader::by_output_root`]); nothing where it left no files.
    pub output_root: Option<OutputRoot>,
}

/// As [`Answer`], read back.
pub type StoredAnswer = Answer;

/// Which output a piece of a log belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a running job's output. Pieces of one attempt may overlap where a node sent one again; of two that begin at
/// one place the longer stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// The job.
    pub job: JobNumber,
    /// Under which attempt; each begins again from 0.
    pub attempt: Attempt,
    /// Which output.
    pub stream: LogStream,
    /// Offset of the first byte.
    pub from: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A short body that is written with the batch that refers to it ([`super::QueueReader::takes_with_batch`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Its name.
    pub blob: BlobHash,
    /// When it was put.
    pub put: UnixMillis,
    /// All of it.
    #[serde(with = "body_bytes")]
    pub data: Bytes,
}

/// [`Bytes`] as one string of bytes.
mod body_bytes {
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Ok(Bytes::from(bytes.into_vec()))
    }
}

/// What one batch writes. States, answers and pieces of jobs that are not there (they were swept) are left out silently.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Writes {
    /// Clients that were not known before.
    pub clients: Vec<ClientRow>,
    /// Jobs that were not there before.
    pub new_jobs: Vec<NewJob>,
    /// Each touched job once, new ones included.
    pub jobs: Vec<JobState>,
    /// Each touched node once.
    pub nodes: Vec<NodeRow>,
    /// Answers that came in.
    pub answers: Vec<Answer>,
    /// Pieces of logs that came in.
    pub logs: Vec<LogPiece>,
    /// Bodies that its jobs refer to and that are not stored yet; only where the store takes such.
    pub bodies: Vec<Body>,
}

impl Writes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let Self {
            clients,
            new_jobs,
            jobs,
            nodes,
            answers,
            logs,
            bodies,
        } = self;
        clients.is_empty()
            && new_jobs.is_empty()
            && jobs.is_empty()
            && nodes.is_empty()
            && answers.is_empty()
            && logs.is_empty()
            && bodies.is_empty()
    }
}

impl Writes {
    /// How many rows it has.
    pub(super) const fn rows(&self) -> usize {
        self.clients.len()
            + self.new_jobs.len()
            + self.jobs.len()
            + self.nodes.len()
            + self.answers.len()
            + self.logs.len()
            + self.bodies.len()
    }

    /// Whether anything refers to a body that does not come with it.
    pub(super) fn needs_stored_bodies(&self) -> bool {
        let ours: HashSet<BlobHash> = self.bodies.iter().map(|body| body.blob).collect();
        let mut wanted = self.new_jobs.iter().flat_map(|new| &new.blobs);
        wanted.any(|blob| !ours.contains(blob))
            || self.answers.iter().any(|answer| !answer.outputs.is_empty())
    }
}

/// What others have written (or, from [`super::QueueStore::load`], all that is open), each list in the order of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// New clients.
    pub clients: Vec<ClientRow>,
    /// Jobs that changed, as they are now; also those that ended.
    pub jobs: Vec<JobState>,
    /// Where `jobs` may lack some that have ended, because they were removed since: the numbers, in their order, of all that
    /// were open before `jobs`. One that is in neither is gone.
    pub standing: Option<Vec<JobNumber>>,
    /// Nodes that changed, as they are now.
    pub nodes: Vec<NodeRow>,
    /// Keys of the jobs in `jobs` (a key that [`super::QueueStore::by_idempotency`] has not found may have come since).
    /// Empty from `load`.
    pub keys: Vec<KeyRow>,
    /// Highest job number given out so far, by anybody.
    pub last_job: u64,
    /// Highest node number given out so far, by anybody.
    pub last_node: u32,
    /// Highest client number given out so far, by anybody.
    pub last_client: u32,
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Only those that stand so.
    pub word: Option<JobWord>,
    /// Only those of the client with this name.
    pub client: Option<String>,
    /// Only those with a lower number: the last one of the page before.
    pub below: Option<JobNumber>,
    /// At most so many.
    pub limit: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_and_nothing_else_is_one() {
        let hash = BlobHash(std::array::from_fn(|at| u8::try_from(at * 8).unwrap()));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(65), &"ä".repeat(32)] {
            assert_eq!(bad.parse::<BlobHash>(), Err(NotABlobHash), "{bad}");
        }
    }
}

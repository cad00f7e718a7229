//! The JSON of the HTTP API, as both sides of it see it.
//!
//! Owns field names and forms; numbers that clients show are floats here and nowhere else. Reading is lenient where
//! older services leave fields out; writing gives all.

use std::collections::BTreeMap;

use sandrun_types::{BundlePath, OutputFile, RunOutcome, Sha256Hex, WorkerId};
use serde::{Deserialize, Serialize};

/// `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy`.
    pub status: String,
    /// The worker key's public half; `None` for an anonymous executor.
    pub worker_id: Option<WorkerId>,
    /// Base64 of the signature over the challenge, if one was sent and there is a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// The exact class that jobs run under which ask for none: `native`.
    #[serde(default)]
    pub class: Option<Sha256Hex>,
    /// The exact ids of all classes that it runs, by their words: `native`, `det`, `det-soft`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Sha256Hex>,
    /// The layers of isolation that held when they were probed at start.
    #[serde(default)]
    pub isolation: Vec<String>,
    /// Jobs that it runs at once; `None` from a service of old, which never says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_jobs: Option<u32>,
    /// What the machine has; `None` from a service of old, which never says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
}

/// What an executor's machine has for jobs. No executor gives jobs a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Processors, as affinity and control groups leave them.
    pub cpu_cores: u16,
    /// Main memory in MiB, as control groups leave it.
    pub memory_mib: u32,
}

/// `GET /environments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environments {
    /// Names that a manifest's `environment` can say here.
    pub templates: Vec<String>,
    /// Counts.
    pub stats: EnvironmentStats,
    /// Every image with a name, and every other that is at hand.
    #[serde(default)]
    pub environments: Vec<EnvironmentEntry>,
    /// Whether images that are not at hand are fetched when a job names them.
    #[serde(default)]
    pub fetches: bool,
}

/// Counts of `GET /environments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentStats {
    /// Names that can be used.
    pub total_templates: u64,
    /// Images that are at hand.
    pub cached_environments: u64,
    /// Jobs and requests that got an image since the start.
    pub total_uses: u64,
    /// What the images take on disk, MiB.
    pub disk_usage_mb: u64,
}

/// One image; also the answer of `POST /environments/{name or content id}`, which comes when it is at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentEntry {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its content id.
    pub content: String,
    /// Whether it is at hand.
    pub cached: bool,
    /// What it takes on disk, if it is at hand.
    pub size_bytes: Option<u64>,
}

/// Header of `POST /submit`: the client's own name for the submission, 32 to 128 letters and digits that nobody guesses.
/// What was sent under it before is answered with the run that there is, not run again.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// `POST /submit`, accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The executor's id of the job.
    pub job_id: String,
    /// `queued`.
    pub status: String,
    /// Its place in the queue; 1 is next.
    #[serde(default)]
    pub position: u64,
}

/// `POST /submit?wait=SECONDS`: what was submitted, and what became of it until the answer.
///
/// The answer comes when the run is over, a moment after its first output, or after `wait` (30 s at most). With
/// `discard=true` the run is the request's own: it is ended where the client goes away before the answer, and forgotten
/// with all of its data where the answer says all that there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// As without `wait`.
    #[serde(flatten)]
    pub submitted: Submitted,
    /// As `GET /follow/{id}?from=0` says it; `None` without `wait`, and from an executor of old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Followed>,
    /// Whether the executor has forgotten the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discarded: bool,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// Exit code 0 within all limits.
    Completed,
    /// Anything else: a non-zero exit, a signal, a timeout or a limit.
    Failed,
}

impl JobState {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether the run is over.
    #[must_use]
    pub fn has_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Completed | Self::Failed => true,
        }
    }
}

/// What a run used and how it ended; zeros and `None` until it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutionMetadata {
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// Most memory at once, in bytes.
    pub memory_peak_bytes: u64,
    /// The same in MiB, rounded down.
    pub memory_peak_mb: u64,
    /// Wall clock in milliseconds.
    pub wall_time_ms: u64,
    /// Exit code; 128 + the signal's number if a signal ended it.
    pub exit_code: Option<i32>,
    /// Named template of packages; empty if none.
    pub environment: String,
    /// The program that runs the entrypoint.
    pub interpreter: String,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
}

/// Who ran it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerMetadata {
    /// The worker key's public half.
    pub worker_id: Option<WorkerId>,
    /// Base64 of the signature over the receipt.
    pub signature: Option<String>,
}

/// `GET /status/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// The executor's id of the job.
    pub job_id: String,
    /// Where it stands.
    pub status: JobState,
    /// Its place in the queue; 1 is next, 0 waits no more.
    #[serde(default)]
    pub queue_position: u64,
    /// The run.
    #[serde(default)]
    pub execution_metadata: ExecutionMetadata,
    /// Exact class id.
    #[serde(default)]
    pub class: Option<Sha256Hex>,
    /// Merkle root over stdout, stderr and outputs.
    #[serde(default)]
    pub output_root: Option<Sha256Hex>,
    /// Merkle root over the trace.
    #[serde(default)]
    pub trace_root: Option<Sha256Hex>,
    /// The layers that were enforced for this job.
    #[serde(default)]
    pub isolation: Vec<String>,
    /// Commitment to the inputs.
    #[serde(default)]
    pub job_hash: Option<Sha256Hex>,
    /// What it may hand out.
    #[serde(default)]
    pub output_files: BTreeMap<BundlePath, OutputFile>,
    /// Who ran it.
    #[serde(default)]
    pub worker_metadata: WorkerMetadata,
    /// One sentence where the program did not end by itself; else empty.
    #[serde(default)]
    pub explanation: String,
}

/// `GET /logs/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Standard output so far; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error so far.
    pub stderr: String,
}

/// `GET /follow/{id}?from=OFFSET&wait=SECONDS`: what was printed from an offset on, as soon as there is something, at the
/// latest after `wait` (30 s at most).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Where it stands.
    pub status: JobState,
    /// The offset to ask from next; it counts bytes of the service's own log, not of a stream.
    pub next: u64,
    /// Base64 of what went to standard output.
    pub stdout: String,
    /// Base64 of what went to standard error.
    pub stderr: String,
    /// Base64 of the canonical receipt, once the run is over and there is no more output after this.
    pub receipt: Option<String>,
    /// Base64 of the worker key's signature over it; an anonymous executor has none.
    pub signature: Option<String>,
}

/// `DELETE /jobs/{id}`: the answer comes when all processes of the job are dead, or after five seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The executor's id of the job.
    pub job_id: String,
    /// How it ends, or ended before: a job that waited or ran is `failed`.
    pub status: JobState,
}

/// One file of [`Outputs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputEntry {
    /// Its name.
    pub name: BundlePath,
    /// Its length in bytes.
    pub size: u64,
    /// The same for people.
    pub size_formatted: String,
    /// `text`, `image`, `data` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Its MIME type.
    pub mime_type: String,
    /// Where to get it, relative to the service.
    pub download_url: String,
}

/// `GET /outputs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// The executor's id of the job.
    pub job_id: String,
    /// Where it stands.
    pub status: JobState,
    /// How many files there are.
    pub total_files: usize,
    /// The files; none before the job has ended.
    pub files: Vec<OutputEntry>,
}

/// A client's quota in [`Stats`]; `limit` and `available` are `None` where quotas are off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuotaStats {
    /// CPU seconds used in the last minute.
    pub used: f64,
    /// CPU seconds a minute.
    pub limit: Option<f64>,
    /// What is left of them.
    pub available: Option<f64>,
    /// Jobs that wait or run.
    pub active_jobs: u32,
    /// Whether a job would be accepted now.
    pub can_submit: bool,
    /// Why not; empty if it would.
    pub reason: String,
}

/// The whole service in [`Stats`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemStats {
    /// Jobs that wait.
    pub queue_length: usize,
    /// Jobs that run.
    pub active_jobs: usize,
}

/// `GET /stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The caller's own.
    pub your_quota: QuotaStats,
    /// Everybody's.
    pub system: SystemStats,
}

/// Any refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One sentence: what is wrong and what to do.
    pub error: String,
}

/// The bytes that a health proof signs: the challenge (64 hexadecimal digits), bound to who asks and whom it asks.
#[must_use]
pub fn health_challenge(audience: &str, endpoint: &str, nonce: &str) -> Vec<u8> {
    format!("sandrun-health-v1\n{audience}\n{endpoint}\n{nonce}").into_bytes()
}

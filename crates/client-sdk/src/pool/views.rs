//! What services answer. Reading is lenient: what a service leaves out is empty.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandrun_types::Sha256Hex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{PoolJobId, PoolNodeId};

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Nobody has it, or it waits for other jobs.
    #[serde(alias = "queued")]
    Pending,
    /// A node has it.
    #[serde(alias = "dispatched")]
    Assigned,
    /// It runs.
    Running,
    /// Its program ended with 0.
    Completed,
    /// Its program ended otherwise, or nothing came of it.
    Failed,
}

impl JobStatus {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing happens to it any more.
    pub const fn has_ended(self) -> bool {
        match self {
            Self::Pending | Self::Assigned | Self::Running => false,
            Self::Completed | Self::Failed => true,
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A time in the service's own form: UTC text, or seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Time {
    /// Seconds since 1970.
    Seconds(f64),
    /// UTC text, such as `2026-01-31 12:00:00`.
    Text(String),
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds:.0}"),
            Self::Text(text) => f.pad(text),
        }
    }
}

/// A file that a job left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputEntry {
    /// Its path in the job's folder.
    pub path: String,
    /// Its length in bytes.
    #[serde(alias = "size_bytes")]
    pub size: u64,
    /// SHA-256 of its bytes, as the service says.
    pub sha256: Sha256Hex,
}

/// A job, as its service tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    #[serde(rename = "job_id")]
    pub id: PoolJobId,
    /// How it stands.
    pub status: JobStatus,
    /// Why it failed, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whose it is.
    #[serde(default)]
    pub client: Option<String>,
    /// How urgent it is, 0 to 9.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Its latest attempt.
    #[serde(default)]
    pub attempt: Option<u32>,
    /// Who has it, or had it last.
    #[serde(default, alias = "node_id", alias = "worker_id")]
    pub node: Option<String>,
    /// When it was submitted.
    #[serde(default, alias = "submitted_at")]
    pub created_at: Option<Time>,
    /// When its latest attempt began.
    #[serde(default)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default)]
    pub completed_at: Option<Time>,
    /// How its program ended; `None` while it runs, and where nothing came of it.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Jobs that have to end before it.
    #[serde(default, deserialize_with = "or_default")]
    pub parents: Vec<PoolJobId>,
    /// How many nodes run it.
    #[serde(default)]
    pub replicas: Option<u8>,
    /// How many have to agree.
    #[serde(default)]
    pub quorum: Option<u8>,
    /// The files that it left.
    #[serde(default, deserialize_with = "or_default")]
    pub outputs: Vec<OutputEntry>,
    /// Root over its output and files.
    #[serde(default)]
    pub output_root: Option<String>,
}

/// What a job has printed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Printed {
    /// Standard output.
    #[serde(default, alias = "output", deserialize_with = "or_default")]
    pub stdout: String,
    /// Standard error.
    #[serde(default, alias = "error", deserialize_with = "or_default")]
    pub stderr: String,
    /// Base64 of standard output, where that is no UTF-8 and the service says it.
    #[serde(default, alias = "output_base64", skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// Base64 of standard error, likewise.
    #[serde(default, alias = "error_base64", skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
}

impl Printed {
    /// Standard output as the program printed it, as far as the service tells.
    pub fn stdout_bytes(&self) -> Cow<'_, [u8]> {
        bytes(&self.stdout, self.stdout_base64.as_deref())
    }

    /// Standard error, likewise.
    pub fn stderr_bytes(&self) -> Cow<'_, [u8]> {
        bytes(&self.stderr, self.stderr_base64.as_deref())
    }

    /// Whether these may be other bytes than the program printed: what is no UTF-8 became U+FFFD, and nobody says what it
    /// was.
    pub(super) fn may_be_altered(&self) -> bool {
        let outputs = [
            (&self.stdout, &self.stdout_base64),
            (&self.stderr, &self.stderr_base64),
        ];
        outputs
            .iter()
            .any(|(text, bytes)| bytes.is_none() && text.contains(char::REPLACEMENT_CHARACTER))
    }
}

fn bytes<'a>(text: &'a str, encoded: Option<&str>) -> Cow<'a, [u8]> {
    // what is no base64 is no output either: the receipt's root tells
    match encoded.map(|it| STANDARD.decode(it)) {
        Some(Ok(bytes)) => Cow::Owned(bytes),
        Some(Err(_)) | None => Cow::Borrowed(text.as_bytes()),
    }
}

/// A job that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id.
    #[serde(rename = "job_id")]
    pub id: PoolJobId,
    /// How it stands.
    pub status: JobStatus,
}

/// Which jobs are asked for, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct JobQuery {
    /// Only those that stand so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<JobStatus>,
    /// Only those of this client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// How many at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page begins; `None` on the last one.
    #[serde(default)]
    pub next: Option<String>,
}

/// How a service stands as a whole; what it does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Overview {
    /// Jobs that have not ended; at an older broker or coordinator all that it knows.
    #[serde(default, alias = "total_jobs")]
    pub jobs: Option<u64>,
    /// Nodes that are there.
    #[serde(default, alias = "healthy_workers")]
    pub active_nodes: Option<u64>,
    /// Jobs that wait, at an older coordinator.
    #[serde(default)]
    pub queued_jobs: Option<u64>,
}

/// A node of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    #[serde(alias = "worker_id")]
    pub id: String,
    /// Where its executor is.
    #[serde(default)]
    pub endpoint: String,
    /// `up`, `draining` or `lost`; `None` where the service does not say.
    #[serde(default)]
    pub status: Option<String>,
    /// Whether it was told to take nothing new, also where it is lost now; `None` where the service does not say.
    #[serde(default)]
    pub draining: Option<bool>,
    /// What it says that it has, in its own words.
    #[serde(default)]
    pub capabilities: Value,
    /// How many jobs it takes at once.
    #[serde(default, alias = "max_concurrent_jobs")]
    pub slots: Option<u32>,
    /// How many it has.
    #[serde(default)]
    pub active_jobs: Option<u32>,
    /// Jobs that ended well at it.
    #[serde(default)]
    pub jobs_completed: Option<u64>,
    /// Jobs that did not.
    #[serde(default)]
    pub jobs_failed: Option<u64>,
    /// When it was heard of.
    #[serde(default, alias = "last_health_check")]
    pub last_heartbeat: Option<Time>,
}

impl Node {
    /// Its id where it is one that can be asked for.
    pub fn named(&self) -> Option<PoolNodeId> {
        self.id.parse().ok()
    }
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_and_new_answers_are_read() {
        let old: Job = serde_json::from_value(json!({
            "job_id": "5", "status": "pending", "node_id": null, "created_at": "2026-01-31 12:00:00",
            "completed_at": null
        }))
        .unwrap();
        assert_eq!(
            (old.status, old.node, old.outputs.len()),
            (JobStatus::Pending, None, 0)
        );
        assert_eq!(old.created_at.unwrap().to_string(), "2026-01-31 12:00:00");
        let new: Job = serde_json::from_value(json!({
            "job_id": "pool-1", "status": "completed", "node": "n", "created_at": 1.5, "exit_code": 0,
            "outputs": [{"path": "a", "size": 1, "sha256": "00".repeat(32)}], "colour": 1, "parents": null
        }))
        .unwrap();
        assert_eq!((new.outputs.len(), new.exit_code), (1, Some(0)));
        let bad: Result<Job, _> = serde_json::from_value(json!({"job_id": "../x", "status": "pending"}));
        assert!(bad.is_err());
    }

    #[test]
    fn both_forms_of_output_are_read() {
        let printed: Printed =
            serde_json::from_value(json!({"job_id": "1", "output": "a", "error": null, "exit_code": 0}))
                .unwrap();
        assert_eq!((printed.stdout.as_str(), printed.stderr.as_str()), ("a", ""));
        assert_eq!(
            serde_json::to_value(&printed).unwrap(),
            json!({"stdout": "a", "stderr": ""})
        );
        for named in [
            json!({"output": "\u{fffd}", "error": "", "output_base64": "/w=="}),
            json!({"stdout": "\u{fffd}", "stderr": "", "stdout_base64": "/w=="}),
        ] {
            let printed: Printed = serde_json::from_value(named).unwrap();
            assert_eq!(*printed.stdout_bytes(), [0xff]);
            assert!(printed.stderr_bytes().is_empty() && !printed.may_be_altered());
        }
    }
}

//! The JSON between a node and its broker. Owns field names, and what is taken for granted where a broker of old leaves
//! something out; never acts on anything.

use std::fmt;

use sandrun_types::{Attempt, BundlePath, Sha256Hex, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A broker's id of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NodeId(pub(crate) String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A broker's id of a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BrokerJob(pub(crate) String);

impl fmt::Display for BrokerJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One attempt at a job; a broker of old numbers none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) id: BrokerJob,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<Attempt>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempt {
            Some(attempt) => write!(f, "{}/{attempt}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// Which words a broker understands, as its answers show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// One job a claim, answered at once; nothing but `/complete` at the end.
    Plain,
    /// Long polls, several jobs a claim, logs, outputs, cancelling and draining.
    Two,
}

/// `POST /register`.
#[derive(Debug, Serialize)]
pub(crate) struct Registration<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) capabilities: &'a Value,
    pub(crate) protocol: u8,
    pub(crate) slots: u32,
    pub(crate) offer: &'a Value,
}

/// Its answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Registered {
    pub(crate) node_id: NodeId,
}

/// `POST /heartbeat`.
#[derive(Debug, Serialize)]
pub(crate) struct Heartbeat<'a> {
    pub(crate) node_id: &'a NodeId,
    pub(crate) jobs: Vec<Held>,
    /// Every claim up to this one is settled, and `jobs` has all that it brought; `None` where an attempt has no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claims_answered_up_to: Option<u64>,
}

/// Its answer.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Wishes {
    /// Attempts that nobody wants any more.
    pub(crate) cancel: Vec<Held>,
    /// Take nothing new; `None` from a broker that does not know of it.
    pub(crate) drain: Option<bool>,
}

/// `POST /claim`.
#[derive(Debug, Serialize)]
pub(crate) struct Claim<'a> {
    pub(crate) node_id: &'a NodeId,
    pub(crate) max: u32,
    /// This node's own number of the claim, higher than those of all before it.
    pub(crate) claim: u64,
}

/// Its answer: `jobs` from ours, `job` from any other.
#[derive(Debug, Deserialize)]
struct ClaimAnswer {
    jobs: Option<Vec<Value>>,
    #[serde(default)]
    job: Option<Value>,
}

/// What a claim brought.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) protocol: Protocol,
    pub(crate) jobs: Vec<Result<ClaimedJob, Unreadable>>,
}

/// A job that cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// What is known of whose it is.
    pub(crate) held: Option<Held>,
    /// Why.
    pub(crate) why: String,
}

impl Claimed {
    /// Reads a broker's answer.
    pub(crate) fn read(answer: &[u8]) -> Result<Self, serde_json::Error> {
        let answer: ClaimAnswer = serde_json::from_slice(answer)?;
        let (protocol, jobs) = match answer.jobs {
            Some(jobs) => (Protocol::Two, jobs),
            None => (
                Protocol::Plain,
                answer.job.filter(|job| !job.is_null()).into_iter().collect(),
            ),
        };
        Ok(Self {
            protocol,
            jobs: jobs.into_iter().map(ClaimedJob::read).collect(),
        })
    }
}

/// A job as it was claimed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ClaimedJob {
    #[serde(flatten)]
    pub(crate) held: Held,
    #[serde(default)]
    pub(crate) code: Option<String>,
    #[serde(default)]
    pub(crate) interpreter: Option<String>,
    #[serde(default)]
    pub(crate) args: Option<Vec<String>>,
    /// Seconds.
    #[serde(default)]
    pub(crate) timeout: Option<f64>,
    #[serde(default)]
    pub(crate) manifest: Option<Value>,
    #[serde(default)]
    pub(crate) files: Option<Vec<FileRef>>,
    #[serde(default)]
    pub(crate) parents: Option<Vec<Parent>>,
}

impl ClaimedJob {
    fn read(value: Value) -> Result<Self, Unreadable> {
        let held = Held::deserialize(&value).ok();
        serde_json::from_value(value).map_err(|error| Unreadable {
            held,
            why: error.to_string(),
        })
    }
}

/// A file by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRef {
    pub(crate) path: BundlePath,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256Hex,
}

/// What another job left, to be found in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Parent {
    #[serde(default)]
    pub(crate) into: Option<String>,
    #[serde(default)]
    pub(crate) files: Vec<FileRef>,
}

/// One stream in `POST …/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LogText<'a> {
    /// Bytes of this stream's text that were sent before.
    pub(crate) from: u64,
    pub(crate) text: &'a str,
}

/// `POST /v1/work/{id}/{attempt}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LogUpdate<'a> {
    pub(crate) node_id: &'a NodeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stdout: Option<LogText<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stderr: Option<LogText<'a>>,
}

/// `POST /v1/work/{id}/{attempt}/fail`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FailedAttempt<'a> {
    pub(crate) node_id: &'a NodeId,
    pub(crate) reason: &'a str,
    pub(crate) retry: bool,
}

/// `POST /complete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Completion {
    pub(crate) node_id: NodeId,
    pub(crate) job_id: BrokerJob,
    /// Standard output.
    pub(crate) output: String,
    /// Standard error.
    pub(crate) error: String,
    /// Base64 of standard output, where that is no UTF-8: its text is not all of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_base64: Option<String>,
    /// Base64 of standard error, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error_base64: Option<String>,
    pub(crate) exit_code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<Attempt>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outputs: Vec<FileRef>,
    /// One sentence where the program did not end by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) explanation: String,
    /// Base64 of the receipt's canonical bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<String>,
    /// Base64 of the executor's signature over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker_id: Option<WorkerId>,
}

/// `POST /v1/work/complete`.
#[derive(Debug, Serialize)]
pub(crate) struct Completions<'a> {
    pub(crate) completions: &'a [Completion],
}

/// Its answer: one result for each, in their order.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionAnswers {
    pub(crate) results: Vec<CompletionAnswer>,
}

/// What `POST /complete` would have answered.
#[derive(Debug, Deserialize)]
pub(crate) struct CompletionAnswer {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) error: String,
}

impl Completion {
    /// Which attempt it answers.
    pub(crate) fn held(&self) -> Held {
        Held {
            id: self.job_id.clone(),
            attempt: self.attempt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_known_by_the_answer() {
        let plain = Claimed::read(br#"{"job": null}"#).unwrap();
        assert_eq!((plain.protocol, plain.jobs.len()), (Protocol::Plain, 0));
        let plain =
            Claimed::read(br#"{"job":{"id":"7","code":"print(1)","interpreter":"python3","colour":1}}"#);
        let plain = plain.unwrap();
        let job = plain.jobs[0].as_ref().unwrap();
        assert_eq!(plain.protocol, Protocol::Plain);
        assert_eq!((job.held.to_string(), job.timeout), ("7".to_owned(), None));
        let two = Claimed::read(br#"{"jobs":[]}"#).unwrap();
        assert_eq!((two.protocol, two.jobs.len()), (Protocol::Two, 0));
        assert!(Claimed::read(b"[]").is_err());
    }

    #[test]
    fn a_job_that_cannot_be_read_leaves_the_others_alone() {
        let answer = br#"{"jobs":[{"id":"a","attempt":2,"code":7},{"id":"b","attempt":1,"code":"x"},{}]}"#;
        let mut jobs = Claimed::read(answer).unwrap().jobs.into_iter();
        let held = jobs.next().unwrap().unwrap_err().held.unwrap();
        assert_eq!((held.id.0.as_str(), held.attempt), ("a", Some(Attempt(2))));
        assert_eq!(jobs.next().unwrap().unwrap().code.as_deref(), Some("x"));
        assert_eq!(jobs.next().unwrap().unwrap_err().held, None);
    }

    #[test]
    fn a_plain_completion_has_the_five_fields_that_every_broker_knows() {
        let completion = Completion {
            node_id: NodeId("n".to_owned()),
            job_id: BrokerJob("j".to_owned()),
            output: "out".to_owned(),
            error: String::new(),
            output_base64: None,
            error_base64: None,
            exit_code: 0,
            attempt: None,
            outputs: Vec::new(),
            explanation: String::new(),
            receipt: None,
            signature: None,
            worker_id: None,
        };
        let value = serde_json::to_value(&completion).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"node_id": "n", "job_id": "j", "output": "out", "error": "", "exit_code": 0})
        );
        assert_eq!(serde_json::from_value::<Completion>(value).unwrap(), completion);
    }

    #[test]
    fn a_heartbeats_answer_of_old_wishes_nothing() {
        assert_eq!(
            serde_json::from_str::<Wishes>(r#"{"status":"ok"}"#).unwrap(),
            Wishes::default()
        );
    }
}

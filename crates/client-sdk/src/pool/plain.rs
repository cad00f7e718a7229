//! Jobs as services tell them that do not know the common calls: older coordinators and executors. An older broker's
//! answers are read as they are. Pure.

use std::collections::BTreeMap;

use sandrun_types::Sha256Hex;
use serde::Deserialize;

use super::{Job, JobStatus, OutputEntry, PoolJobId, Time};

/// `GET /status/{id}` of a coordinator.
#[derive(Debug, Deserialize)]
pub(super) struct CoordinatorJob {
    job_id: PoolJobId,
    pool_status: JobStatus,
    #[serde(default)]
    worker_id: Option<String>,
    #[serde(default)]
    worker_status: Option<ExecutorFacts>,
    #[serde(default)]
    submitted_at: Option<Time>,
    #[serde(default)]
    completed_at: Option<Time>,
}

/// `GET /status/{id}` of an executor.
#[derive(Debug, Deserialize)]
pub(super) struct ExecutorJob {
    job_id: PoolJobId,
    status: JobStatus,
    #[serde(flatten)]
    facts: ExecutorFacts,
}

/// What an executor says about a run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ExecutorFacts {
    execution_metadata: Option<Execution>,
    output_files: Option<BTreeMap<String, FileFacts>>,
    output_root: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Execution {
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default)]
    outcome: Option<String>,
}

#[derive(Debug, Deserialize)]
struct FileFacts {
    size_bytes: u64,
    sha256: Sha256Hex,
}

impl From<CoordinatorJob> for Job {
    fn from(it: CoordinatorJob) -> Self {
        let mut job = job(it.job_id, it.pool_status, it.worker_status.unwrap_or_default());
        job.node = it.worker_id;
        job.created_at = it.submitted_at;
        job.completed_at = it.completed_at;
        job
    }
}

impl From<ExecutorJob> for Job {
    fn from(it: ExecutorJob) -> Self {
        job(it.job_id, it.status, it.facts)
    }
}

fn job(id: PoolJobId, status: JobStatus, facts: ExecutorFacts) -> Job {
    let outputs = facts.output_files.unwrap_or_default().into_iter();
    let entry = |(path, it): (String, FileFacts)| OutputEntry {
        path,
        size: it.size_bytes,
        sha256: it.sha256,
    };
    let execution = facts.execution_metadata.filter(|_| status.has_ended());
    let outcome = execution.as_ref().and_then(|it| it.outcome.clone());
    Job {
        id,
        status,
        reason: outcome.filter(|it| it != "exited"),
        client: None,
        priority: None,
        attempt: None,
        node: None,
        created_at: None,
        started_at: None,
        completed_at: None,
        exit_code: execution.and_then(|it| it.exit_code),
        parents: Vec::new(),
        replicas: None,
        quorum: None,
        outputs: outputs.map(entry).collect(),
        output_root: facts.output_root,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_executors_words_make_a_job_at_both() {
        let facts = json!({
            "job_id": "j", "status": "failed", "queue_position": 0,
            "execution_metadata": {"cpu_seconds": 0.1, "exit_code": 137, "outcome": "timeout"},
            "output_files": {"a/b.txt": {"size_bytes": 2, "sha256": "ab".repeat(32), "type": "text"}},
            "output_root": "00"
        });
        let executor = Job::from(serde_json::from_value::<ExecutorJob>(facts.clone()).unwrap());
        assert_eq!(
            (executor.status, executor.exit_code),
            (JobStatus::Failed, Some(137))
        );
        assert_eq!(executor.reason.as_deref(), Some("timeout"));
        assert_eq!(
            (executor.outputs[0].path.as_str(), executor.outputs[0].size),
            ("a/b.txt", 2)
        );
        let said = json!({
            "job_id": "pool-1", "pool_status": "dispatched", "worker_id": "w", "worker_status": null,
            "submitted_at": 1.5, "completed_at": null
        });
        let waiting = Job::from(serde_json::from_value::<CoordinatorJob>(said).unwrap());
        assert_eq!((waiting.status, waiting.exit_code), (JobStatus::Assigned, None));
        let said =
            json!({"job_id": "pool-1", "pool_status": "failed", "worker_id": "w", "worker_status": facts});
        let ended = Job::from(serde_json::from_value::<CoordinatorJob>(said).unwrap());
        assert_eq!((ended.exit_code, ended.outputs.len()), (Some(137), 1));
    }
}

//! What became of a job: `/status`, `/logs`, `/receipt`.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::path::Path;
use super::submit::blocking;
use super::{ApiError, Shared};
use crate::job::Ended;
use crate::jobs::Phase;
use crate::service::Snapshot;
use crate::wire::{ExecutionMetadata, JobState, JobStatus, Logs, WorkerMetadata};

/// The job that a path names.
pub(super) async fn find(app: &Shared, id: &str) -> Result<Snapshot, ApiError> {
    app.service
        .look(id.parse()?)
        .await?
        .ok_or_else(ApiError::unknown_job)
}

impl Snapshot {
    /// Where the job stands, in the words of the API.
    pub(super) fn state(&self) -> JobState {
        match &self.phase {
            Phase::Queued => JobState::Queued,
            Phase::Running => JobState::Running,
            Phase::Ended { report, .. } | Phase::Delivered { report, .. } => report.state,
        }
    }

    /// Refuses if the job's data was deleted.
    pub(super) fn data(self) -> Result<Self, ApiError> {
        match self.phase {
            Phase::Queued | Phase::Running | Phase::Ended { .. } => Ok(self),
            Phase::Delivered { .. } => Err(ApiError::not_found(
                "the job's data was deleted: after its download, at its owner's word, or to make room",
            )),
        }
    }
}

pub(super) async fn status(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<JobStatus>, ApiError> {
    let found = find(&app, &id).await?;
    let blank = JobStatus {
        job_id: found.job.id.to_string(),
        status: found.state(),
        queue_position: found.position as u64,
        execution_metadata: ExecutionMetadata {
            interpreter: found.job.inputs.entry.interpreter.name().to_owned(),
            environment: found.job.inputs.manifest.environment.clone().unwrap_or_default(),
            ..ExecutionMetadata::default()
        },
        class: Some(sandrun_types::Sha256Hex(found.job.class.1.0)),
        output_root: None,
        trace_root: None,
        isolation: Vec::new(),
        job_hash: Some(found.job.inputs.job_hash),
        output_files: std::collections::BTreeMap::new(),
        worker_metadata: WorkerMetadata {
            worker_id: app.key.as_ref().map(crate::worker_key::WorkerKey::worker_id),
            signature: None,
        },
        explanation: String::new(),
    };
    Ok(Json(match found.phase.report() {
        Some(ended) => of_ended(ended, blank),
        None => blank,
    }))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds shown as seconds, for people"
)]
fn of_ended(ended: &Ended, blank: JobStatus) -> JobStatus {
    let receipt = &ended.receipt;
    JobStatus {
        execution_metadata: ExecutionMetadata {
            cpu_seconds: receipt.cpu_time_us as f64 / 1e6,
            memory_peak_bytes: receipt.memory_peak_bytes,
            memory_peak_mb: receipt.memory_peak_bytes / (1024 * 1024),
            wall_time_ms: receipt.wall_time_ms,
            exit_code: Some(receipt.exit_code),
            outcome: Some(receipt.outcome),
            ..blank.execution_metadata
        },
        class: Some(receipt.class),
        output_root: receipt.output_root,
        trace_root: receipt.trace_root,
        isolation: receipt.isolation.clone(),
        output_files: receipt.output_files.clone(),
        worker_metadata: WorkerMetadata {
            worker_id: receipt.worker_id,
            signature: ended.signature.map(|signature| STANDARD.encode(signature)),
        },
        explanation: receipt.explanation.clone(),
        ..blank
    }
}

pub(super) async fn logs(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Logs>, ApiError> {
    let found = find(&app, &id).await?.data()?;
    let log = found.job.log.clone();
    let (stdout, stderr) = blocking(move || log.whole())
        .await?
        .map_err(|error| ApiError::internal("a job's log could not be read", &error))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Json(Logs {
        stdout: text(stdout),
        stderr: text(stderr),
    }))
}

/// One stream as it is, bytes that are no UTF-8 included: what the output root commits to.
pub(super) async fn raw_log(
    State(app): State<Shared>,
    Path((id, stream)): Path<(String, String)>,
) -> Result<impl IntoResponse, ApiError> {
    let found = find(&app, &id).await?.data()?;
    let log = found.job.log.clone();
    let (stdout, stderr) = blocking(move || log.whole())
        .await?
        .map_err(|error| ApiError::internal("a job's log could not be read", &error))?;
    let bytes = match stream.as_str() {
        "stdout" => stdout,
        "stderr" => stderr,
        _ => return Err(ApiError::not_found("a job's logs are stdout and stderr")),
    };
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes))
}

pub(super) async fn receipt(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let found = find(&app, &id).await?;
    let ended = found.phase.report().ok_or_else(|| {
        ApiError::conflict(format!(
            "the job is still {}; its receipt is there once it has ended",
            found.state().name()
        ))
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], ended.receipt_bytes.clone()))
}

//! A run that is over, as the worker tells it; perhaps with its answer to the submission. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandrun_executor::wire::{ExecutionMetadata, JobState, JobStatus, WorkerMetadata};
use sandrun_executor::{FollowedRun, SignedReceipt};
use sandrun_types::Receipt;

/// All that a worker has to say about a run, but for its files; nothing of it is believed yet.
#[derive(Debug)]
pub(super) struct Ended {
    /// As `GET /status/{id}` would say it.
    pub(super) status: JobStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Missing from an executor of old.
    pub(super) receipt: Option<SignedReceipt>,
}

impl Ended {
    /// What came with the answer to the submission of `run`, if that was all; a receipt that is none is asked for again.
    pub(super) fn of(run: &str, followed: FollowedRun) -> Option<Self> {
        let signed = followed.receipt.filter(|_| followed.state.has_ended())?;
        let receipt = Receipt::parse(&signed.bytes).ok()?;
        Some(Self {
            status: status(run, followed.state, receipt, &signed),
            stdout: followed.stdout,
            stderr: followed.stderr,
            receipt: Some(signed),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds shown as seconds, for people"
)]
fn status(run: &str, state: JobState, receipt: Receipt, signed: &SignedReceipt) -> JobStatus {
    JobStatus {
        job_id: run.to_owned(),
        status: state,
        queue_position: 0,
        execution_metadata: ExecutionMetadata {
            cpu_seconds: receipt.cpu_time_us as f64 / 1e6,
            memory_peak_bytes: receipt.memory_peak_bytes,
            memory_peak_mb: receipt.memory_peak_bytes / (1024 * 1024),
            wall_time_ms: receipt.wall_time_ms,
            exit_code: Some(receipt.exit_code),
            environment: receipt.environment,
            interpreter: receipt.interpreter,
            outcome: Some(receipt.outcome),
        },
        class: Some(receipt.class),
        output_root: receipt.output_root,
        trace_root: receipt.trace_root,
        isolation: receipt.isolation,
        job_hash: Some(receipt.job_hash),
        output_files: receipt.output_files,
        worker_metadata: WorkerMetadata {
            worker_id: receipt.worker_id,
            signature: signed.signature.map(|it| STANDARD.encode(it)),
        },
        explanation: receipt.explanation,
    }
}

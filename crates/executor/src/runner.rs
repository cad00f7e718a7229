//! Runs one job in the sandbox and states what happened.
//!
//! Owns the step from a run's report to its receipt. Blocking: the service calls it on a thread of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use sandrun_sandbox::{RunError, RunReport, Sandbox};
use sandrun_types::{ClassId, OutputFile, RECEIPT_FORMAT, Receipt, RunOutcome, Sha256Hex};

use crate::files;
use crate::job::{Ended, Job};
use crate::jobs::Verdict;
use crate::wire::JobState;
use crate::worker_key::WorkerKey;

/// A run's end, as the registry needs to know it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) verdict: Verdict,
    pub(crate) cpu: Duration,
    /// Bytes of outputs and log that stay on disk.
    pub(crate) bytes: u64,
    pub(crate) ended: Ended,
}

impl Finished {
    /// The words of the `[DONE]` line.
    pub(crate) fn done_line(&self) -> String {
        let receipt = &self.ended.receipt;
        let mib = receipt.memory_peak_bytes / (1024 * 1024);
        let cpu = self.cpu.as_secs_f64();
        let mut line = format!(
            "Job {} (exit={}, CPU={cpu:.3}s, Mem={mib}MB)",
            receipt.status, receipt.exit_code
        );
        if !receipt.explanation.is_empty() {
            line.push_str(": ");
            line.push_str(&receipt.explanation);
        }
        line
    }
}

/// Runs the job to its end.
pub(crate) fn run(sandbox: &Sandbox, job: &Job, key: Option<&WorkerKey>) -> Finished {
    let result = match job.cancel.handle() {
        Some(cancel) => sandbox.run(&job.request(), &job.writer, &cancel),
        None => Err(RunError::Cancelled),
    };
    if let Err(error) = &result {
        tracing::warn!(error = error as &dyn std::error::Error, "there is no result");
    }
    let finished = finish(job, result, key);
    if job.is_discarded && finished.bytes == 0 && finished.ended.receipt.output_files.is_empty() {
        // the receipt is all that there is
        job.folder.remove();
    } else if let Err(error) = std::fs::remove_dir_all(job.folder.bundle()) {
        // the inputs are of no more use, and may be most of what the job takes on disk
        tracing::warn!(%error, "cannot remove the inputs");
    }
    finished
}

/// The end of a job that has no result, for a reason that the sandbox does not know.
pub(crate) fn never_run(job: &Job, why: RunError, key: Option<&WorkerKey>) -> Finished {
    finish(job, Err(why), key)
}

fn finish(job: &Job, result: Result<RunReport, RunError>, key: Option<&WorkerKey>) -> Finished {
    let mut streams = None;
    let mut trace_bytes = 0;
    let (cpu, mut receipt) = match result {
        Ok(report) => {
            streams = Some(report.streams);
            trace_bytes = if job.is_discarded { 0 } else { report.trace.bytes };
            (report.usage.cpu, of_report(job, &report))
        }
        Err(error) => (Duration::ZERO, of_error(job, job.class.1, &error)),
    };
    let verdict = match (receipt.outcome, receipt.exit_code) {
        (RunOutcome::Exited, 0) => Verdict::Completed,
        (
            RunOutcome::Exited
            | RunOutcome::Signalled
            | RunOutcome::Timeout
            | RunOutcome::Memory
            | RunOutcome::OutputLimit
            | RunOutcome::Budget
            | RunOutcome::Refused
            | RunOutcome::Internal,
            _,
        ) => Verdict::Failed,
    };
    let state = match verdict {
        Verdict::Completed => JobState::Completed,
        Verdict::Failed => JobState::Failed,
    };
    state.name().clone_into(&mut receipt.status);
    receipt.worker_id = key.map(WorkerKey::worker_id);
    let receipt_bytes = receipt.canonical_bytes();
    let signature = key.map(|key| key.sign(&receipt_bytes));
    let outputs: u64 = receipt.output_files.values().map(|file| file.size_bytes).sum();
    Finished {
        verdict,
        cpu,
        bytes: outputs
            .saturating_add(job.log.length())
            .saturating_add(trace_bytes),
        ended: Ended {
            receipt,
            receipt_bytes,
            signature,
            state,
            streams,
            trace_bytes,
        },
    }
}

/// What every receipt of this job says, whatever happened.
fn blank(job: &Job, class: ClassId) -> Receipt {
    let manifest = &job.inputs.manifest;
    Receipt {
        class: Sha256Hex(class.0),
        cpu_time_us: 0,
        environment: job.image.id().map(|id| id.to_string()).unwrap_or_default(),
        exit_code: -1,
        explanation: String::new(),
        format: RECEIPT_FORMAT.to_owned(),
        interpreter: job.inputs.entry.interpreter.name().to_owned(),
        isolation: Vec::new(),
        job_hash: job.inputs.job_hash,
        job_id: job.id.to_string(),
        manifest_sha256: Sha256Hex(manifest.digest().0),
        memory_peak_bytes: 0,
        outcome: RunOutcome::Internal,
        output_files: BTreeMap::new(),
        output_root: None,
        status: String::new(),
        trace_root: None,
        wall_time_ms: 0,
        worker_id: None,
    }
}

fn of_report(job: &Job, report: &RunReport) -> Receipt {
    let output = |file: &sandrun_sandbox::CollectedFile| {
        let kind = files::kind(&file.path).to_owned();
        (
            file.path.clone(),
            OutputFile {
                sha256: file.sha256,
                size_bytes: file.size_bytes,
                kind,
            },
        )
    };
    Receipt {
        cpu_time_us: u64::try_from(report.usage.cpu.as_micros()).unwrap_or(u64::MAX),
        exit_code: report.exit_code,
        explanation: report.explanation.clone(),
        isolation: report.layers.names(),
        memory_peak_bytes: report.usage.memory_peak_bytes,
        outcome: report.outcome,
        output_files: report.outputs.iter().map(output).collect(),
        output_root: Some(Sha256Hex(report.output_root.0)),
        trace_root: Some(Sha256Hex(report.trace_root.0)),
        wall_time_ms: u64::try_from(report.usage.wall.as_millis()).unwrap_or(u64::MAX),
        ..blank(job, report.class)
    }
}

fn of_error(job: &Job, class: ClassId, error: &RunError) -> Receipt {
    let explanation = match error {
        RunError::Cancelled => "it was cancelled, or the executor stopped; submit the job again".to_owned(),
        // Their sources name the executor's own folders: they go to its log alone.
        RunError::Files { .. } | RunError::Internal(_) => {
            "the executor failed; submit the job again".to_owned()
        }
        RunError::BadRequest(_)
        | RunError::NoInterpreter(..)
        | RunError::Refused(_)
        | RunError::Changed(_) => error.to_string(),
    };
    Receipt {
        outcome: error.outcome(),
        explanation,
        ..blank(job, class)
    }
}

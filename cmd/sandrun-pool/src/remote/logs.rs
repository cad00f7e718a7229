//! `logs` at a service.

use client_sdk::pool::{JobStatus, LogEvent, PoolClient, PoolJobId, Printed};
use serde::Serialize;

use super::{connect, failed, job_id};
use crate::exit::Status;
use crate::output::{Output, Report, is_read};

#[derive(Debug, Serialize)]
struct Shown {
    job: PoolJobId,
    #[serde(flatten)]
    printed: Printed,
}

impl Report for Shown {
    fn human(&self) -> String {
        self.printed.stdout.clone()
    }
}

/// Shows what a job has printed; with `follow` also what it prints from now on, until it ends.
pub(crate) async fn logs(to: &str, id: &str, follow: bool, output: &Output) -> anyhow::Result<Status> {
    let id = job_id(id)?;
    let service = connect(to, None).await?;
    if follow {
        let mut follower = service.follow(&id);
        let mut has_failed = false;
        while let Some(event) = follower.next().await.map_err(failed)? {
            if !print(&event, output)? {
                return Ok(Status::Success);
            }
            has_failed |= matches!(event, LogEvent::Status(JobStatus::Failed));
        }
        if has_failed && !output.is_json() {
            say_nothing_came(&service, &id, output).await;
        }
        return Ok(Status::Success);
    }
    let printed = service.printed(&id).await.map_err(failed)?;
    let stderr = printed.stderr.clone();
    output.result(&Shown { job: id, printed })?;
    output.program_errors(&stderr);
    Ok(Status::Success)
}

/// Says why nothing came of a job; what a program printed says itself how that ended.
async fn say_nothing_came(service: &PoolClient, id: &PoolJobId, output: &Output) {
    // the output is told already: no answer is no failure
    if let Ok(job) = service.job(id).await
        && let (JobStatus::Failed, None, Some(reason)) = (job.status, job.exit_code, &job.reason)
    {
        output.note(&format!("job {id}: {reason}"));
    }
}

/// Prints an event: what the program printed, where it printed it; for scripts one JSON object a line. Gives whether
/// somebody still reads it.
pub(super) fn print(event: &LogEvent, output: &Output) -> anyhow::Result<bool> {
    if output.is_json() {
        return is_read(format!("{}\n", serde_json::to_string(event)?).as_bytes());
    }
    match event {
        LogEvent::Stdout(text) => return output.program_output(text),
        LogEvent::Stderr(text) => output.program_errors(text),
        LogEvent::Attempt(attempt) => output.note(&format!(
            "the output of attempt {attempt} follows, from its start"
        )),
        LogEvent::Status(status) if output.shows_progress() => output.note(&format!("job is {status}")),
        LogEvent::Status(_) => {}
    }
    Ok(true)
}

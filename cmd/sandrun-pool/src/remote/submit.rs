//! `submit` to a service: sends the job, follows it, prints what it printed and fetches its files.

use std::path::{Path, PathBuf};

use clap::Args;
use client_sdk::pool::{
    After, CheckedReceipt, Job, JobStatus, NodeRequirements, Options, PoolClient, PoolClientError, PoolJobId,
    Printed, Submission, Submitted,
};
use client_sdk::{ResultFile, prepare_for_pool};
use sandrun_environment::EnvironmentList;
use sandrun_types::Redundancy;
use serde::Serialize;
use serde_json::json;

use super::logs::print;
use super::{connect, failed};
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::{Output, Report};
use crate::progress::Progress;
use crate::signals::Signals;

/// Arguments of `submit` that only a service understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --to")]
pub(crate) struct ServiceArgs {
    /// Name of this client, among which the service is fair; the address when not given
    #[arg(
        id = "client_name",
        long = "client",
        value_name = "NAME",
        env = "SANDRUN_CLIENT"
    )]
    client: Option<String>,
    /// How urgent the job is: 0 to 9, 9 is the most urgent; 4 when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=9))]
    priority: Option<u8>,
    /// How many attempts may be lost before the job fails; as many as the service allows (its MAX_RETRIES) when not given
    #[arg(long, value_name = "N")]
    retries: Option<u8>,
    /// What a node has to have: cpu_cores, memory_mib, gpu, vram_mib, region or label.NAME; several times
    #[arg(long, value_name = "KEY=VALUE")]
    require: Vec<String>,
    /// Job that has to end well before, whose files this one finds in the folder DIR; several times. A job's id, or the
    /// output root (64 digits) of one that has ended well
    #[arg(long, value_name = "JOB[=DIR]")]
    after: Vec<After>,
    /// Own name for this submission: who submits it again gets the same job
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print what the program prints while it runs
    #[arg(long, short)]
    follow: bool,
}

/// What is wanted, beside a service's own options.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// A file or a directory.
    pub(crate) code: &'a Path,
    /// The manifest, where it is not the directory's own.
    pub(crate) manifest: Option<&'a Path>,
    /// The environments that have names here.
    pub(crate) environments: EnvironmentList,
    /// How many nodes run it; one when not given.
    pub(crate) redundancy: Option<Redundancy>,
    /// Where the result goes.
    pub(crate) out: Option<&'a Path>,
    /// Whether to return after the submission.
    pub(crate) detach: bool,
}

/// What `--detach` says.
#[derive(Debug, Serialize)]
struct Detached {
    job: PoolJobId,
    status: JobStatus,
}

impl Report for Detached {
    fn human(&self) -> String {
        format!("{}\n", self.job)
    }
}

/// What a job that ended says.
#[derive(Debug, Serialize)]
pub(super) struct Finished {
    job: PoolJobId,
    status: JobStatus,
    reason: Option<String>,
    exit_code: Option<i32>,
    node: Option<String>,
    attempt: Option<u32>,
    #[serde(flatten)]
    printed: Printed,
    /// What its executor stated, checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<CheckedReceipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Fetched>,
    /// Whether people have seen the output already.
    #[serde(skip)]
    is_seen: bool,
}

/// Where a result lies.
#[derive(Debug, Serialize)]
pub(super) struct Fetched {
    directory: PathBuf,
    pub(super) files: Vec<ResultFile>,
}

impl Report for Finished {
    fn human(&self) -> String {
        if self.is_seen {
            String::new()
        } else {
            self.printed.stdout.clone()
        }
    }
}

impl Finished {
    /// How it ended, in a sentence.
    pub(super) fn summary(&self) -> String {
        let mut text = format!("job {} {}", self.job, self.status);
        match (&self.reason, self.exit_code) {
            (Some(reason), Some(code)) if code != 0 => text += &format!(": {reason} (exit code {code})"),
            (Some(reason), _) => text += &format!(": {reason}"),
            (None, Some(code)) if code != 0 => text += &format!(": its program ended with {code}"),
            (None, _) => {}
        }
        match &self.receipt {
            Some(CheckedReceipt {
                worker: Some(worker),
                covers_result: true,
                ..
            }) => text += &format!("; worker {worker} has signed its result"),
            Some(CheckedReceipt { worker: None, .. }) => {
                text += "; nobody has signed its result (an executor with a --worker-key does)";
            }
            Some(CheckedReceipt { worker: Some(_), .. }) | None => {}
        }
        if let Some(result) = &self.result {
            text += &format!("; its result is in {}", result.directory.display());
        }
        text
    }
}

/// What a script learns from how a job ended.
pub(super) fn status(job: &Job) -> Status {
    match (job.status, job.exit_code) {
        (JobStatus::Completed, _) => Status::Success,
        (JobStatus::Failed, Some(code)) if code != 0 => Status::JobFailed,
        (JobStatus::Failed | JobStatus::Pending | JobStatus::Assigned | JobStatus::Running, _) => {
            Status::NoAgreement
        }
    }
}

/// Submits; waits for the end unless detached.
pub(crate) async fn submit(
    to: &str,
    wanted: &Wanted<'_>,
    more: ServiceArgs,
    output: &Output,
) -> anyhow::Result<Status> {
    // all that needs no network, before the first connection
    let job =
        prepare_for_pool(wanted.code, wanted.manifest, &wanted.environments).status(Status::BadInput)?;
    if let Some(out) = wanted.out {
        check_empty(out)?;
    }
    let redundancy = wanted.redundancy.unwrap_or(Redundancy::One);
    let options = Options {
        replicas: redundancy.replicas(),
        quorum: redundancy.quorum(),
        priority: more.priority,
        retries: more.retries,
        requirements: requirements(&more.require)?,
        after: more.after,
    };
    let submission = Submission::new(&job, options, wanted.out.is_some()).with_key(more.idempotency_key);
    let progress = if more.follow {
        Progress::none()
    } else {
        Progress::new(output)
    };
    progress.say("submitting");
    let mut signals = Signals::watch();
    let (service, submitted) = tokio::select! {
        sent = send(to, more.client.as_deref(), &submission) => sent?,
        status = signals.asked() => {
            progress.finish();
            unanswered(to, output);
            return Ok(status);
        }
    };
    if wanted.detach {
        progress.finish();
        let Submitted { id, status } = submitted;
        output.result(&Detached { job: id, status })?;
        return Ok(Status::Success);
    }
    let id = submitted.id;
    progress.above(|| output.at_once(&format!("submitted {id}"), &json!({ "submitted": id })));
    // a JSON document has the whole output at its end
    let is_live = more.follow && !output.is_json();
    tokio::select! {
        status = settle(&service, &id, wanted.out, is_live, &progress, output) => status,
        status = signals.asked() => {
            progress.finish();
            interrupted(to, &id, output);
            Ok(status)
        }
    }
}

async fn send(
    to: &str,
    client: Option<&str>,
    submission: &Submission,
) -> anyhow::Result<(PoolClient, Submitted)> {
    let service = connect(to, client).await?;
    let submitted = service.submit(submission).await.map_err(failed)?;
    Ok((service, submitted))
}

/// Says what is known of a job when `submit` ends before the service has answered.
fn unanswered(to: &str, output: &Output) {
    let text = format!(
        "interrupted; the service had not answered yet and may have taken the job: see `sandrun-pool jobs --to {to}`"
    );
    output.last_word(&text, &json!({ "interrupted": null, "note": text }));
}

/// Follows a job to its end, prints what it printed and fetches its files.
async fn settle(
    service: &PoolClient,
    id: &PoolJobId,
    out: Option<&Path>,
    is_live: bool,
    progress: &Progress,
    output: &Output,
) -> anyhow::Result<Status> {
    if is_live {
        let mut follower = service.follow(id);
        while let Some(event) = follower.next().await.map_err(failed)? {
            if !print(&event, output)? {
                break;
            }
        }
    }
    let told = |job: &Job| progress.say(&line(job));
    let ended = service.wait(id, told).await.map_err(failed)?;
    let finished = finish(service, &ended, out, progress, is_live).await?;
    progress.finish();
    output.result(&finished)?;
    if !is_live {
        output.program_errors(&finished.printed.stderr);
    }
    let status = status(&ended);
    if status != Status::Success || output.shows_progress() || finished.result.is_some() {
        output.note(&finished.summary());
    }
    Ok(status)
}

/// Says what becomes of a job whose `submit` ends before it; said even with --quiet: nobody knows the id otherwise.
fn interrupted(to: &str, id: &PoolJobId, output: &Output) {
    let text = format!(
        "interrupted; job {id} goes on; see `sandrun-pool job {id} --to {to}`, or end it with `sandrun-pool cancel {id} \
         --to {to}`"
    );
    output.last_word(&text, &json!({ "interrupted": id, "note": text }));
}

fn requirements(texts: &[String]) -> anyhow::Result<NodeRequirements> {
    let mut requirements = NodeRequirements::default();
    for text in texts {
        requirements.add(text).status(Status::BadInput)?;
    }
    Ok(requirements)
}

/// A result is not mixed with what was there before.
pub(super) fn check_empty(out: &Path) -> anyhow::Result<()> {
    let problem = match std::fs::read_dir(out) {
        Ok(mut items) => items.next().map(|_| "it is not empty".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(error.to_string()),
    };
    match problem {
        Some(why) => {
            let text = format!(
                "{} can't take a result: {why}. Name a new or an empty directory with --out",
                out.display()
            );
            Err(Failure::new(Status::BadInput, text))
        }
        None => Ok(()),
    }
}

/// A job's stages in one line, those that are reached marked, or what it waits for; its id was said before.
fn line(job: &Job) -> String {
    if let Some(waits) = job.reason.as_ref().filter(|_| !job.status.has_ended()) {
        return format!("{}: {waits}", job.status);
    }
    let stages = [
        ("queued", JobStatus::Pending),
        ("assigned", JobStatus::Assigned),
        ("running", JobStatus::Running),
        ("done", JobStatus::Completed),
    ];
    let marks = stages.map(|(name, stage)| {
        if job.status >= stage {
            format!("{name} ✓")
        } else {
            name.to_owned()
        }
    });
    let node = job.node.as_ref().filter(|_| job.status != JobStatus::Pending);
    let node = node.map_or_else(String::new, |it| format!("  [node {it}]"));
    format!("{}{node}", marks.join(" → "))
}

/// Gets what an ended job has printed and left.
pub(super) async fn finish(
    service: &PoolClient,
    job: &Job,
    out: Option<&Path>,
    progress: &Progress,
    is_seen: bool,
) -> anyhow::Result<Finished> {
    let printed = match service.printed(&job.id).await {
        Ok(printed) => printed,
        // an older coordinator keeps none
        Err(PoolClientError::Unsupported { .. }) => Printed::default(),
        Err(error) => return Err(failed(error)),
    };
    let receipt = match job.exit_code {
        Some(_) => service.receipt(job, &printed).await.map_err(failed)?,
        None => None,
    };
    let mut result = None;
    if job.exit_code.is_some() && (out.is_some() || !job.outputs.is_empty()) {
        progress.say("fetching the result");
        let directory = match out {
            Some(out) => out.to_owned(),
            None => Path::new("results").join(job.id.as_str()),
        };
        let files = service.fetch_result(job, &printed, &directory).await;
        let mut files = files.map_err(failed)?;
        if receipt.as_ref().is_some_and(|it| it.covers_result) {
            // what was printed is part of the root too
            files.iter_mut().for_each(|it| it.verified = true);
        }
        result = Some(Fetched { directory, files });
    }
    Ok(Finished {
        job: job.id.clone(),
        status: job.status,
        reason: job.reason.clone(),
        exit_code: job.exit_code,
        node: job.node.clone(),
        attempt: job.attempt,
        printed,
        receipt,
        result,
        is_seen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(status: &str, exit_code: Option<i32>) -> Job {
        serde_json::from_value(json!({"job_id": "a", "status": status, "exit_code": exit_code, "node": "n"}))
            .unwrap()
    }

    #[test]
    fn each_end_has_its_exit_code() {
        assert_eq!(status(&job("completed", Some(0))), Status::Success);
        assert_eq!(status(&job("failed", Some(3))), Status::JobFailed);
        assert_eq!(status(&job("failed", None)), Status::NoAgreement);
    }

    #[test]
    fn stages_are_marked_as_they_are_reached() {
        assert_eq!(
            line(&job("pending", None)),
            "queued ✓ → assigned → running → done"
        );
        assert_eq!(
            line(&job("running", None)),
            "queued ✓ → assigned ✓ → running ✓ → done  [node n]"
        );
        // a line is cut at the terminal's width: what it waits for is not behind all else
        let mut waits = job("pending", None);
        waits.reason = Some("no node is up".to_owned());
        assert_eq!(line(&waits), "pending: no node is up");
    }

    #[test]
    fn a_result_is_not_mixed_with_other_files() {
        let directory = tempfile::tempdir().unwrap();
        assert!(check_empty(directory.path()).is_ok());
        assert!(check_empty(&directory.path().join("new")).is_ok());
        std::fs::write(directory.path().join("a"), "").unwrap();
        let error = check_empty(directory.path()).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
    }
}

//! `fetch` at a service: downloads the result of a job that has ended, and checks it against its receipt.

use std::path::Path;

use client_sdk::pool::Job;
use serde::Serialize;

use super::submit::{Finished, check_empty, finish, status};
use super::{connect, failed, job_id};
use crate::commands::check_usual;
use crate::exit::{Failure, Status};
use crate::output::{Output, Report};
use crate::progress::Progress;

/// What was fetched.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Got(Finished);

impl Report for Got {
    fn human(&self) -> String {
        let mut text = format!("{}\n", self.0.summary());
        for file in self.0.result.iter().flat_map(|it| &it.files) {
            let word = if file.verified { "verified" } else { "not signed" };
            text += &format!("  {}  {}  {word}\n", file.sha256, file.path);
        }
        text
    }
}

/// Fetches the result of a job into `out`, or into `./results/JOB`.
pub(crate) async fn fetch(to: &str, id: &str, out: Option<&Path>, output: &Output) -> anyhow::Result<Status> {
    let id = job_id(id)?;
    let out = match out {
        Some(out) => out.to_owned(),
        None => {
            let usual = Path::new("results").join(id.as_str());
            check_usual(&usual)?;
            usual
        }
    };
    check_empty(&out)?;
    let service = connect(to, None).await?;
    let job = service.job(&id).await.map_err(failed)?;
    check_over(&job, to)?;
    let progress = Progress::new(output);
    let finished = finish(&service, &job, Some(&out), &progress, false).await?;
    progress.finish();
    output.result(&Got(finished))?;
    Ok(status(&job))
}

fn check_over(job: &Job, to: &str) -> anyhow::Result<()> {
    if job.status.has_ended() {
        return Ok(());
    }
    let text = format!(
        "job {0} is not over, and has no result yet: `sandrun-pool job {0} --why --to {to}` says why",
        job.id
    );
    Err(Failure::new(Status::Failure, text))
}

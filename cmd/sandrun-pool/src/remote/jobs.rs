//! `jobs`, `job` and `cancel` at a service.

use client_sdk::pool::{Job, JobPage, JobQuery, JobStatus, MAX_PAGE, PoolJobId};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{connect, failed, job_id};
use crate::exit::Status;
use crate::output::{Output, Report, table};

#[derive(Debug, Serialize)]
struct List {
    jobs: Vec<Listed>,
}

/// A job of a list: what came of it is left out where the list does not say; `job` shows it.
#[derive(Debug)]
struct Listed(Named);

/// Fields of a job that a list need not say.
const RESULT: [&str; 3] = ["exit_code", "outputs", "output_root"];

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut view = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        if let Some(fields) = view.as_object_mut() {
            let is_said = |it: &Value| !it.is_null() && it.as_array().is_none_or(|it| !it.is_empty());
            fields.retain(|name, it| is_said(it) || !RESULT.contains(&name.as_str()));
        }
        view.serialize(serializer)
    }
}

/// A job under the key that it has on the market too, beside the service's own.
#[derive(Debug, Serialize)]
struct Named {
    job: PoolJobId,
    #[serde(flatten)]
    view: Job,
}

impl From<Job> for Named {
    fn from(view: Job) -> Self {
        Self {
            job: view.id.clone(),
            view,
        }
    }
}

impl Report for List {
    fn human(&self) -> String {
        let heading = ["JOB", "STATE", "NODE", "ATTEMPT", "PRIORITY", "CLIENT", "CREATED"]
            .map(str::to_owned)
            .to_vec();
        let rows = self.jobs.iter().map(|Listed(Named { view: job, .. })| {
            vec![
                job.id.to_string(),
                state(job).to_owned(),
                text(job.node.as_ref()),
                text(job.attempt),
                text(job.priority),
                text(job.client.as_ref()),
                text(job.created_at.as_ref()),
            ]
        });
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
    }
}

/// The service's word, but for what its client took back: that has failed to scripts.
fn state(job: &Job) -> &'static str {
    let is_taken_back = job.reason.as_deref() == Some("cancelled by its client");
    if job.status == JobStatus::Failed && is_taken_back {
        "cancelled"
    } else {
        job.status.word()
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |it| it.to_string())
}

/// Lists jobs, newest first; of those that are open the running ones first.
pub(crate) async fn list(
    to: &str,
    limit: u32,
    open: bool,
    client: Option<String>,
    output: &Output,
) -> anyhow::Result<Status> {
    let service = connect(to, None).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let states: &[Option<JobStatus>] = if open {
        &[
            Some(JobStatus::Running),
            Some(JobStatus::Assigned),
            Some(JobStatus::Pending),
        ]
    } else {
        &[None]
    };
    let mut jobs: Vec<Job> = Vec::new();
    let mut is_cut = false;
    for status in states {
        if jobs.len() > most {
            break;
        }
        let query = JobQuery {
            status: *status,
            client: client.clone(),
            limit: Some(limit.clamp(1, MAX_PAGE)),
            after: None,
        };
        let JobPage { jobs: page, next } = service.jobs(&query).await.map_err(failed)?;
        is_cut |= next.is_some();
        // one that has moved on meanwhile would be there twice
        jobs.extend(
            page.into_iter()
                .filter(|it| !has(&jobs, &it.id))
                .collect::<Vec<_>>(),
        );
    }
    is_cut |= jobs.len() > most;
    jobs.truncate(most);
    let jobs = jobs.into_iter().map(|it| Listed(it.into())).collect();
    output.result(&List { jobs })?;
    if is_cut {
        output.note(&format!("the first {most}; --limit shows more"));
    }
    Ok(Status::Success)
}

fn has(jobs: &[Job], id: &PoolJobId) -> bool {
    jobs.iter().any(|it| it.id == *id)
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    job: Named,
    why: String,
    #[serde(skip)]
    only_why: bool,
}

impl Report for Shown {
    fn human(&self) -> String {
        if self.only_why {
            return format!("{}\n", self.why);
        }
        let job = &self.job.view;
        let mut lines = vec![("job", job.id.to_string()), ("state", job.status.to_string())];
        let replicas = match (job.replicas, job.quorum) {
            (Some(replicas), Some(quorum)) => Some(format!("{replicas} (quorum {quorum})")),
            (replicas, _) => replicas.map(|it| it.to_string()),
        };
        let parents: Vec<&str> = job.parents.iter().map(PoolJobId::as_str).collect();
        let optional = [
            ("client", job.client.clone()),
            ("priority", job.priority.map(|it| it.to_string())),
            ("redundancy", replicas),
            ("after", (!parents.is_empty()).then(|| parents.join(", "))),
            ("node", job.node.clone()),
            ("attempt", job.attempt.map(|it| it.to_string())),
            ("created", job.created_at.as_ref().map(ToString::to_string)),
            ("started", job.started_at.as_ref().map(ToString::to_string)),
            ("ended", job.completed_at.as_ref().map(ToString::to_string)),
            ("exit code", job.exit_code.map(|it| it.to_string())),
        ];
        lines.extend(optional.into_iter().filter_map(|(name, it)| Some((name, it?))));
        for output in &job.outputs {
            lines.push((
                "output",
                format!("{}  {}  {} bytes", output.sha256, output.path, output.size),
            ));
        }
        lines.push(("why", self.why.clone()));
        let line = |(name, value): &(&str, String)| format!("{name:<10} {value}\n");
        lines.iter().map(line).collect()
    }
}

/// What a job waits for, in a sentence.
fn explain(job: &Job) -> String {
    let reason = job.reason.as_deref();
    match (job.status, reason) {
        (JobStatus::Pending, Some(reason)) => format!("it waits: {reason}"),
        (JobStatus::Pending, None) if !job.parents.is_empty() => {
            "it waits for the jobs that it comes after, or for a node that has what it needs".to_owned()
        }
        (JobStatus::Pending, None) => "it waits for a node that is free and has what it needs".to_owned(),
        (JobStatus::Assigned | JobStatus::Running, Some(reason)) => {
            format!("one of its runs waits: {reason}")
        }
        (JobStatus::Assigned, None) => "a node has it and has not begun to run it".to_owned(),
        (JobStatus::Running, None) => "it runs".to_owned(),
        (JobStatus::Completed, _) => "it is over; it waits for nothing".to_owned(),
        (JobStatus::Failed, Some(reason)) => match job.exit_code {
            Some(code) if code != 0 => format!("it failed: {reason} (exit code {code})"),
            Some(_) | None => format!("it failed: {reason}"),
        },
        (JobStatus::Failed, None) => match job.exit_code {
            Some(code) => format!("its program ended with {code}"),
            None => "it failed".to_owned(),
        },
    }
}

/// Shows one job.
pub(crate) async fn show(to: &str, id: &str, only_why: bool, output: &Output) -> anyhow::Result<Status> {
    let id = job_id(id)?;
    let service = connect(to, None).await?;
    let job = service.job(&id).await.map_err(failed)?;
    output.result(&Shown {
        why: explain(&job),
        job: job.into(),
        only_why,
    })?;
    Ok(Status::Success)
}

#[derive(Debug, Serialize)]
struct Cancelled {
    job: PoolJobId,
}

impl Report for Cancelled {
    fn human(&self) -> String {
        format!("cancelled {}\n", self.job)
    }
}

/// Takes a job back.
pub(crate) async fn cancel(to: &str, id: &str, output: &Output) -> anyhow::Result<Status> {
    let id = job_id(id)?;
    let service = connect(to, None).await?;
    service.cancel(&id).await.map_err(failed)?;
    output.result(&Cancelled { job: id })?;
    Ok(Status::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(fields: serde_json::Value) -> Job {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn a_list_leaves_out_what_it_does_not_say() {
        let listed = |fields| serde_json::to_value(Listed(job(fields).into())).unwrap();
        let short = listed(json!({"job_id": "a", "status": "completed"}));
        assert_eq!(
            (&short["job"], &short["status"]),
            (&json!("a"), &json!("completed"))
        );
        assert_eq!(short.get("reason"), Some(&Value::Null), "there is none");
        for name in RESULT {
            assert_eq!(short.get(name), None, "{name}");
        }
        let long = listed(json!({"job_id": "a", "status": "failed", "exit_code": 3, "output_root": "00"}));
        assert_eq!(
            (&long["exit_code"], &long["output_root"]),
            (&json!(3), &json!("00"))
        );
    }

    #[test]
    fn a_job_is_explained_and_shown_without_what_is_not_known() {
        let waits =
            job(json!({"job_id": "a", "status": "pending", "parents": ["b"], "replicas": 3, "quorum": 2}));
        let shown = Shown {
            why: explain(&waits),
            job: waits.into(),
            only_why: false,
        };
        let text = shown.human();
        assert!(
            text.contains("redundancy 3 (quorum 2)\n") && text.contains("after      b\n"),
            "{text}"
        );
        assert!(
            !text.contains("\nnode ") && text.contains("why        it waits for the jobs"),
            "{text}"
        );
        let failed = job(json!({"job_id": "a", "status": "failed", "reason": "cancelled by its client"}));
        assert_eq!(explain(&failed), "it failed: cancelled by its client");
        assert_eq!(state(&failed), "cancelled");
        let ended = job(json!({"job_id": "a", "status": "failed", "exit_code": 3}));
        assert_eq!(explain(&ended), "its program ended with 3");
        let both = job(json!({"job_id": "a", "status": "failed", "reason": "it failed", "exit_code": 3}));
        assert!(explain(&both).ends_with(" (exit code 3)"));
    }
}

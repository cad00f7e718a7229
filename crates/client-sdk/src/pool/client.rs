//! The calls.

use std::time::Duration;

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::detect::detect;
use super::http::{ANSWER, Http, MAX_KEY, UPLOAD, header};
use super::plain::{CoordinatorJob, ExecutorJob};
use super::{
    Job, JobPage, JobQuery, Kind, LogFollower, Node, Overview, PoolClientError, PoolJobId, PoolNodeId,
    Printed, Service, Submission, Submitted,
};

/// Most jobs of one page.
pub const MAX_PAGE: u32 = 1_000;
/// Shortest pause between two looks at a job.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// Share of the time since it began to wait after which it looks again: what is told late is late by a tenth at most.
const LOOK_SHARE: u32 = 10;
/// Longest pause between two looks at a job.
pub(super) const LAST_LOOK: Duration = Duration::from_secs(1);
/// How long a service may be away while a job is waited for.
pub(super) const AWAY: Duration = Duration::from_secs(120);

/// A broker, a coordinator or an executor. Clones share its connections.
#[derive(Debug, Clone)]
pub struct PoolClient {
    pub(super) http: Http,
    service: Service,
}

impl PoolClient {
    /// Connects to the service at `url`, such as `http://127.0.0.1:8000`, and asks what it is. `client` is the name that
    /// its jobs go by; the address of this machine where there is none.
    ///
    /// # Errors
    /// [`PoolClientError`].
    pub async fn connect(url: &str, client: Option<&str>) -> Result<Self, PoolClientError> {
        let http = Http::new(url, client)?;
        let service = detect(&http).await?;
        Ok(Self { http, service })
    }

    /// What it is.
    pub const fn service(&self) -> &Service {
        &self.service
    }

    /// Where it is, without anything secret.
    pub fn url(&self) -> &str {
        self.http.shown()
    }

    /// Submits a job.
    ///
    /// # Errors
    /// [`PoolClientError`]; where it is [transient](PoolClientError::is_transient) the job may have been accepted, and a
    /// repeat with the same idempotency key finds it.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, PoolClientError> {
        if !self.service.is_common
            && let Some(what) = submission.beyond_older()
        {
            return Err(self.unsupported(what));
        }
        let request = self.http.request(Method::POST, &["submit"]).timeout(UPLOAD);
        let request = match &submission.idempotency_key {
            Some(key) => request.header("idempotency-key", header("an idempotency key", key, MAX_KEY)?),
            None => request,
        };
        let request = match (submission.json(), self.service.kind) {
            (Some(body), Kind::Broker) => request.json(&body),
            (None, Kind::Broker) if !self.service.is_common => {
                let what = "it runs single scripts only: give one file, and neither limits nor files in its manifest";
                return Err(self.unsupported(what));
            }
            (Some(_) | None, Kind::Broker | Kind::Coordinator | Kind::Executor) => {
                request.multipart(form(submission).await?)
            }
        };
        self.http.json(request).await
    }

    /// One job.
    ///
    /// # Errors
    /// [`PoolClientError::UnknownJob`] and others.
    pub async fn job(&self, id: &PoolJobId) -> Result<Job, PoolClientError> {
        if self.service.is_common {
            return self.of_job(id, &["v1", "jobs", id.as_str()]).await;
        }
        let path = ["status", id.as_str()];
        match self.service.kind {
            Kind::Broker => {
                let mut job: Job = self.of_job(id, &path).await?;
                if job.status.has_ended() {
                    let result: BrokerResult = self.of_job(id, &["results", id.as_str()]).await?;
                    job.exit_code = result.exit_code;
                }
                Ok(job)
            }
            Kind::Coordinator => Ok(self.of_job::<CoordinatorJob>(id, &path).await?.into()),
            Kind::Executor => Ok(self.of_job::<ExecutorJob>(id, &path).await?.into()),
        }
    }

    /// Waits for a job's end; `told` hears of each change. A service that is away for a while is waited for.
    ///
    /// # Errors
    /// As [`PoolClient::job`].
    pub async fn wait(&self, id: &PoolJobId, mut told: impl FnMut(&Job)) -> Result<Job, PoolClientError> {
        let began = tokio::time::Instant::now();
        let mut last: Option<Job> = None;
        let mut heard = began;
        loop {
            match self.job(id).await {
                Ok(job) => {
                    heard = tokio::time::Instant::now();
                    if last.as_ref() != Some(&job) {
                        told(&job);
                    }
                    if job.status.has_ended() {
                        return Ok(job);
                    }
                    last = Some(job);
                }
                Err(error) if error.is_transient() && heard.elapsed() < AWAY => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep((began.elapsed() / LOOK_SHARE).clamp(FIRST_LOOK, LAST_LOOK)).await;
        }
    }

    /// What a job has printed so far.
    ///
    /// # Errors
    /// As [`PoolClient::job`]; [`PoolClientError::Unsupported`] at an older coordinator, which keeps no output.
    pub async fn printed(&self, id: &PoolJobId) -> Result<Printed, PoolClientError> {
        let name = id.as_str();
        if self.service.is_common {
            return self.of_job(id, &["v1", "jobs", name, "logs"]).await;
        }
        match self.service.kind {
            // what is not over has printed nothing that it would tell
            Kind::Broker => {
                let request = self.http.get(&["results", name]).timeout(ANSWER);
                let response = self
                    .http
                    .send(request)
                    .await
                    .map_err(|it| self.or_unknown(it, id))?;
                if response.status() == reqwest::StatusCode::ACCEPTED {
                    return Ok(Printed::default());
                }
                let bytes = self.http.read(response).await?;
                serde_json::from_slice(&bytes).map_err(|error| self.http.nonsense(&error.to_string()))
            }
            Kind::Executor => self.of_job(id, &["logs", name]).await,
            Kind::Coordinator => {
                Err(self.unsupported("it keeps no output of programs; `submit --out DIR` gets files"))
            }
        }
    }

    /// Follows what a job prints until its end.
    pub fn follow(&self, id: &PoolJobId) -> LogFollower {
        LogFollower::new(self.clone(), id.clone())
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// [`PoolClientError`]; older services list none.
    pub async fn jobs(&self, query: &JobQuery) -> Result<JobPage, PoolClientError> {
        self.common("it lists no jobs; `job ID` shows one")?;
        let request = self.http.get(&["v1", "jobs"]).query(query).timeout(ANSWER);
        self.http.json(request).await
    }

    /// Takes a job back, whether it waits or runs.
    ///
    /// # Errors
    /// [`PoolClientError::Refused`] with status 409 for a job that has ended.
    pub async fn cancel(&self, id: &PoolJobId) -> Result<(), PoolClientError> {
        self.common("it takes no job back")?;
        let request = self.http.request(Method::DELETE, &["v1", "jobs", id.as_str()]);
        let answer = self.http.json::<Value>(request.timeout(ANSWER)).await;
        answer.map(drop).map_err(|it| self.or_unknown(it, id))
    }

    /// The nodes; an executor has none but itself.
    ///
    /// # Errors
    /// [`PoolClientError`].
    pub async fn nodes(&self) -> Result<Vec<Node>, PoolClientError> {
        let path: &[&str] = match self.service.kind {
            Kind::Broker | Kind::Coordinator if self.service.is_common => &["v1", "nodes"],
            Kind::Broker => &["nodes"],
            Kind::Coordinator => &["pool"],
            Kind::Executor => return Err(self.unsupported("it is a node itself and has no others")),
        };
        let list: NodeList = self.http.json(self.http.get(path).timeout(ANSWER)).await?;
        Ok(list.nodes)
    }

    /// How it stands as a whole.
    ///
    /// # Errors
    /// [`PoolClientError`].
    pub async fn overview(&self) -> Result<Overview, PoolClientError> {
        let path = match self.service.kind {
            Kind::Coordinator if !self.service.is_common => "pool",
            Kind::Broker | Kind::Coordinator | Kind::Executor => "health",
        };
        self.http.json(self.http.get(&[path]).timeout(ANSWER)).await
    }

    /// Lets a node take nothing new, or (`resume`) take jobs again.
    ///
    /// # Errors
    /// [`PoolClientError::UnknownNode`] and others.
    pub async fn drain(&self, node: &PoolNodeId, resume: bool) -> Result<(), PoolClientError> {
        self.common("it can't be told about its nodes")?;
        let verb = if resume { "resume" } else { "drain" };
        let request = self
            .http
            .request(Method::POST, &["v1", "nodes", node.as_str(), verb]);
        let answer = self.http.json::<Value>(request.timeout(ANSWER)).await;
        answer.map(drop).map_err(|it| {
            it.or_unknown(|| PoolClientError::UnknownNode {
                node: node.clone(),
                url: self.url().to_owned(),
            })
        })
    }

    pub(super) fn unsupported(&self, what: &str) -> PoolClientError {
        PoolClientError::Unsupported {
            service: self.service.kind.word(),
            url: self.url().to_owned(),
            what: what.to_owned(),
        }
    }

    /// That the service knows the common calls.
    fn common(&self, lack: &str) -> Result<(), PoolClientError> {
        if self.service.is_common {
            Ok(())
        } else {
            Err(self.unsupported(lack))
        }
    }

    async fn of_job<T: DeserializeOwned>(&self, id: &PoolJobId, path: &[&str]) -> Result<T, PoolClientError> {
        let answer = self.http.json(self.http.get(path).timeout(ANSWER)).await;
        answer.map_err(|error| self.or_unknown(error, id))
    }

    pub(super) fn or_unknown(&self, error: PoolClientError, id: &PoolJobId) -> PoolClientError {
        error.or_unknown(|| PoolClientError::UnknownJob {
            job: id.clone(),
            url: self.url().to_owned(),
        })
    }
}

/// What a broker's result adds to its status.
#[derive(Debug, Deserialize)]
struct BrokerResult {
    #[serde(default)]
    exit_code: Option<i32>,
}

/// A list of nodes by either name.
#[derive(Debug, Deserialize)]
struct NodeList {
    #[serde(alias = "workers")]
    nodes: Vec<Node>,
}

/// Files, manifest and options as an upload. Files are streamed.
async fn form(submission: &Submission) -> Result<Form, PoolClientError> {
    let mut form = Form::new();
    if let Some(options) = submission.options() {
        form = form.text("options", options.to_string());
    }
    let manifest = String::from_utf8_lossy(&submission.manifest.canonical_bytes()).into_owned();
    form = form.text("manifest", manifest);
    for (name, path) in &submission.files {
        let local = |source| PoolClientError::Local {
            path: path.clone(),
            source,
        };
        let file = tokio::fs::File::open(path).await.map_err(local)?;
        let size = file.metadata().await.map_err(local)?.len();
        let part = Part::stream_with_length(file, size).file_name(name.as_str().to_owned());
        form = form.part("files", part);
    }
    Ok(form)
}

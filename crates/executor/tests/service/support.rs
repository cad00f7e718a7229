//! A service of its own for each test, on a free port with a folder that goes with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use sandrun_executor::wire::{JobStatus, Submitted};
use sandrun_executor::{Executor, ExecutorClient, ExecutorConfig, SandboxConfig, ServeError, worker_key};
use sandrun_types::WorkerId;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Service {
    pub(crate) base: String,
    pub(crate) worker: WorkerId,
    pub(crate) client: ExecutorClient,
    pub(crate) http: reqwest::Client,
    pub(crate) folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

/// A configuration for tests: free port, no quota, a key.
pub(crate) fn config(folder: &Path) -> ExecutorConfig {
    let launcher = vec![env!("CARGO_BIN_EXE_executor-test-supervisor").into()];
    let key = folder.join("worker.pem");
    if !key.exists() {
        worker_key::generate(&key).unwrap();
    }
    let mut config = ExecutorConfig::new(folder.join("data"), SandboxConfig::new(launcher)).without_quota();
    config.listen.set_port(0);
    config.worker_key = Some(key);
    config
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ExecutorConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let executor = Executor::start(config).await.unwrap();
        let base = format!("http://{}", executor.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(executor.run(async move { drop(stopped.await) }));
        let client = ExecutorClient::new(&base).unwrap();
        let worker = worker_key::load(&folder.path().join("worker.pem"))
            .unwrap()
            .worker_id();
        Self {
            base,
            worker,
            client,
            http: reqwest::Client::new(),
            folder,
            stop: Some(stop),
            task,
        }
    }

    /// Tells it to stop and waits until it has; `Ok` if it ended well.
    pub(crate) async fn stop(mut self) -> Result<(), ServeError> {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, &mut self.task)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The folders of jobs that are on disk.
    pub(crate) fn job_folders(&self) -> Vec<PathBuf> {
        let jobs = self.folder.path().join("data/jobs");
        std::fs::read_dir(jobs)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(self.url(path))).await
    }

    /// Sends a form as it is.
    pub(crate) async fn post(&self, form: Form) -> (u16, Value) {
        answer(self.http.post(self.url("/submit")).multipart(form)).await
    }

    /// Submits loose files, which must be accepted.
    pub(crate) async fn submit(&self, manifest: &str, files: &[(&str, &str)]) -> Submitted {
        let (status, body) = self.post(form(manifest, files)).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_value(body).unwrap()
    }

    /// Submits, and waits until the run is over.
    pub(crate) async fn run(&self, manifest: &str, files: &[(&str, &str)]) -> JobStatus {
        let job = self.submit(manifest, files).await;
        self.ended(&job.job_id).await
    }

    pub(crate) async fn ended(&self, job: &str) -> JobStatus {
        let pause = Duration::from_millis(20);
        tokio::time::timeout(PATIENCE, self.client.wait(job, pause))
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn stdout(&self, job: &str) -> String {
        self.client.logs(job).await.unwrap().stdout
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A form of loose files and a manifest; an empty manifest is not sent.
pub(crate) fn form(manifest: &str, files: &[(&str, &str)]) -> Form {
    let mut form = Form::new();
    for (name, content) in files {
        form = form.part(
            "files",
            Part::text((*content).to_owned()).file_name((*name).to_owned()),
        );
    }
    if manifest.is_empty() {
        form
    } else {
        form.text("manifest", manifest.to_owned())
    }
}

/// A form of one file of any bytes.
pub(crate) fn upload(name: &str, bytes: Vec<u8>) -> Form {
    Form::new().part("files", Part::bytes(bytes).file_name(name.to_owned()))
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !holds().await {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come true"));
}

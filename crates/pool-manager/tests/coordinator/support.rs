//! A coordinator of its own for each test, and workers for it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pool_manager::{Coordinator, CoordinatorConfig, CoordinatorError, QueueSettings};
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use sandrun_executor::{Executor, ExecutorConfig, SandboxConfig, ServeError, worker_key};
use sandrun_store::queue::QueueAddress;
use sandrun_types::WorkerId;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Within what a service has to end.
const GRACE: Duration = Duration::from_secs(10);
pub(crate) const PROCESS: &str = env!("CARGO_BIN_EXE_pool-test-process");

/// A worker that may be put on a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: WorkerId,
    pub(crate) endpoint: String,
    pub(crate) slots: Option<u32>,
    pub(crate) region: Option<&'static str>,
    /// In JSON.
    pub(crate) hardware: Option<&'static str>,
}

impl Listed {
    pub(crate) fn new(id: WorkerId, endpoint: String) -> Self {
        let slots = Some(2);
        Self {
            id,
            endpoint,
            slots,
            region: None,
            hardware: None,
        }
    }
}

/// An executor in this process.
pub(crate) struct Worker {
    pub(crate) listed: Listed,
    pub(crate) folder: TempDir,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

fn sandbox() -> SandboxConfig {
    SandboxConfig::new(vec![PROCESS.into(), "__sandbox".into()])
}

impl Worker {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("worker.pem");
        let id = worker_key::generate(&key).unwrap();
        let mut config = ExecutorConfig::new(folder.path().join("data"), sandbox()).without_quota();
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.worker_key = Some(key);
        let executor = Executor::start(config).await.unwrap();
        let endpoint = format!("http://{}", executor.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(executor.run(async move { drop(stopped.await) }));
        Self {
            listed: Listed::new(id, endpoint),
            folder,
            stop,
            task,
        }
    }

    /// How many runs it has had: each leaves a folder.
    pub(crate) fn runs(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("data/jobs"))
            .unwrap()
            .count()
    }

    /// Ends it and what it runs: a run that goes on would hold the test up.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        let ended = tokio::time::timeout(GRACE, self.task).await;
        ended.unwrap().unwrap().unwrap();
    }
}

/// A service as a process that can be killed.
pub(crate) struct Mortal {
    pub(crate) process: Child,
    pub(crate) base: String,
}

impl Mortal {
    /// Starts it; the end of its standard input is its end.
    pub(crate) async fn start(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut process = Command::new(PROCESS)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let out = process.stdout.take().unwrap();
        let mut lines = BufReader::new(out).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let address = first.unwrap().unwrap().expect("where it listens");
        Self {
            process,
            base: format!("http://{address}"),
        }
    }

    /// An executor, as a worker that may be put on a list.
    pub(crate) async fn worker() -> (Self, Listed, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("worker.pem");
        let id = worker_key::generate(&key).unwrap();
        let data = folder.path().join("data");
        let words = [OsStr::new("executor"), data.as_os_str(), key.as_os_str()];
        let process = Self::start(words).await;
        let listed = Listed::new(id, process.base.clone());
        (process, listed, folder)
    }
}

/// A coordinator in this process.
pub(crate) struct Service {
    client: Asked,
    folder: TempDir,
    change: fn(&mut CoordinatorConfig),
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), CoordinatorError>>,
}

/// Writes a list in one step, as operators should.
pub(crate) fn write_list(folder: &Path, workers: &[&Listed]) -> PathBuf {
    let entry = |it: &&Listed| {
        let mut entry = json!({"worker_id": it.id, "endpoint": it.endpoint});
        if let Some(slots) = it.slots {
            entry["max_concurrent_jobs"] = Value::from(slots);
        }
        if let Some(region) = it.region {
            entry["region"] = Value::from(region);
            entry["labels"] = json!({"disk": "fast"});
        }
        if let Some(hardware) = it.hardware {
            entry["hardware"] = serde_json::from_str(hardware).unwrap();
        }
        entry
    };
    let list: Vec<Value> = workers.iter().map(entry).collect();
    let (new, path) = (folder.join("workers.new"), folder.join("workers.json"));
    std::fs::write(&new, Value::from(list).to_string()).unwrap();
    std::fs::rename(new, &path).unwrap();
    path
}

impl Service {
    pub(crate) async fn start(workers: &[&Listed]) -> Self {
        Self::start_with(workers, |_| {}).await
    }

    pub(crate) async fn start_with(workers: &[&Listed], change: fn(&mut CoordinatorConfig)) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        write_list(folder.path(), workers);
        Self::open(folder, change).await
    }

    async fn open(folder: TempDir, change: fn(&mut CoordinatorConfig)) -> Self {
        let mut config = CoordinatorConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            database: QueueAddress::Sqlite(folder.path().join("queue.db")),
            settings: QueueSettings::COORDINATOR,
            workers: folder.path().join("workers.json"),
            health_interval: Duration::from_millis(300),
            allow_unproven: false,
            name: "the test's coordinator".to_owned(),
        };
        change(&mut config);
        let service = Coordinator::start(config).await.unwrap();
        let base = format!("http://{}", service.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(service.run(async move { drop(stopped.await) }));
        Self {
            client: Asked::new(base),
            folder,
            change,
            stop: Some(stop),
            task,
        }
    }

    /// Stops it as SIGTERM does and starts it again on the same queue.
    pub(crate) async fn restart(mut self) -> Self {
        drop(self.stop.take());
        let ended = tokio::time::timeout(GRACE, &mut self.task).await;
        ended.unwrap().unwrap().unwrap();
        Self::open(self.folder, self.change).await
    }

    pub(crate) fn list(&self, workers: &[&Listed]) {
        write_list(self.folder.path(), workers);
    }
}

impl Deref for Service {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.client
    }
}

/// A service that is asked over HTTP.
pub(crate) struct Asked {
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
}

impl Asked {
    pub(crate) fn new(base: String) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, http }
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.base);
        let answer = self.http.get(url).timeout(PATIENCE).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// As [`Self::get`], for what has to succeed.
    pub(crate) async fn ok(&self, path: &str) -> Value {
        let (status, answer) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    pub(crate) async fn form(
        &self,
        files: &[(&str, &[u8])],
        parts: &[(&'static str, &str)],
    ) -> (StatusCode, Value) {
        let mut form = Form::new();
        for (name, body) in files {
            form = form.part("files", Part::bytes(body.to_vec()).file_name((*name).to_owned()));
        }
        for (name, text) in parts {
            form = form.text(*name, (*text).to_owned());
        }
        let url = format!("{}/submit", self.base);
        let answer = self.http.post(url).multipart(form).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Submits one shell script; its id.
    pub(crate) async fn submit(&self, script: &str) -> String {
        let manifest = ("manifest", r#"{"entrypoint": "run.sh"}"#);
        let (status, answer) = self.form(&[("run.sh", script.as_bytes())], &[manifest]).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["status"], "queued");
        answer["job_id"].as_str().unwrap().to_owned()
    }

    /// Asks until an answer is as it should be.
    pub(crate) async fn until(&self, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asking = async {
            loop {
                last = self.ok(path).await;
                if is_right(&last) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asking).await;
        assert!(asked.is_ok(), "{path}: {last}");
        last
    }

    pub(crate) async fn until_healthy(&self, count: u64) -> Value {
        self.until("/pool", |it| it["healthy_workers"] == count).await
    }

    /// Follows a job to its end; its status.
    pub(crate) async fn ended(&self, job: &str) -> Value {
        let url = format!("{}/v1/jobs/{job}/logs/stream", self.base);
        let stream = self.http.get(url).timeout(PATIENCE).send().await.unwrap();
        // it ends with the job
        stream.text().await.unwrap();
        self.ok(&format!("/status/{job}")).await
    }
}

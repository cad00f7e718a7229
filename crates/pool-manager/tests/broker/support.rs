//! A broker of its own for each test, on a free port, with a folder that goes with it.

use std::time::Duration;

use pool_manager::{Broker, BrokerConfig, BrokerError, QueueSettings};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use sandrun_serve::Bounds;
use sandrun_store::queue::QueueAddress;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Service {
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    folder: TempDir,
    settings: QueueSettings,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), BrokerError>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut QueueSettings)) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut settings = QueueSettings::BROKER;
        change(&mut settings);
        Self::open(tempfile::tempdir().unwrap(), settings).await
    }

    /// With these bounds on connections.
    pub(crate) async fn bounded(bounds: Bounds) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let database = QueueAddress::Sqlite(folder.path().join("queue.db"));
        Self::serve(database, folder, QueueSettings::BROKER, bounds).await
    }

    async fn open(folder: TempDir, settings: QueueSettings) -> Self {
        let database = QueueAddress::Sqlite(folder.path().join("queue.db"));
        Self::open_at(database, folder, settings).await
    }

    /// One of several at a database that they share.
    pub(crate) async fn replica(database: QueueAddress) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        Self::open_at(database, tempfile::tempdir().unwrap(), QueueSettings::BROKER).await
    }

    async fn open_at(database: QueueAddress, folder: TempDir, settings: QueueSettings) -> Self {
        Self::serve(database, folder, settings, Bounds::fleet()).await
    }

    async fn serve(database: QueueAddress, folder: TempDir, settings: QueueSettings, bounds: Bounds) -> Self {
        let config = BrokerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            database,
            settings,
        };
        let broker = Broker::start(config).await.unwrap().with_bounds(bounds);
        let base = format!("http://{}", broker.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(broker.run(async move { drop(stopped.await) }));
        Self {
            base,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            folder,
            settings,
            stop: Some(stop),
            task,
        }
    }

    /// Where its queue lies.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Bytes of the longest file of its queue's journal.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let files = ["queue.db.journal-0", "queue.db.journal-1"];
        let bytes = files.map(|name| std::fs::metadata(self.folder.path().join(name)).unwrap().len());
        bytes.into_iter().max().unwrap()
    }

    /// Tells it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> (TempDir, QueueSettings) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.unwrap().unwrap().unwrap();
        (self.folder, self.settings)
    }

    /// Stops it and starts it again on the same queue.
    pub(crate) async fn restart(self) -> Self {
        let (folder, settings) = self.stop().await;
        Self::open(folder, settings).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, self.url(path)).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    /// As [`Self::post`], for what has to succeed.
    pub(crate) async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    pub(crate) async fn submit(&self, body: Value) -> String {
        let answer = self.ok("/submit", body).await;
        answer["job_id"].as_str().unwrap().to_owned()
    }

    /// Submits a form: files by name, and any other parts.
    pub(crate) async fn submit_form(
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
        let answer = self
            .http
            .post(self.url("/submit"))
            .multipart(form)
            .send()
            .await
            .unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// A node as existing clients register it.
    pub(crate) async fn old_node(&self, endpoint: &str) -> String {
        let capabilities =
            json!({"cpu_cores": 4, "memory_gb": 8, "gpu": false, "interpreters": ["python3", "bash"]});
        let body = json!({"endpoint": endpoint, "capabilities": capabilities});
        let answer = self.ok("/register", body).await;
        answer["node_id"].as_str().unwrap().to_owned()
    }

    /// One of ours.
    pub(crate) async fn node(&self, endpoint: &str) -> String {
        let offer = json!({
            "cpu": {"cores": 4, "model": "x"}, "memory_mib": 8_192, "features": ["bundle", "logs", "outputs"],
            "interpreters": [{"name": "python3", "version": "3"}, {"name": "bash", "version": "5"}],
        });
        let body = json!({
            "endpoint": endpoint, "capabilities": {"cpu_cores": 4}, "protocol": 2, "slots": 4, "offer": offer,
        });
        let answer = self.ok("/register", body).await;
        answer["node_id"].as_str().unwrap().to_owned()
    }

    /// One job for one of our nodes, which is there or comes soon.
    pub(crate) async fn claim(&self, node: &str) -> Value {
        let answer = self
            .ok("/claim?wait=30", json!({"node_id": node, "max": 1}))
            .await;
        answer["jobs"][0].clone()
    }
}

//! A broker for tests: speaks the wire description as an existing broker does, or the node protocol beside it, and
//! remembers what it was told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::scene::PATIENCE;

/// What has come to a broker.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) registrations: Vec<Value>,
    pub(crate) heartbeats: Vec<Value>,
    /// Claims: when, and the body.
    pub(crate) claims: Vec<(Instant, Value)>,
    /// Jobs given out: when, and which.
    pub(crate) given: Vec<(Instant, String)>,
    /// Every `/complete`, refused ones too.
    pub(crate) completions: Vec<Value>,
    pub(crate) failures: Vec<(String, Value)>,
    /// Log updates: when, of which work, what.
    pub(crate) logs: Vec<(Instant, String, Value)>,
    pub(crate) uploads: BTreeMap<String, Vec<u8>>,
    /// Calls that an existing broker does not have.
    pub(crate) unknown: Vec<String>,
}

/// How it answers.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) waiting: VecDeque<Value>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) known_node: Option<String>,
    pub(crate) drain: bool,
    pub(crate) cancel: Vec<Value>,
    /// Status of `/complete`; 200 where there is none.
    pub(crate) complete_status: Option<StatusCode>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) seen: Seen,
    pub(crate) script: Script,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) url: String,
    state: Arc<watch::Sender<Inner>>,
    is_ours: bool,
}

type Shared = State<Broker>;

impl Broker {
    /// One as they exist.
    pub(crate) async fn existing() -> Result<Self> {
        Self::start(false).await
    }

    /// One with the node protocol.
    pub(crate) async fn ours() -> Result<Self> {
        Self::start(true).await
    }

    async fn start(is_ours: bool) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let broker = Self {
            url: format!("http://{}", listener.local_addr()?),
            state: Arc::new(watch::Sender::new(Inner::default())),
            is_ours,
        };
        let mut router = Router::new()
            .route("/register", post(register))
            .route("/heartbeat", post(heartbeat))
            .route("/claim", post(claim))
            .route("/complete", post(complete));
        if is_ours {
            router = router
                .route("/v1/work/{id}/{attempt}/files/{hash}", get(file))
                .route("/v1/work/{id}/{attempt}/logs", post(logs))
                .route("/v1/work/{id}/{attempt}/fail", post(fail))
                .route("/v1/work/{id}/{attempt}/outputs/{*path}", put(upload));
        }
        let router = router.fallback(unknown).with_state(broker.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(broker)
    }

    /// Changes what it does from now on.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        self.state.send_modify(|inner| change(&mut inner.script));
    }

    /// Puts a job into its queue.
    pub(crate) fn submit(&self, job: Value) {
        self.script(|script| script.waiting.push_back(job));
    }

    /// What it has seen so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.state.borrow().seen)
    }

    /// Waits until it has seen something.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> Result<T> {
        let mut changes = self.state.subscribe();
        let found = async {
            loop {
                if let Some(found) = look(&changes.borrow_and_update().seen) {
                    return found;
                }
                if changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .with_context(|| format!("waited for {what}: {:#?}", self.state.borrow().seen))
    }

    /// The first completion of a job.
    pub(crate) async fn completion(&self, job: &str) -> Result<Value> {
        self.until(job, |seen| {
            seen.completions.iter().find(|it| it["job_id"] == job).cloned()
        })
        .await
    }

    fn see<T>(&self, see: impl FnOnce(&mut Inner) -> T) -> T {
        let mut result = None;
        self.state.send_modify(|inner| result = Some(see(inner)));
        result.expect("it was called")
    }

    fn is_known(&self, body: &Value) -> bool {
        self.see(|inner| inner.script.known_node.as_deref() == body["node_id"].as_str())
    }
}

fn no_node() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"error": "Node not found"}))).into_response()
}

async fn register(State(broker): Shared, Json(body): Json<Value>) -> Response {
    if !body["endpoint"].is_string() || !body["capabilities"].is_object() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let id = broker.see(|inner| {
        inner.seen.registrations.push(body);
        let id = format!("node-{}", inner.seen.registrations.len());
        inner.script.known_node = Some(id.clone());
        id
    });
    Json(json!({"node_id": id})).into_response()
}

async fn heartbeat(State(broker): Shared, Json(body): Json<Value>) -> Response {
    let is_known = broker.is_known(&body);
    let answer = broker.see(|inner| {
        inner.seen.heartbeats.push(body);
        json!({"status": "ok", "cancel": inner.script.cancel, "drain": inner.script.drain})
    });
    match (is_known, broker.is_ours) {
        (false, _) => no_node(),
        (true, true) => Json(answer).into_response(),
        (true, false) => Json(json!({"status": "ok"})).into_response(),
    }
}

async fn claim(
    State(broker): Shared,
    Query(query): Query<BTreeMap<String, u64>>,
    Json(body): Json<Value>,
) -> Response {
    if !broker.is_known(&body) {
        return no_node();
    }
    let max = if broker.is_ours {
        body["max"].as_u64().unwrap_or(1)
    } else {
        1
    };
    broker.see(|inner| inner.seen.claims.push((Instant::now(), body.clone())));
    let wait = if broker.is_ours {
        query.get("wait").copied().unwrap_or(0)
    } else {
        0
    };
    let mut changes = broker.state.subscribe();
    let is_something = changes.wait_for(|inner| !inner.script.waiting.is_empty() && !inner.script.drain);
    drop(tokio::time::timeout(Duration::from_secs(wait), is_something).await);
    let jobs = broker.see(|inner| {
        // it may have been forgotten meanwhile
        if inner.script.known_node.as_deref() != body["node_id"].as_str() {
            return None;
        }
        let count = inner.script.waiting.len().min(usize::try_from(max).unwrap_or(1));
        let jobs: Vec<Value> = inner.script.waiting.drain(..count).collect();
        for job in &jobs {
            let id = job["id"].as_str().unwrap_or_default().to_owned();
            inner.seen.given.push((Instant::now(), id));
        }
        Some(jobs)
    });
    let Some(jobs) = jobs else { return no_node() };
    if broker.is_ours {
        Json(json!({"jobs": jobs})).into_response()
    } else {
        Json(json!({"job": jobs.first()})).into_response()
    }
}

async fn complete(State(broker): Shared, Json(body): Json<Value>) -> Response {
    let status = broker.see(|inner| {
        inner.seen.completions.push(body);
        inner.script.complete_status
    });
    match status {
        None => Json(json!({"status": "ok"})).into_response(),
        Some(status) => (status, Json(json!({"error": "not now"}))).into_response(),
    }
}

async fn file(State(broker): Shared, Path((.., hash)): Path<(String, String, String)>) -> Response {
    match broker.see(|inner| inner.script.files.get(&hash).cloned()) {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn logs(
    State(broker): Shared,
    Path((id, attempt)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Json<Value> {
    let work = format!("{id}/{attempt}");
    broker.see(|inner| inner.seen.logs.push((Instant::now(), work, body)));
    Json(json!({"status": "ok"}))
}

async fn fail(
    State(broker): Shared,
    Path((id, attempt)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Json<Value> {
    broker.see(|inner| inner.seen.failures.push((format!("{id}/{attempt}"), body)));
    Json(json!({"status": "ok"}))
}

async fn upload(
    State(broker): Shared,
    Path((id, attempt, path)): Path<(String, String, String)>,
    body: axum::body::Bytes,
) -> Json<Value> {
    let name = format!("{id}/{attempt}/{path}");
    broker.see(|inner| inner.seen.uploads.insert(name, body.to_vec()));
    Json(json!({"status": "ok"}))
}

async fn unknown(State(broker): Shared, request: axum::extract::Request) -> StatusCode {
    let call = format!("{} {}", request.method(), request.uri());
    broker.see(|inner| inner.seen.unknown.push(call));
    StatusCode::NOT_FOUND
}

/// Bytes of a base64 text.
pub(crate) fn decode(text: &Value) -> Result<Vec<u8>> {
    let text = text.as_str().context("no text")?;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}

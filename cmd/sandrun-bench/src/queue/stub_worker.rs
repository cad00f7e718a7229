//! A worker that runs nothing: it answers as an executor whose jobs are over at once, and signs what it answers.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandrun_executor::wire::{
    Begun, ExecutionMetadata, Followed, Health, JobState, JobStatus, Logs, Submitted, WorkerMetadata,
    health_challenge,
};
use sandrun_executor::worker_key::WorkerKey;
use sandrun_types::{
    BundlePath, InputFile, Manifest, RECEIPT_FORMAT, Receipt, RunOutcome, Sha256Hex, job_hash, output_root,
};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Jobs that it takes at once.
pub(super) const SLOTS: u32 = 4;

/// A worker that runs; ends when it is dropped.
pub(super) struct StubWorker {
    /// Its entry in a coordinator's list of workers.
    pub(super) entry: serde_json::Value,
    task: JoinHandle<()>,
}

impl Drop for StubWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A run, over since it began.
struct Run {
    status: JobStatus,
    receipt: Vec<u8>,
}

struct Stub {
    key: WorkerKey,
    next: AtomicU64,
    runs: Mutex<HashMap<String, Arc<Run>>>,
}

type Shared = State<Arc<Stub>>;
type Refusal = (StatusCode, String);

impl StubWorker {
    /// Starts the worker with this number.
    ///
    /// # Errors
    /// No port.
    pub(super) async fn start(number: u8) -> anyhow::Result<Self> {
        let key = WorkerKey::from_seed(&[number + 1; 32]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("a port for a worker")?;
        let entry = serde_json::json!({
            "worker_id": key.worker_id(),
            "endpoint": format!("http://{}", listener.local_addr()?),
            "max_concurrent_jobs": SLOTS,
        });
        let stub = Stub {
            key,
            next: AtomicU64::new(0),
            runs: Mutex::default(),
        };
        let router = Router::new()
            .route("/health", get(health))
            .route("/submit", post(submit))
            .route("/status/{id}", get(status))
            .route("/logs/{id}", get(logs))
            .route("/receipt/{id}", get(receipt))
            .route("/follow/{id}", get(follow))
            .with_state(Arc::new(stub));
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            // without it small answers wait; where it can't be set they do
            let _ = stream.set_nodelay(true);
        });
        let task = tokio::spawn(async move {
            // it serves until it is aborted
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { entry, task })
    }
}

#[derive(Deserialize)]
struct Challenge {
    nonce: String,
    audience: String,
    endpoint: String,
}

async fn health(State(stub): Shared, Query(asked): Query<Challenge>) -> Json<Health> {
    let message = health_challenge(&asked.audience, &asked.endpoint, &asked.nonce);
    Json(Health {
        status: "healthy".to_owned(),
        worker_id: Some(stub.key.worker_id()),
        proof: Some(STANDARD.encode(stub.key.sign(&message))),
        class: None,
        classes: std::collections::BTreeMap::new(),
        isolation: Vec::new(),
        max_concurrent_jobs: Some(SLOTS),
        hardware: None,
    })
}

#[derive(Deserialize)]
struct Wishes {
    /// Whoever waits for the run's end is told of it at once.
    wait: Option<f64>,
}

async fn submit(
    State(stub): Shared,
    Query(wishes): Query<Wishes>,
    mut form: Multipart,
) -> Result<Json<Begun>, Refusal> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let mut files = BTreeMap::new();
    let mut manifest = Manifest::default();
    while let Some(field) = form.next_field().await.map_err(|it| bad(it.body_text()))? {
        let name = field.file_name().map(str::to_owned);
        let bytes = field.bytes().await.map_err(|it| bad(it.body_text()))?;
        match name {
            Some(name) => {
                let name = BundlePath::parse(&name).map_err(|it| bad(it.to_string()))?;
                let file = InputFile {
                    sha256: Sha256Hex::of(&bytes),
                    size_bytes: bytes.len() as u64,
                };
                files.insert(name, file);
            }
            None => manifest = Manifest::parse(&bytes).map_err(|it| bad(it.to_string()))?,
        }
    }
    let job_id = format!("run-{}", stub.next.fetch_add(1, Ordering::Relaxed));
    let run = stub.run(&job_id, &manifest, &files);
    let followed = wishes.wait.map(|_| run.followed());
    let mut runs = stub.runs.lock().unwrap_or_else(PoisonError::into_inner);
    runs.insert(job_id.clone(), Arc::new(run));
    Ok(Json(Begun {
        submitted: Submitted {
            job_id,
            status: "queued".to_owned(),
            position: 0,
        },
        followed,
        discarded: false,
    }))
}

impl Run {
    fn followed(&self) -> Followed {
        Followed {
            status: JobState::Completed,
            next: 0,
            stdout: String::new(),
            stderr: String::new(),
            receipt: Some(STANDARD.encode(&self.receipt)),
            signature: self.status.worker_metadata.signature.clone(),
        }
    }
}

impl Stub {
    fn run(&self, id: &str, manifest: &Manifest, files: &BTreeMap<BundlePath, InputFile>) -> Run {
        let job_hash = job_hash(manifest.digest(), files);
        let nothing = Sha256Hex::of(b"");
        let root = Sha256Hex(output_root(b"", b"", &BTreeMap::new()).0);
        // the first byte of a native class
        let class = Sha256Hex([0; 32]);
        let receipt = Receipt {
            class,
            cpu_time_us: 0,
            environment: String::new(),
            explanation: String::new(),
            exit_code: 0,
            format: RECEIPT_FORMAT.to_owned(),
            interpreter: "python3".to_owned(),
            isolation: Vec::new(),
            job_hash,
            job_id: id.to_owned(),
            manifest_sha256: Sha256Hex(manifest.digest().0),
            memory_peak_bytes: 0,
            outcome: RunOutcome::Exited,
            output_files: BTreeMap::new(),
            output_root: Some(root),
            status: "completed".to_owned(),
            trace_root: Some(nothing),
            wall_time_ms: 0,
            worker_id: Some(self.key.worker_id()),
        };
        let bytes = receipt.canonical_bytes();
        let status = JobStatus {
            job_id: id.to_owned(),
            status: JobState::Completed,
            queue_position: 0,
            execution_metadata: ExecutionMetadata {
                exit_code: Some(0),
                interpreter: receipt.interpreter,
                outcome: Some(RunOutcome::Exited),
                ..ExecutionMetadata::default()
            },
            class: Some(class),
            output_root: Some(root),
            trace_root: Some(nothing),
            isolation: Vec::new(),
            job_hash: Some(job_hash),
            output_files: BTreeMap::new(),
            worker_metadata: WorkerMetadata {
                worker_id: Some(self.key.worker_id()),
                signature: Some(STANDARD.encode(self.key.sign(&bytes))),
            },
            explanation: String::new(),
        };
        Run {
            status,
            receipt: bytes,
        }
    }

    fn find(&self, id: &str) -> Result<Arc<Run>, Refusal> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs.get(id).cloned();
        run.ok_or_else(|| (StatusCode::NOT_FOUND, "there is no such job".to_owned()))
    }
}

async fn status(State(stub): Shared, Path(id): Path<String>) -> Result<Json<JobStatus>, Refusal> {
    Ok(Json(stub.find(&id)?.status.clone()))
}

async fn logs(State(stub): Shared, Path(id): Path<String>) -> Result<Json<Logs>, Refusal> {
    stub.find(&id)?;
    Ok(Json(Logs::default()))
}

async fn receipt(State(stub): Shared, Path(id): Path<String>) -> Result<Vec<u8>, Refusal> {
    Ok(stub.find(&id)?.receipt.clone())
}

async fn follow(State(stub): Shared, Path(id): Path<String>) -> Result<Json<Followed>, Refusal> {
    Ok(Json(stub.find(&id)?.followed()))
}

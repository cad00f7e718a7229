//! Services that are not what they say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandrun_executor::wire::health_challenge;
use sandrun_executor::worker_key::WorkerKey;
use sandrun_types::{Receipt, Sha256Hex};
use serde_json::{Value, json};

use crate::between::Between;
use crate::support::{Listed, Service, Worker};

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_id_and_not_the_key_is_not_healthy() {
    let real = Worker::start().await;
    let id = real.listed.id;
    let health = get(async move || Json(json!({"status": "healthy", "worker_id": id})));
    let impostor = Listed::new(id, serve(Router::new().route("/health", health)).await);
    // another worker's key is no better
    let other = Listed::new(
        WorkerKey::from_seed(&[9; 32]).worker_id(),
        real.listed.endpoint.clone(),
    );
    let service = Service::start(&[&impostor, &other, &real.listed]).await;
    let checked = |it: &Value| {
        it["workers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["last_health_check"].is_f64())
    };
    service
        .until("/pool", |it| checked(it) && it["healthy_workers"] == 1)
        .await;
    let job = service.submit("true").await;
    assert_eq!(service.ended(&job).await["pool_status"], "completed");
    let pool = service.ok("/pool").await;
    let healthy: Vec<&Value> = pool["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["is_healthy"])
        .collect();
    assert_eq!(healthy, [&json!(false), &json!(false), &json!(true)], "{pool}");
    // without proofs it would be believed
    let lenient = Service::start_with(&[&impostor], |config| config.allow_unproven = true).await;
    lenient.until_healthy(1).await;
}

/// A worker that proves its key, runs nothing, and signs a receipt about something else.
struct Forger {
    key: WorkerKey,
    submitted: AtomicU32,
}

impl Forger {
    fn receipt(&self) -> Vec<u8> {
        let zeros = Sha256Hex([0; 32]);
        let receipt: Receipt = serde_json::from_value(json!({
            "class": zeros, "cpu_time_us": 0, "environment": "", "explanation": "", "exit_code": 0,
            "format": sandrun_types::RECEIPT_FORMAT, "interpreter": "bash", "isolation": [], "job_hash": zeros,
            "job_id": "run-1", "manifest_sha256": zeros, "memory_peak_bytes": 0, "outcome": "exited",
            "output_files": {}, "output_root": null, "status": "completed", "trace_root": null, "wall_time_ms": 0,
            "worker_id": self.key.worker_id(),
        }))
        .unwrap();
        receipt.canonical_bytes()
    }

    async fn health(State(me): State<Arc<Self>>, Query(asked): Query<Value>) -> Json<Value> {
        let text = |name: &str| asked[name].as_str().unwrap().to_owned();
        let message = health_challenge(&text("audience"), &text("endpoint"), &text("nonce"));
        let proof = STANDARD.encode(me.key.sign(&message));
        Json(json!({"status": "healthy", "worker_id": me.key.worker_id(), "proof": proof}))
    }

    async fn submit(State(me): State<Arc<Self>>) -> Json<Value> {
        me.submitted.fetch_add(1, Ordering::SeqCst);
        Json(json!({"job_id": "run-1", "status": "queued", "position": 1}))
    }

    async fn status(State(me): State<Arc<Self>>) -> Json<Value> {
        let signature = STANDARD.encode(me.key.sign(&me.receipt()));
        let worker = json!({"worker_id": me.key.worker_id(), "signature": signature});
        Json(json!({"job_id": "run-1", "status": "completed", "worker_metadata": worker}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_always_busy_is_asked_as_often_as_is_set() {
    let forger = Arc::new(Forger {
        key: WorkerKey::from_seed(&[8; 32]),
        submitted: AtomicU32::new(0),
    });
    let busy = async |State(me): State<Arc<Forger>>| {
        me.submitted.fetch_add(1, Ordering::SeqCst);
        let words = Json(json!({"error": "no room for now"}));
        (axum::http::StatusCode::TOO_MANY_REQUESTS, words)
    };
    let router = Router::new()
        .route("/health", get(Forger::health))
        .route("/submit", post(busy))
        .with_state(Arc::clone(&forger));
    let worker = Listed::new(forger.key.worker_id(), serve(router).await);
    let service = Service::start_with(&[&worker], |config| config.settings.max_retries = 2).await;
    let job = service.submit("true").await;
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "failed", "{status}");
    assert!(
        status["reason"].as_str().unwrap().contains("no room for now"),
        "{status}"
    );
    assert_eq!(forger.submitted.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_about_something_else_is_not_believed() {
    let forger = Arc::new(Forger {
        key: WorkerKey::from_seed(&[7; 32]),
        submitted: AtomicU32::new(0),
    });
    let router = Router::new()
        .route("/health", get(Forger::health))
        .route("/submit", post(Forger::submit))
        .route("/status/{id}", get(Forger::status))
        .route(
            "/logs/{id}",
            get(async || Json(json!({"stdout": "lies", "stderr": ""}))),
        )
        .route(
            "/receipt/{id}",
            get(async |State(me): State<Arc<Forger>>| me.receipt()),
        )
        .with_state(Arc::clone(&forger));
    let liar = Listed::new(forger.key.worker_id(), serve(router).await);
    let service = Service::start(&[&liar]).await;
    service.until_healthy(1).await;
    let honest = Worker::start().await;
    service.list(&[&liar, &honest.listed]);
    service.until_healthy(2).await;
    // the older one is asked first
    let job = service.submit("echo truth").await;
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    assert_eq!(status["worker_id"], json!(honest.listed.id));
    assert!(forger.submitted.load(Ordering::SeqCst) >= 1, "it was asked");
    assert_eq!(
        service.ok(&format!("/v1/jobs/{job}/logs")).await["stdout"],
        "truth\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_at_two_addresses_is_one_witness() {
    let (one, two) = (Worker::start().await, Worker::start().await);
    let again = Listed::new(
        one.listed.id,
        one.listed.endpoint.replace("127.0.0.1", "localhost"),
    );
    let service = Service::start(&[&one.listed, &again]).await;
    let checked = |it: &Value| {
        let workers = it["workers"].as_array().unwrap();
        workers.iter().all(|it| it["last_health_check"].is_f64())
    };
    service
        .until("/pool", |it| checked(it) && it["healthy_workers"] == 1)
        .await;
    let body = json!({"code": "true", "interpreter": "bash", "replicas": 2, "quorum": 2});
    let url = format!("{}/submit", service.base);
    let answer = service.http.post(url).json(&body).send().await.unwrap();
    let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
    let job = answer["job_id"].as_str().unwrap();
    // one answer is here, and stays alone
    service
        .until(&format!("/v1/jobs/{job}"), |_| one.runs() >= 1)
        .await;
    let next = service.submit("true").await;
    assert_eq!(service.ended(&next).await["pool_status"], "completed");
    let status = service.ok(&format!("/status/{job}")).await;
    assert_ne!(status["pool_status"], "completed", "{status}");
    service.list(&[&one.listed, &again, &two.listed]);
    let status = service.ended(job).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    assert!(two.runs() >= 1, "another machine has agreed");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_signed_are_failures_of_their_worker() {
    let silent = Arc::new(Forger {
        key: WorkerKey::from_seed(&[6; 32]),
        submitted: AtomicU32::new(0),
    });
    // a service of old: it knows no receipts
    let router = Router::new()
        .route("/health", get(Forger::health))
        .route("/submit", post(Forger::submit))
        .route("/status/{id}", get(Forger::status))
        .route(
            "/logs/{id}",
            get(async || Json(json!({"stdout": "", "stderr": ""}))),
        )
        .with_state(Arc::clone(&silent));
    let worker = Listed::new(silent.key.worker_id(), serve(router).await);
    let service = Service::start_with(&[&worker], |config| config.settings.max_retries = 1).await;
    let job = service.submit("true").await;
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "failed", "{status}");
    let nodes = service.ok("/v1/nodes").await;
    let node = &nodes["nodes"][0];
    let counts = (&node["jobs_completed"], &node["jobs_failed"]);
    assert_eq!(counts, (&json!(0), &json!(2)), "{nodes}");
}

/// Changes what was printed, wherever it is said.
fn other_output(path: &str, answer: &mut Value) {
    if path == "/submit" && answer["followed"].is_object() {
        answer["followed"]["stdout"] = json!(STANDARD.encode("lies\n"));
    } else if path.starts_with("/logs/") {
        answer["stdout"] = json!("lies\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_the_worker_did_not_sign_is_not_believed() {
    // soon over, with the answer to its submission; and asked for later
    for script in ["echo truth", "echo truth; sleep 1"] {
        let (one, two) = (Worker::start().await, Worker::start().await);
        let bent = Between::start(&one, other_output, 100).await;
        let service = Service::start(&[&bent.listed]).await;
        service.until_healthy(1).await;
        service.list(&[&bent.listed, &two.listed]);
        service.until_healthy(2).await;
        // the older one is asked first
        let job = service.submit(script).await;
        let status = service.ended(&job).await;
        assert_eq!(status["pool_status"], "completed", "{status}");
        assert_eq!(status["worker_id"], json!(two.listed.id));
        assert_eq!(one.runs(), 1, "it was asked");
        let logs = service.ok(&format!("/v1/jobs/{job}/logs")).await;
        assert_eq!(logs["stdout"], "truth\n");
    }
}

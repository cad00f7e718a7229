//! The calls of the trusted pool's existing clients, in its own shapes, beside the pool API.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};
use sandrun_store::queue::{JobRow, JobWord, UnixMillis};
use serde_json::{Value, json};

use super::fleet::Fleet;
use crate::broker::{ApiError, At, Shared, details, dress, find_ended, output_file, pool_api};
use crate::queue::run_in_row;

/// How long a worker may take to say how a job stands that another replica carries.
const PATIENCE: Duration = Duration::from_secs(2);

/// Every route of the coordinator.
pub(super) fn router(fleet: Arc<Fleet>) -> Router {
    let app = Arc::clone(&fleet.app);
    let routes = pool_api()
        .route("/status/{id}", get(status))
        .route("/outputs/{id}/{*path}", get(output_file))
        .route("/pool", get(pool))
        .layer(Extension(fleet));
    dress(routes, app)
}

/// Seconds since 1970 with their fraction, as existing clients read times.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of our days are exact in a double"
)]
fn seconds(time: UnixMillis) -> f64 {
    time as f64 / 1_000.0
}

/// `GET /status/{id}`.
async fn status(
    State(app): State<Shared>,
    Extension(fleet): Extension<Arc<Fleet>>,
    At(id): At<String>,
) -> Result<Json<Value>, ApiError> {
    let (row, answer) = find_ended(&app, &id).await?;
    let mut details = match answer {
        Some(answer) => details(&answer),
        None => serde_json::Map::new(),
    };
    let worker_status = match details.remove("worker_status") {
        Some(status) => Some(status),
        None => live_status(&app, &fleet, &row).await,
    };
    let worker = row.state.node.and_then(|node| {
        let worker = fleet.known(&app.queue.ids().node_id(node))?;
        Some(json!(worker.id))
    });
    Ok(Json(json!({
        "job_id": id,
        "pool_status": word(&row, worker_status.as_ref()),
        "worker_id": details.remove("worker_id").or(worker),
        "worker_status": worker_status,
        "submitted_at": seconds(row.new.created),
        "completed_at": row.state.ended.map(seconds),
        "reason": row.state.reason,
    })))
}

/// What the worker says about a job that runs: what was said last to this replica, which carries the job, or else what it
/// says now.
async fn live_status(app: &Shared, fleet: &Fleet, row: &JobRow) -> Option<Value> {
    let attempt = row.state.attempt.filter(|_| row.state.open)?;
    if let Some(status) = fleet.carried.status(row.new.number, attempt) {
        return Some(status);
    }
    let run = run_in_row(&row.state.snapshot, attempt)?;
    let worker = fleet.known(&app.queue.ids().node_id(row.state.node?))?;
    let status = tokio::time::timeout(PATIENCE, worker.client.status(&run)).await;
    Some(json!(status.ok()?.ok()?))
}

/// How a job stands. It runs once its worker says so.
fn word(row: &JobRow, worker_status: Option<&Value>) -> &'static str {
    match row.state.word {
        JobWord::Pending => "queued",
        JobWord::Assigned | JobWord::Running => {
            match worker_status.and_then(|it| it.get("status")?.as_str()) {
                Some("queued") => "dispatched",
                None if row.state.word == JobWord::Assigned => "dispatched",
                None | Some(_) => "running",
            }
        }
        JobWord::Completed => "completed",
        JobWord::Failed => "failed",
    }
}

/// `GET /pool`.
async fn pool(
    State(app): State<Shared>,
    Extension(fleet): Extension<Arc<Fleet>>,
) -> Result<Json<Value>, ApiError> {
    let nodes = app.queue.nodes().await?;
    let stats = app.queue.stats();
    let mut healthy = 0;
    let mut workers = Vec::new();
    for worker in fleet.workers() {
        let standing = worker.standing();
        if standing.is_retired {
            continue;
        }
        let is_healthy = standing.health == Some(true);
        healthy += usize::from(is_healthy);
        let active = nodes
            .iter()
            .find(|it| it.endpoint == worker.key)
            .map_or(0, |it| it.active);
        workers.push(json!({
            "worker_id": worker.id,
            "endpoint": worker.client.endpoint(),
            "is_healthy": is_healthy,
            "active_jobs": active,
            "max_concurrent_jobs": standing.listed_slots.unwrap_or(standing.slots),
            "last_health_check": standing.checked.map(seconds),
        }));
    }
    let counts = stats.counts;
    Ok(Json(json!({
        "total_workers": workers.len(),
        "healthy_workers": healthy,
        "total_jobs": stats.ever,
        "queued_jobs": counts.blocked + counts.queued,
        "workers": workers,
    })))
}

//! `GET /health`: whether the service can do its work now, part by part.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sandrun_metrics::{Check, DiskWatch, Readiness};
use sandrun_store::queue::QueueAddress;
use serde_json::json;
use tokio::time::timeout;

use super::http::{App, Shared};

/// Bytes that have to be free for the queue to be written.
const LEAST_FREE: u64 = 64 << 20;
/// How long the queue's database may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The disk of a queue that lies in files of this machine.
pub(super) fn disk_of(database: &QueueAddress) -> Option<Arc<DiskWatch>> {
    match database {
        QueueAddress::Sqlite(file) => {
            let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            Some(Arc::new(DiskWatch::new(folder.to_owned(), LEAST_FREE)))
        }
        QueueAddress::Postgres(_) => None,
    }
}

/// All parts.
pub(super) async fn readiness(app: &App) -> Readiness {
    let mut checks = vec![database(app).await, writes(app)];
    if let Some(disk) = app.disk.clone() {
        let checked = tokio::task::spawn_blocking(move || disk.check()).await;
        checks
            .push(checked.unwrap_or_else(|_| Check::bad("disk", "the service is ending", "start it again")));
    }
    Readiness::of(checks)
}

/// Whether the queue can be read.
async fn database(app: &App) -> Check {
    let name = "database";
    let todo = "look at the service's log, and whether the database runs and can be reached";
    match timeout(PATIENCE, app.reader.oldest_pending()).await {
        Ok(Ok(_)) => Check::good(name, "it answers"),
        // what it says may name hosts and files: it is for the log
        Ok(Err(error)) => {
            tracing::debug!(%error, "the queue's database does not answer");
            Check::bad(name, "it can't be read", todo)
        }
        Err(_) => Check::bad(name, format!("no answer within {} s", PATIENCE.as_secs()), todo),
    }
}

/// Whether what changes is written.
fn writes(app: &App) -> Check {
    let name = "writes";
    if app.reader.in_place().is_err() {
        let todo = "where they were moved, move them back; else end the service, put a backup of all of them back and start it";
        Check::bad(
            name,
            "the queue's files were removed, moved or replaced under the running service",
            todo,
        )
    } else if app.queue.stats().is_failing {
        let todo = "look at the service's log; what was acknowledged is safe, and it goes on by itself";
        Check::bad(name, "the last changes could not be written", todo)
    } else {
        Check::good(name, "the last changes were written")
    }
}

/// `GET /health`.
pub(super) async fn health(State(app): State<Shared>) -> Response {
    let readiness = readiness(&app).await;
    let counts = app.queue.stats().counts;
    let code = StatusCode::from_u16(readiness.code()).unwrap_or(StatusCode::OK);
    let body = json!({
        "status": if readiness.is_ready() { "healthy" } else { "not ready" },
        "jobs": counts.blocked + counts.queued + counts.running,
        "active_nodes": counts.up + counts.draining,
        "checks": readiness.checks,
    });
    (code, Json(body)).into_response()
}

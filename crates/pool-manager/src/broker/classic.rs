//! The calls of the existing broker's clients, in its own shapes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use sandrun_core::pool::NodeStatus;
use serde_json::{Value, json};

use super::body::At;
use super::error::ApiError;
use super::found::{find, find_ended, word};
use super::http::Shared;
use super::logs::no_text;
use super::time::text;

/// `GET /`.
pub(super) async fn root(State(app): State<Shared>) -> Json<Value> {
    Json(json!({
        "service": app.face.service,
        "version": env!("CARGO_PKG_VERSION"),
        "api": "pool/1",
    }))
}

/// `GET /openapi.json`.
pub(super) async fn openapi(State(app): State<Shared>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], app.face.openapi)
}

/// `GET /status/{id}`.
pub(super) async fn status(State(app): State<Shared>, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    let row = find(&app, &id).await?;
    let mut view = json!({
        "job_id": id,
        "status": word(row.state.word),
        "node_id": row.state.node.map(|node| app.queue.ids().node_id(node)),
        "created_at": text(row.new.created),
        "completed_at": row.state.ended.map(text),
    });
    if let Some(reason) = row.state.reason {
        view["reason"] = Value::from(reason);
    }
    Ok(Json(view))
}

/// `GET /results/{id}`.
pub(super) async fn results(State(app): State<Shared>, At(id): At<String>) -> Result<Response, ApiError> {
    let (row, answer) = find_ended(&app, &id).await?;
    if row.state.open {
        let body = Json(json!({"error": "Job not completed"}));
        return Ok((StatusCode::ACCEPTED, body).into_response());
    }
    let mut view = json!({"job_id": id, "status": word(row.state.word)});
    match answer {
        Some(answer) => {
            view["output"] = Value::from(String::from_utf8_lossy(&answer.stdout));
            view["error"] = Value::from(String::from_utf8_lossy(&answer.stderr));
            view["exit_code"] = Value::from(answer.exit_code);
            for (name, bytes) in [
                ("output_base64", &answer.stdout),
                ("error_base64", &answer.stderr),
            ] {
                if let Some(encoded) = no_text(bytes) {
                    view[name] = Value::from(encoded);
                }
            }
        }
        // existing clients show `error`
        None => {
            view["output"] = Value::from("");
            view["error"] = Value::from(row.state.reason.clone().unwrap_or_default());
            view["exit_code"] = Value::Null;
        }
    }
    if let Some(reason) = row.state.reason {
        view["reason"] = Value::from(reason);
    }
    Ok(Json(view).into_response())
}

/// `GET /nodes`: those that are not dead.
pub(super) async fn nodes(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let nodes = app.queue.nodes().await?;
    let active = nodes.into_iter().filter(|it| it.status != NodeStatus::Lost);
    let view = |it: crate::queue::NodeView| {
        json!({
            "id": it.id,
            "endpoint": it.endpoint,
            "capabilities": it.announced.capabilities,
            "last_heartbeat": text(it.heard),
            "jobs_completed": it.completed,
            "jobs_failed": it.failed,
            "active": true,
        })
    };
    Ok(Json(json!({"nodes": active.map(view).collect::<Vec<_>>()})))
}

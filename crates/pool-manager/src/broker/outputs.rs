//! What jobs left: their files and the receipt.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandrun_store::queue::Answer;
use serde_json::{Value, json};

use super::body::At;
use super::error::ApiError;
use super::found::{find_ended, word};
use super::http::{App, Shared};
use super::jobs::details;
use super::work::send;

/// Header with the signature over a receipt, base64.
const SIGNATURE_HEADER: &str = "x-signature";
/// Header with the public key that it is checked with, base64.
const WORKER_HEADER: &str = "x-worker-id";

/// The answer that a job ended with, or 409 while it has not ended.
async fn ended(app: &App, id: &str) -> Result<Option<Answer>, ApiError> {
    let (row, answer) = find_ended(app, id).await?;
    if row.state.open {
        let text = format!(
            "the job is {}: its outputs are here once it has ended",
            word(row.state.word)
        );
        return Err(ApiError::conflict(text));
    }
    Ok(answer)
}

/// `GET /v1/jobs/{id}/outputs`.
pub(super) async fn list(State(app): State<Shared>, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    let files = ended(&app, &id).await?.map(|it| it.outputs).unwrap_or_default();
    Ok(Json(
        json!({"job_id": id, "total_files": files.len(), "files": files}),
    ))
}

/// `GET /v1/jobs/{id}/outputs/{path}`.
pub(crate) async fn file(
    State(app): State<Shared>,
    At((id, path)): At<(String, String)>,
) -> Result<Response, ApiError> {
    let files = ended(&app, &id).await?.map(|it| it.outputs).unwrap_or_default();
    let output = files.iter().find(|it| it.path == path);
    let output = output.ok_or_else(|| ApiError::not_found("the job left no such file"))?;
    send(&app, output.blob).await
}

/// `GET /v1/jobs/{id}/receipt`: the very bytes that were signed; the signature and its key are headers.
pub(super) async fn receipt(State(app): State<Shared>, At(id): At<String>) -> Result<Response, ApiError> {
    let none = || ApiError::not_found("the job's node gave no receipt");
    let answer = ended(&app, &id).await?.ok_or_else(none)?;
    let worker = details(&answer).remove("worker_id");
    let receipt = answer.receipt.ok_or_else(none)?;
    let mut response = Response::new(Body::from(receipt));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let signature = answer.signature.map(|it| STANDARD.encode(it));
    let worker = worker.and_then(|it| it.as_str().map(str::to_owned));
    for (name, value) in [(SIGNATURE_HEADER, signature), (WORKER_HEADER, worker)] {
        if let Some(value) = value.and_then(|it| HeaderValue::from_str(&it).ok()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

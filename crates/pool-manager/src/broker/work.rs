//! What nodes say about the jobs that they work on, and the files that go to and fro.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use sandrun_core::pool::SignatureCheck;
use sandrun_store::queue::{BlobHash, LogStream, NotABlobHash, OutputRef, QueueStoreError};
use sandrun_types::{Attempt, BundlePath, Receipt, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::body::{At, JsonBody, object_of, or_default};
use super::error::ApiError;
use super::found::{find, needs, number};
use super::http::{App, FILE_BYTES, Shared};
use super::names::file_and_folder;
use crate::queue::{Completion, Failure, Printed};

/// Most files that one job leaves.
const MAX_OUTPUTS: usize = 10_000;
/// Most completions of one request.
const MAX_COMPLETIONS: usize = 1_000;

/// What an answer says that was taken.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    status: &'static str,
}

const fn ok() -> Json<Taken> {
    Json(Taken { status: "ok" })
}

/// Body of `POST /complete`.
#[derive(Debug, Deserialize)]
pub(super) struct CompleteFields {
    node_id: String,
    job_id: String,
    exit_code: i32,
    #[serde(default, deserialize_with = "or_default")]
    output: String,
    #[serde(default, deserialize_with = "or_default")]
    error: String,
    /// What `output` stands for where that is no UTF-8.
    #[serde(default)]
    output_base64: Option<String>,
    /// What `error` stands for, likewise.
    #[serde(default)]
    error_base64: Option<String>,
    #[serde(default)]
    attempt: Option<Attempt>,
    #[serde(default, deserialize_with = "or_default")]
    outputs: Vec<OutputRef>,
    #[serde(default, deserialize_with = "or_default")]
    explanation: String,
    #[serde(default)]
    receipt: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    worker_id: Option<WorkerId>,
}

/// `POST /complete`.
pub(super) async fn complete(
    State(app): State<Shared>,
    JsonBody(fields): JsonBody<CompleteFields>,
) -> Result<Json<Taken>, ApiError> {
    accept(&app, fields).await?;
    Ok(ok())
}

/// Body of `POST /v1/work/complete`.
#[derive(Debug, Deserialize)]
pub(super) struct CompleteAllFields {
    completions: Vec<Value>,
}

/// `POST /v1/work/complete`: each as by itself, written together.
pub(super) async fn complete_all(
    State(app): State<Shared>,
    JsonBody(fields): JsonBody<CompleteAllFields>,
) -> Result<Json<Value>, ApiError> {
    if fields.completions.len() > MAX_COMPLETIONS {
        let text = format!("`completions` has more than {MAX_COMPLETIONS} entries");
        return Err(ApiError::bad_request(text));
    }
    let each = fields
        .completions
        .into_iter()
        .map(async |fields| accept(&app, object_of(fields)?).await);
    let results = futures::future::join_all(each).await;
    let view = |result: Result<(), ApiError>| match result {
        Ok(()) => json!({"status": 200}),
        Err(error) => json!({"status": error.status.as_u16(), "error": error.message}),
    };
    let results: Vec<Value> = results.into_iter().map(view).collect();
    Ok(Json(json!({"results": results})))
}

/// Takes the answer of an attempt.
async fn accept(app: &App, fields: CompleteFields) -> Result<(), ApiError> {
    let job = number(app, &fields.job_id)?;
    check_outputs(app, &fields.outputs).await?;
    let receipt = fields
        .receipt
        .as_deref()
        .map(|it| base64("receipt", it))
        .transpose()?;
    let signature = fields
        .signature
        .as_deref()
        .map(|it| base64("signature", it))
        .transpose()?;
    let stdout = printed(fields.output, ("output_base64", fields.output_base64))?;
    let stderr = printed(fields.error, ("error_base64", fields.error_base64))?;
    let parsed = receipt.as_deref().and_then(|it| Receipt::parse(it).ok());
    let worker = fields.worker_id.or_else(|| parsed.as_ref()?.worker_id);
    let check = check(receipt.as_deref(), signature.as_deref(), worker);
    let mut details = Map::new();
    if let Some(root) = parsed.as_ref().and_then(|it| it.output_root) {
        details.insert("output_root".to_owned(), Value::from(root.to_string()));
    }
    if let Some(worker) = worker {
        details.insert("worker_id".to_owned(), json!(worker));
    }
    if !fields.explanation.is_empty() {
        details.insert("explanation".to_owned(), Value::from(fields.explanation));
    }
    let completion = Completion {
        node: fields.node_id,
        job,
        attempt: fields.attempt,
        exit_code: fields.exit_code,
        stdout,
        stderr,
        outputs: fields.outputs,
        receipt,
        signature,
        check,
        details: Value::Object(details).to_string().into_bytes(),
    };
    Ok(app.queue.complete(completion).await?)
}

/// What a program printed: its bytes where they came beside the text.
fn printed(text: String, (name, bytes): (&str, Option<String>)) -> Result<Vec<u8>, ApiError> {
    match bytes {
        Some(bytes) => base64(name, &bytes),
        None => Ok(text.into_bytes()),
    }
}

fn base64(name: &str, text: &str) -> Result<Vec<u8>, ApiError> {
    let bytes = STANDARD.decode(text);
    bytes.map_err(|error| ApiError::bad_request(format!("`{name}` is no base64: {error}")))
}

/// What a receipt's signature is worth. A receipt that nobody signed, and one that names no worker, prove nothing.
fn check(receipt: Option<&[u8]>, signature: Option<&[u8]>, worker: Option<WorkerId>) -> SignatureCheck {
    let (Some(receipt), Some(signature), Some(worker)) = (receipt, signature, worker) else {
        return SignatureCheck::Absent;
    };
    let valid = <&[u8; 64]>::try_from(signature)
        .ok()
        .is_some_and(|signature| Receipt::verify(receipt, signature, worker).is_ok());
    if valid {
        SignatureCheck::Valid
    } else {
        SignatureCheck::Invalid
    }
}

/// Checks that the files which a job left have names, and are here.
async fn check_outputs(app: &App, outputs: &[OutputRef]) -> Result<(), ApiError> {
    if outputs.len() > MAX_OUTPUTS {
        return Err(ApiError::bad_request(format!(
            "`outputs` has more than {MAX_OUTPUTS} files"
        )));
    }
    let mut names = std::collections::BTreeSet::new();
    for output in outputs {
        let path = BundlePath::parse(&output.path);
        let path = path.map_err(|error| ApiError::bad_request(format!("`outputs`: {error}")))?;
        if path.as_str() != output.path || !names.insert(path) {
            let text = format!(
                "`outputs`: {:?} is there twice or not in its normal form",
                output.path
            );
            return Err(ApiError::bad_request(text));
        }
        let stored = app.reader.get_blob(output.blob).await?.map(|(size, _)| size);
        if stored != Some(output.size) {
            let text = format!("`outputs`: {} was not uploaded; PUT it first", output.path);
            return Err(ApiError::bad_request(text));
        }
    }
    if let Some(name) = file_and_folder(&names) {
        let text = format!("`outputs`: {name} is both a file and a folder");
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

/// Body of `POST /v1/work/{id}/{attempt}/fail`.
#[derive(Debug, Deserialize)]
pub(super) struct FailFields {
    node_id: String,
    #[serde(default, deserialize_with = "or_default")]
    reason: String,
    retry: bool,
}

/// `POST /v1/work/{id}/{attempt}/fail`.
pub(super) async fn fail(
    State(app): State<Shared>,
    At((id, attempt)): At<(String, u32)>,
    JsonBody(fields): JsonBody<FailFields>,
) -> Result<Json<Taken>, ApiError> {
    let failure = Failure {
        node: fields.node_id,
        job: number(&app, &id)?,
        attempt: Some(Attempt(attempt)),
        retry: fields.retry,
        words: fields.reason.chars().take(1_000).collect(),
    };
    app.queue.fail(failure).await?;
    Ok(ok())
}

/// New output in `POST /v1/work/{id}/{attempt}/logs`.
#[derive(Debug, Deserialize)]
struct PieceFields {
    from: u64,
    text: String,
}

/// Body of `POST /v1/work/{id}/{attempt}/logs`.
#[derive(Debug, Deserialize)]
pub(super) struct LogFields {
    node_id: String,
    #[serde(default)]
    stdout: Option<PieceFields>,
    #[serde(default)]
    stderr: Option<PieceFields>,
}

/// Bytes of a log that are kept in one row: who follows it reads whole rows.
const LOG_ROW: usize = 128 << 10;

/// `POST /v1/work/{id}/{attempt}/logs`.
pub(super) async fn logs(
    State(app): State<Shared>,
    At((id, attempt)): At<(String, u32)>,
    JsonBody(fields): JsonBody<LogFields>,
) -> Result<Json<Taken>, ApiError> {
    let mut pieces = Vec::new();
    for (stream, piece) in [
        (LogStream::Stdout, fields.stdout),
        (LogStream::Stderr, fields.stderr),
    ] {
        let Some(PieceFields { mut from, text }) = piece else {
            continue;
        };
        for bytes in text.as_bytes().chunks(LOG_ROW) {
            pieces.push((stream, from, bytes.to_vec()));
            from = from.saturating_add(bytes.len() as u64);
        }
    }
    let printed = Printed {
        node: fields.node_id,
        job: number(&app, &id)?,
        attempt: Attempt(attempt),
        pieces,
    };
    app.queue.print(printed).await?;
    Ok(ok())
}

/// `GET /v1/work/{id}/{attempt}/files/{sha256}`.
pub(super) async fn file(
    State(app): State<Shared>,
    At((id, _attempt, sha256)): At<(String, u32, String)>,
) -> Result<Response, ApiError> {
    let blob: BlobHash = sha256
        .parse()
        .map_err(|error: NotABlobHash| ApiError::bad_request(error.to_string()))?;
    let row = find(&app, &id).await?;
    if !needs(&app, &row, blob).await? {
        return Err(ApiError::not_found("the job has no such file"));
    }
    send(&app, blob).await
}

/// A stored body as an answer.
pub(super) async fn send(app: &App, blob: BlobHash) -> Result<Response, ApiError> {
    let (size, body) = app
        .reader
        .get_blob(blob)
        .await?
        .ok_or_else(|| ApiError::not_found("the file is not kept any more"))?;
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, size.into());
    let octets = axum::http::HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, octets);
    Ok(response)
}

/// `PUT /v1/work/{id}/{attempt}/outputs/{path}`.
pub(super) async fn output(
    State(app): State<Shared>,
    At((id, _attempt, path)): At<(String, u32, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let path = BundlePath::parse(&path).map_err(|error| ApiError::bad_request(error.to_string()))?;
    if !find(&app, &id).await?.state.open {
        return Err(ApiError::conflict("the job has ended"));
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|it| it > FILE_BYTES) {
        return Err(ApiError::too_large(FILE_BYTES));
    }
    let mut left = FILE_BYTES;
    let pieces = body.into_data_stream().map(move |piece| {
        let piece: Bytes = piece.map_err(io::Error::other)?;
        left = left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(piece)
    });
    let stored = app
        .reader
        .put_blob(Box::pin(pieces), app.queue.clock().now())
        .await;
    let (blob, size) = stored.map_err(|error| {
        if let QueueStoreError::Body(cause) = &error
            && cause.kind() == io::ErrorKind::FileTooLarge
        {
            return ApiError::too_large(FILE_BYTES);
        }
        ApiError::from(error)
    })?;
    Ok(Json(json!({"path": path, "size": size, "sha256": blob})))
}

//! `POST /submit` and `POST /v1/jobs/batch`: bodies become stored files and checked submissions.

use axum::Json;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use sandrun_core::pool::Illegal;
use sandrun_store::queue::{BlobHash, Body, JobWord, OutputRef, QueueStoreError};
use sandrun_types::{Manifest, Sha256Hex};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::body::{object, read, unread};
use super::caller::Caller;
use super::charge::charge;
use super::error::ApiError;
use super::found;
use super::http::{App, Shared};
use super::parts::{Brought, WITH_CALL, bytes as bytes_of, store_field};
use super::request::StoredRequest;
use super::submission::{Context, JobFields, OWN_MANIFEST, check_key};
use crate::queue::{Accepted, QueueError, Submission};

/// Most jobs of one batch.
const MAX_BATCH: usize = 1_000;
/// Jobs of a batch that are read in one go.
const TURN: usize = 32;
/// Most files of one job.
const MAX_FILES: usize = 10_000;
/// Longest job in JSON; larger ones come as a form.
const MAX_JSON: usize = 16 << 20;
/// Longest `options` of a multipart upload.
const MAX_OPTIONS: usize = 1 << 20;
/// The header that names a submission.
const KEY_HEADER: &str = "idempotency-key";

/// A job that is checked, and the bodies that have to be stored before it or with it.
struct Prepared {
    submission: Submission,
    bodies: Vec<(BlobHash, Bytes)>,
}

/// `POST /submit`.
pub(super) async fn submit(
    State(app): State<Shared>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let key = idempotency_key(request.headers())?;
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .is_some_and(|it| {
            it.trim_start()
                .to_ascii_lowercase()
                .starts_with("multipart/form-data")
        });
    let prepared = if is_form {
        let form = Multipart::from_request(request, &()).await;
        let form = form.map_err(|error| ApiError::bad_request(error.body_text()))?;
        prepare_form(&app, &caller, form, key).await?
    } else {
        let bytes = read(request.into_body(), MAX_JSON).await?;
        let mut fields: JobFields = object(&bytes)?;
        fields.idempotency_key = key.or(fields.idempotency_key);
        prepare_after(&app, &caller, fields, Vec::new(), Vec::new()).await?
    };
    charge(&caller, std::slice::from_ref(&prepared.submission))?;
    let submission = store(&app, prepared, WITH_CALL).await?;
    let keyed = keyed(&submission);
    let mut submitted = app.queue.submit(vec![submission]).await?;
    match submitted.pop() {
        Some(job) => {
            let job = job.map_err(|error| why_refused(&app, &error))?;
            Ok(Json(view(&app, job, keyed.as_deref()).await?))
        }
        None => Err(ApiError::from(QueueError::Stopped)),
    }
}

/// Why the queue refuses a job; a parent that is not there is named.
fn why_refused(app: &App, error: &QueueError) -> ApiError {
    if let QueueError::Illegal(Illegal::UnknownParent { parent, .. }) = error {
        let parent = app.queue.ids().job_id(*parent);
        return ApiError::bad_request(format!(
            "a job in `after` is not known here: {parent}; ended ones are kept for a limited time"
        ));
    }
    ApiError::from(error.clone())
}

/// `POST /v1/jobs/batch`.
pub(super) async fn batch(
    State(app): State<Shared>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let key = idempotency_key(request.headers())?;
    key.as_deref().map(check_key).transpose()?;
    let bytes = Bytes::from_request(request, &()).await.map_err(unread)?;
    // each job is read by itself: one at a time is in memory in pieces
    let bodies: Vec<&RawValue> = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("the body is no JSON array of jobs: {error}")))?;
    if bodies.len() > MAX_BATCH {
        return Err(ApiError::bad_request(format!(
            "a batch has at most {MAX_BATCH} jobs"
        )));
    }
    let mut answers: Vec<Option<ApiError>> = Vec::with_capacity(bodies.len());
    let mut submissions = Vec::with_capacity(bodies.len());
    let mut left = WITH_CALL;
    for (at, body) in bodies.into_iter().enumerate() {
        if at % TURN == TURN - 1 {
            // others' calls get in between
            tokio::task::yield_now().await;
        }
        let prepared = match object(body.get().as_bytes()) {
            Ok(fields) => prepare_after(&app, &caller, fields, Vec::new(), Vec::new()).await,
            Err(error) => Err(error),
        };
        match prepared {
            Ok(mut prepared) => {
                if let (None, Some(key)) = (&prepared.submission.idempotency, &key) {
                    prepared.submission.idempotency = Some(key_of(key, at));
                }
                let submission = store(&app, prepared, left).await?;
                left = left.saturating_sub(bytes_of(&submission.bodies));
                submissions.push(submission);
                answers.push(None);
            }
            Err(error) => answers.push(Some(error)),
        }
    }
    charge(&caller, &submissions)?;
    let keyed: Vec<_> = submissions.iter().map(keyed).collect();
    let submitted = if submissions.is_empty() {
        Vec::new()
    } else {
        app.queue.submit(submissions).await?
    };
    let mut submitted = submitted.into_iter().zip(keyed);
    let mut views = Vec::with_capacity(answers.len());
    for refused in answers {
        let answer = match refused {
            Some(error) => Err(error),
            None => match submitted.next() {
                Some((Ok(job), keyed)) => view(&app, job, keyed.as_deref()).await,
                Some((Err(error), _)) => Err(why_refused(&app, &error)),
                None => Err(ApiError::from(QueueError::Stopped)),
            },
        };
        views.push(answer.unwrap_or_else(|error| json!({"error": error.message})));
    }
    Ok(Json(Value::Array(views)))
}

/// The request of a job that is submitted under a key, to be compared with what that key named before.
fn keyed(submission: &Submission) -> Option<Vec<u8>> {
    submission
        .idempotency
        .as_ref()
        .map(|_| submission.request.clone())
}

/// What a client is told of its job.
async fn view(app: &App, accepted: Accepted, request: Option<&[u8]>) -> Result<Value, ApiError> {
    if accepted.is_known
        && let Some(wanted) = request.and_then(found::request::<StoredRequest>)
        // whoever can't look now has its job all the same
        && let Ok(Some(row)) = app.reader.job(accepted.job).await
        && let Some(known) = found::request::<StoredRequest>(&row.new.request)
        && !known.is_like(&wanted)
    {
        let text =
            "this idempotency key names another job that you have submitted; give each job its own key";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text));
    }
    let status = if accepted.has_failed {
        found::word(JobWord::Failed)
    } else {
        app.face.accepted
    };
    Ok(json!({"job_id": app.queue.ids().job_id(accepted.job), "status": status}))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let key = headers.get(KEY_HEADER).map(|it| it.to_str().map(str::to_owned));
    key.transpose()
        .map_err(|_| ApiError::bad_request("`Idempotency-Key` has to be printable ASCII"))
}

/// The key of the job that stands at this place of a batch which has a key. No header can hold such a one: it is nobody
/// else's.
fn key_of(batch: &str, at: usize) -> String {
    format!("{batch}\n{at}")
}

/// As [`prepare`], with parents that are named by their output root, and files that come with the job.
async fn prepare_after(
    app: &App,
    caller: &Caller,
    mut fields: JobFields,
    stored: Vec<OutputRef>,
    bodies: Vec<Body>,
) -> Result<Prepared, ApiError> {
    for root in fields.roots() {
        let Some(job) = app.reader.by_output_root(root).await? else {
            let text = format!(
                "no job here has ended well with the output root {}, which `after` names; ended ones are kept for a limited \
                 time",
                hex::encode(root.0)
            );
            return Err(ApiError::bad_request(text));
        };
        fields.name_parents(root, &app.queue.ids().job_id(job));
    }
    if let Some(bytes) = own_manifest(app, &fields, &stored, &bodies).await? {
        fields.set_own_manifest(bytes);
    }
    let mut prepared = prepare(app, caller, fields, stored)?;
    prepared.submission.bodies = bodies;
    Ok(prepared)
}

/// The file of a manifest's name among a job's files, where no other manifest is sent; an error where it is too long for
/// one, which counts only if it has to be one.
async fn own_manifest(
    app: &App,
    fields: &JobFields,
    stored: &[OutputRef],
    bodies: &[Body],
) -> Result<Option<Result<Vec<u8>, ApiError>>, ApiError> {
    if !fields.has_no_manifest() {
        return Ok(None);
    }
    if let Some(text) = fields.files.get(OWN_MANIFEST) {
        // what is no base64 is refused with the other files
        return Ok(STANDARD.decode(text.as_bytes()).ok().map(Ok));
    }
    let Some(file) = stored.iter().find(|it| it.path == OWN_MANIFEST) else {
        return Ok(None);
    };
    if usize::try_from(file.size).map_or(true, |size| size > Manifest::MAX_BYTES) {
        let text = format!("{OWN_MANIFEST} has more than {} bytes", Manifest::MAX_BYTES);
        return Ok(Some(Err(ApiError::bad_request(text))));
    }
    if let Some(body) = bodies.iter().find(|it| it.blob == file.blob) {
        return Ok(Some(Ok(body.data.to_vec())));
    }
    let Some((_, body)) = app.reader.get_blob(file.blob).await? else {
        return Ok(None);
    };
    let pieces: Vec<Bytes> = body
        .try_collect()
        .await
        .map_err(|error: std::io::Error| ApiError::from(QueueStoreError::Body(error)))?;
    Ok(Some(Ok(pieces.concat())))
}

fn prepare(
    app: &App,
    caller: &Caller,
    mut fields: JobFields,
    stored: Vec<OutputRef>,
) -> Result<Prepared, ApiError> {
    let mut files = stored;
    let mut bodies = Vec::new();
    let mut add = |path: String, body: Bytes| {
        let blob = BlobHash(Sha256Hex::of(&body).0);
        files.push(OutputRef {
            path,
            size: body.len() as u64,
            blob,
        });
        bodies.push((blob, body));
    };
    if let Some((name, code)) = fields.code_file() {
        add(name, Bytes::from(code));
    }
    for (name, text) in std::mem::take(&mut fields.files) {
        let body = STANDARD.decode(text.as_bytes());
        let body =
            body.map_err(|error| ApiError::bad_request(format!("`files` {name:?} is no base64: {error}")))?;
        add(name, Bytes::from(body));
    }
    if files.len() > MAX_FILES {
        let text = format!("there are more than {MAX_FILES} files; pack them into a .tar.gz");
        return Err(ApiError::bad_request(text));
    }
    let context = Context {
        client: &caller.0,
        settings: app.queue.settings(),
        ids: app.queue.ids(),
        now: app.queue.clock().now(),
    };
    let submission = fields.check(files, context)?;
    Ok(Prepared { submission, bodies })
}

/// Stores what a job refers to, but for what is written with it: of that the call may bring so many bytes.
async fn store(app: &App, prepared: Prepared, left_of_call: usize) -> Result<Submission, ApiError> {
    let Prepared {
        mut submission,
        bodies,
    } = prepared;
    let read = std::mem::take(&mut submission.bodies);
    let mut brought = Brought::beside(app, read, left_of_call);
    for (blob, body) in bodies {
        if let Some(body) = brought.take(blob, body) {
            app.reader
                .put_blob(Box::pin(stream::iter([Ok(body)])), app.queue.clock().now())
                .await?;
        }
    }
    submission.bodies = brought.into_bodies();
    Ok(submission)
}

/// Reads a form: files go straight to the store.
async fn prepare_form(
    app: &Shared,
    caller: &Caller,
    mut form: Multipart,
    key: Option<String>,
) -> Result<Prepared, ApiError> {
    let mut files = Vec::new();
    let mut brought = Brought::of(app, WITH_CALL);
    let mut manifest: Option<Vec<u8>> = None;
    let mut options: Option<Vec<u8>> = None;
    while let Some(field) = form.next_field().await? {
        match field.name() {
            Some("files") => {
                let name = field.file_name().unwrap_or_default().to_owned();
                let (blob, size) = store_field(app, field, &mut brought).await?;
                match (name.is_empty(), size) {
                    // what some clients send for "no file"
                    (true, 0) => {}
                    (true, _) => {
                        let text = "a part named `files` has no file name; give each file its name";
                        return Err(ApiError::bad_request(text));
                    }
                    (false, _) => files.push(OutputRef {
                        path: name,
                        size,
                        blob,
                    }),
                }
                if files.len() > MAX_FILES {
                    let text = format!("there are more than {MAX_FILES} files; pack them into a .tar.gz");
                    return Err(ApiError::bad_request(text));
                }
            }
            Some("manifest") => {
                manifest = Some(short("manifest", field, Manifest::MAX_BYTES, manifest).await?)
            }
            Some("options") => options = Some(short("options", field, MAX_OPTIONS, options).await?),
            other => {
                let name: String = other.unwrap_or_default().chars().take(80).collect();
                let text = format!("there is no field {name:?}; send `files`, `manifest` and `options`");
                return Err(ApiError::bad_request(text));
            }
        }
    }
    if app.face.needs_manifest && manifest.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad_request(
            "there is no `manifest`; send the job's manifest as JSON",
        ));
    }
    let options = options.filter(|text| !text.is_empty());
    let mut fields: JobFields = options.as_deref().map(object).transpose()?.unwrap_or_default();
    if let Some(text) = manifest.filter(|text| !text.is_empty()) {
        let checked = Manifest::parse(&text).map_err(|error| ApiError::bad_request(error.to_string()))?;
        fields.set_manifest(object(&checked.canonical_bytes())?)?;
    }
    fields.idempotency_key = key.or(fields.idempotency_key);
    prepare_after(app, caller, fields, files, brought.into_bodies()).await
}

async fn short(
    name: &str,
    mut field: Field<'_>,
    most: usize,
    before: Option<Vec<u8>>,
) -> Result<Vec<u8>, ApiError> {
    if before.is_some() {
        return Err(ApiError::bad_request(format!(
            "`{name}` was sent twice; send it once"
        )));
    }
    let mut text = Vec::new();
    while let Some(piece) = field.chunk().await? {
        if text.len() + piece.len() > most {
            return Err(ApiError::bad_request(format!(
                "`{name}` has more than {most} bytes"
            )));
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

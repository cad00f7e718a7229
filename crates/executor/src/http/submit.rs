//! `POST /submit`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequest as _, Multipart, Request, State};
use axum::http::HeaderMap;

use super::{ApiError, App, Shared};
use crate::id::RunId;
use crate::job::{Job, JobFolder};
use crate::origin::Origin;
use crate::upload::{self, BundleLimits, Received};
use crate::wire::{IDEMPOTENCY_KEY, Submitted};

/// Bytes of a client's own name for a submission.
const KEY_LENGTHS: RangeInclusive<usize> = 32..=128;

pub(super) async fn submit(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Json<Submitted>, ApiError> {
    let client = peer.ip().to_canonical();
    let limit = app.offer.limits.upload_bytes;
    let (parts, body) = request.into_parts();
    let id = named(&parts.headers)?;
    let origin = Origin::of(&parts.headers);
    if let Some(id) = id
        && let Some(known) = app.service.look(id).await?
    {
        upload::discard(body, limit).await;
        return Ok(Json(Submitted {
            job_id: id.to_string(),
            status: "queued".to_owned(),
            position: known.position as u64,
        }));
    }
    // Before the upload is read, as it may be large; asked again when the job is queued.
    if let Err(refused) = app.service.may_submit(client).await? {
        upload::discard(body, limit).await;
        return Err(refused.into());
    }
    let Some(_slot) = app.uploads.take(client).await else {
        upload::discard(body, limit).await;
        let full = "too many uploads are under way; send this one again in a moment";
        return Err(ApiError::unavailable(full));
    };
    let (body, overflow) = upload::bounded(body, limit);
    let form = Multipart::from_request(Request::from_parts(parts, body), &())
        .await
        .map_err(|_| ApiError::bad_request("send a multipart/form-data body with `files` and `manifest`"))?;
    let (id, jobs) = (id.unwrap_or_else(RunId::random), app.jobs.clone());
    let folder = blocking(move || JobFolder::create(&jobs, id))
        .await?
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                ApiError::conflict("this very submission is being received; send it again in a moment")
            }
            _ => ApiError::internal("a job's folder could not be made", &error),
        })?;
    let folder = Arc::new(folder);
    let spool = folder.spool();
    let received = tokio::select! {
        received = upload::receive(form, &spool, &overflow) => received?,
        () = app.shutdown.cancelled() => return Err(ApiError::unavailable("the service is shutting down")),
    };
    let mut job = prepare(&app, id, folder, received).await?;
    job.span = origin.span(id);
    let position = app.service.submit(client, Arc::new(job)).await??;
    Ok(Json(Submitted {
        job_id: id.to_string(),
        status: "queued".to_owned(),
        position: position as u64,
    }))
}

/// The id of a submission that its client has named.
fn named(headers: &HeaderMap) -> Result<Option<RunId>, ApiError> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let is_key = |key: &&str| {
        KEY_LENGTHS.contains(&key.len()) && key.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
    };
    match key.to_str().ok().filter(is_key) {
        Some(key) => Ok(Some(RunId::named(key))),
        None => Err(ApiError::bad_request(
            "an Idempotency-Key has 32 to 128 letters and digits, chosen at random",
        )),
    }
}

/// Unpacks and checks what was received.
async fn prepare(
    app: &Shared,
    id: RunId,
    folder: Arc<JobFolder>,
    received: Received,
) -> Result<Job, ApiError> {
    let app: Arc<App> = Arc::clone(app);
    blocking(move || {
        let limits = BundleLimits {
            bytes: app.offer.limits.unpacked_bytes,
            entries: app.offer.limits.bundle_entries,
        };
        let inputs = upload::assemble(received, &folder.bundle(), limits)?;
        let bounds = app.offer.admit(&inputs, &folder.bundle())?;
        Job::new(id, folder, inputs, bounds)
            .map_err(|error| ApiError::internal("a job could not be prepared", &error))
    })
    .await?
}

/// Runs something that blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ApiError::internal("a thread of the service died", &error))
}

//! `POST /submit`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequest as _, Multipart, Request, State};

use super::{ApiError, App, Shared};
use crate::id::RunId;
use crate::job::{Job, JobFolder};
use crate::service;
use crate::upload::{self, BundleLimits, Received};
use crate::wire::Submitted;

/// Room for the multipart form itself, beside the files.
const FORM_BYTES: u64 = 1024 * 1024;

/// A job folder that removes itself unless the job was queued: a refused upload leaves nothing behind.
struct Draft {
    folder: JobFolder,
    keep: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep {
            let folder = self.folder.clone();
            tokio::task::spawn_blocking(move || service::delete(&folder));
        }
    }
}

pub(super) async fn submit(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Json<Submitted>, ApiError> {
    let client = peer.ip().to_canonical();
    // Before the upload is read, as it may be large; asked again when the job is queued.
    app.service.may_submit(client).await??;
    let Ok(_slot) = app.uploads.acquire().await else {
        return Err(ApiError::unavailable("the service is shutting down"));
    };
    let (parts, body) = request.into_parts();
    let (body, overflow) = upload::bounded(body, app.offer.limits.upload_bytes.saturating_add(FORM_BYTES));
    let form = Multipart::from_request(Request::from_parts(parts, body), &())
        .await
        .map_err(|_| ApiError::bad_request("send a multipart/form-data body with `files` and `manifest`"))?;
    let id = RunId::random();
    let mut draft = Draft {
        folder: JobFolder::of(&app.jobs, id),
        keep: false,
    };
    let folder = draft.folder.clone();
    blocking(move || folder.create())
        .await?
        .map_err(|error| ApiError::internal("a job's folder could not be made", &error))?;
    let spool = draft.folder.spool();
    let received = tokio::select! {
        received = upload::receive(form, &spool, &overflow) => received?,
        () = app.shutdown.cancelled() => return Err(ApiError::unavailable("the service is shutting down")),
    };
    let job = prepare(&app, id, draft.folder.clone(), received).await?;
    let position = app.service.submit(client, Arc::new(job)).await??;
    draft.keep = true;
    Ok(Json(Submitted {
        job_id: id.to_string(),
        status: "queued".to_owned(),
        position: position as u64,
    }))
}

/// Unpacks and checks what was received.
async fn prepare(app: &Shared, id: RunId, folder: JobFolder, received: Received) -> Result<Job, ApiError> {
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

//! `POST /submit`.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, FromRequest as _, Multipart, Query, Request, State};
use axum::http::HeaderMap;

use sandrun_types::{ClassRequest, NoClass};
use serde::Deserialize;

use super::slots::Slot;
use super::{ApiError, App, Shared, environments, follow};
use crate::admit::Offer;
use crate::id::RunId;
use crate::job::{Job, JobFolder};
use crate::origin::Origin;
use crate::service::Service;
use crate::upload::{self, BundleLimits, Received};
use crate::wire::{Begun, IDEMPOTENCY_KEY, Submitted};

/// Bytes of a client's own name for a submission.
const KEY_LENGTHS: RangeInclusive<usize> = 32..=128;

/// What the client wants to hear in the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wishes {
    /// Seconds that the answer may wait for the run's end; at once without.
    wait: Option<f64>,
    /// Whether the run is this request's own.
    discard: bool,
    /// The class to run under, in a manifest's words; it has to be one that the manifest accepts.
    class: Option<String>,
}

impl Wishes {
    fn class(&self) -> Result<Option<ClassRequest>, ApiError> {
        let bad = |error: NoClass| ApiError::bad_request(format!("`class`: {error}"));
        self.class
            .as_deref()
            .map(|text| text.parse().map_err(bad))
            .transpose()
    }
}

pub(super) async fn submit(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    wishes: Result<Query<Wishes>, QueryRejection>,
    request: Request,
) -> Result<Json<Begun>, ApiError> {
    let Query(wishes) = wishes?;
    let wait = wishes.wait.map(Duration::try_from_secs_f64).transpose();
    let wait = wait.map_err(|_| ApiError::bad_request("`wait` has to be a number of seconds"))?;
    let class = wishes.class()?;
    let client = peer.ip().to_canonical();
    let limit = app.offer.limits.upload_bytes;
    let (parts, body) = request.into_parts();
    let id = named(&parts.headers)?;
    let origin = Origin::of(&parts.headers);
    if let Some(id) = id
        && let Some(known) = app.service.look(id).await?
    {
        upload::discard(body, limit).await;
        return Ok(Json(begun(id, known.position)));
    }
    // Before the upload is read, as it may be large; asked again when the job is queued.
    if let Err(refused) = app.service.may_submit(client).await? {
        upload::discard(body, limit).await;
        return Err(refused.into());
    }
    let Some(slot) = app.uploads.take(client).await else {
        upload::discard(body, limit).await;
        let full = "too many uploads are under way; send this one again in a moment";
        return Err(ApiError::unavailable(full));
    };
    let (body, overflow) = upload::bounded(body, limit);
    let form = Multipart::from_request(Request::from_parts(parts, body), &())
        .await
        .map_err(|_| ApiError::bad_request("send a multipart/form-data body with `files` and `manifest`"))?;
    let is_named = id.is_some();
    let id = id.unwrap_or_else(RunId::random);
    let folder = Arc::new(if is_named {
        reserve(&app, id).await?
    } else {
        JobFolder::new(&app.jobs, id)
    });
    let spool = folder.spool();
    let received = tokio::select! {
        received = upload::receive(form, &spool, &overflow) => received?,
        () = app.shutdown.cancelled() => return Err(ApiError::unavailable("the service is shutting down")),
    };
    let mut job = prepare(&app, id, folder, received, class).await?;
    job.span = origin.span(id);
    let (image, place) = environments::of_manifest(&app, client, &job.inputs.manifest, slot).await?;
    job.image = image;
    job.is_discarded = wishes.discard && wait.is_some() && !is_named;
    let job = Arc::new(job);
    let mut own = job.is_discarded.then(|| Own {
        service: app.service.clone(),
        run: Some(id),
    });
    let position = queue(&app, client, &job, place).await?;
    let mut answer = begun(id, position);
    if let Some(wait) = wait {
        let followed = follow::begin(&app, &job, wait).await?;
        if let Some(own) = &mut own {
            let is_all = followed.receipt.is_some() && follow::has_no_files(&app, id).await?;
            own.let_go(is_all);
            answer.discarded = is_all;
        }
        answer.followed = Some(followed);
    }
    Ok(Json(answer))
}

/// Queues a job; from here on the queue counts it, and its place is free.
async fn queue(app: &App, client: IpAddr, job: &Arc<Job>, _place: Slot) -> Result<usize, ApiError> {
    Ok(app.service.submit(client, Arc::clone(job)).await??)
}

fn begun(id: RunId, position: usize) -> Begun {
    Begun {
        submitted: Submitted {
            job_id: id.to_string(),
            status: "queued".to_owned(),
            position: position as u64,
        },
        followed: None,
        discarded: false,
    }
}

/// A run that belongs to its request: dropping this, as happens when the client goes away, ends it.
struct Own {
    service: Service,
    run: Option<RunId>,
}

impl Own {
    /// The answer is made: the run goes on by itself, or is forgotten.
    fn let_go(&mut self, is_all: bool) {
        if let Some(run) = self.run.take()
            && is_all
        {
            self.service.discard(run);
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.service.abandon(run);
        }
    }
}

/// The folder of a submission that its client has named, which nobody else receives meanwhile.
async fn reserve(app: &App, id: RunId) -> Result<JobFolder, ApiError> {
    let jobs = app.jobs.clone();
    let made = blocking(move || JobFolder::create(&jobs, id)).await?;
    made.map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            return ApiError::conflict("this very submission is being received; send it again in a moment");
        }
        ApiError::internal("a job's folder could not be made", &error)
    })
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
    class: Option<ClassRequest>,
) -> Result<Job, ApiError> {
    let app: Arc<App> = Arc::clone(app);
    blocking(move || {
        let limits = BundleLimits {
            bytes: app.offer.limits.unpacked_bytes,
            entries: app.offer.limits.bundle_entries,
        };
        folder
            .make()
            .map_err(|error| ApiError::internal("a job's folder could not be made", &error))?;
        let inputs = upload::assemble(received, &folder.bundle(), limits)?;
        let bounds = app.offer.admit(&inputs, &folder.bundle())?;
        let class = Offer::class(&app.sandbox.offered(), class, &inputs.manifest)?;
        Job::new(id, folder, inputs, bounds, class)
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

//! The HTTP side of the service: routes, and what every answer has in common.
//!
//! Owns the mapping between requests and the service's questions and answers. Never decides anything about a job.

mod environments;
mod error;
mod follow;
mod info;
mod metrics;
mod outputs;
mod path;
mod proof;
mod slots;
mod status;
mod stream;
mod submit;
mod trace;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::response::Response;
use axum::routing::{delete, get, post};
use sandrun_metrics::DiskWatch;
use sandrun_sandbox::Sandbox;
use sandrun_types::Sha256Hex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::cors::{Any, CorsLayer};

use crate::admit::Offer;
use crate::meters::Meters;
use crate::service::Service;
use crate::worker_key::WorkerKey;

pub(crate) use error::ApiError;
pub(crate) use metrics::LEAST_FREE;
pub(crate) use slots::Slots;

/// What every handler may use.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) offer: Offer,
    /// Which classes hold, as far as is known.
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) environments: sandrun_environment::Environments,
    pub(crate) key: Option<WorkerKey>,
    /// Names of the layers that held at start.
    pub(crate) isolation: Vec<String>,
    pub(crate) class: Sha256Hex,
    /// Jobs that run at once.
    pub(crate) parallel: u32,
    /// One line for `GET /`.
    pub(crate) limits_line: String,
    /// CPU seconds a minute of each client; `None` where quotas are off.
    pub(crate) cpu_quota: Option<f64>,
    /// What runs came to.
    pub(crate) meters: Arc<Meters>,
    /// The data folder.
    pub(crate) disk: Arc<DiskWatch>,
    /// Jobs that may wait.
    pub(crate) max_queued: usize,
    /// The folder that holds the jobs' folders.
    pub(crate) jobs: PathBuf,
    /// Places for uploads that are read.
    pub(crate) uploads: Slots,
    /// Places for those who wait for an image.
    pub(crate) images: Slots,
    pub(crate) shutdown: CancellationToken,
    /// Streams that are open.
    pub(crate) streams: TaskTracker,
}

type Shared = Arc<App>;

/// Every route of the API.
pub(crate) fn router(app: Shared) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .expose_headers(Any);
    Router::new()
        .route("/", get(info::root))
        .route("/health", get(info::health))
        .route("/metrics", get(metrics::metrics))
        .route("/stats", get(info::stats))
        .route("/environments", get(environments::list))
        .route("/environments/{name}", post(environments::obtain))
        // The body is bounded by `upload::bounded`, which lets a client finish sending before it is refused.
        .route("/submit", post(submit::submit).layer(DefaultBodyLimit::disable()))
        .route("/status/{id}", get(status::status))
        .route("/logs/{id}", get(status::logs))
        .route("/logs/{id}/{stream}", get(status::raw_log))
        .route("/follow/{id}", get(follow::follow))
        .route("/jobs/{id}", delete(follow::cancel))
        .route("/receipt/{id}", get(status::receipt))
        .route("/trace/{id}", get(trace::trace))
        .route("/proof/{id}/{stream}", get(proof::stream))
        .route("/proof/{id}/outputs/{*path}", get(proof::file))
        .route("/outputs/{id}", get(outputs::list))
        .route("/outputs/{id}/{*path}", get(outputs::file))
        .route("/download/{id}", get(outputs::download))
        .route("/download/{id}/{*path}", get(outputs::file))
        .route("/stream/{id}", get(stream::stream))
        .route("/logs/{id}/stream", get(stream::stream))
        .fallback(async || ApiError::not_found("there is no such call; GET / says what this service is"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(axum::middleware::map_response(async |mut response: Response| {
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }))
        .layer(cors)
        .with_state(app)
}

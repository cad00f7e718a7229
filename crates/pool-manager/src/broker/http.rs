//! Routes, and what every answer has in common.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post, put};
use sandrun_metrics::DiskWatch;
use sandrun_store::queue::QueueReader;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::cors::{Any, CorsLayer};

use super::error::ApiError;
use super::hot::no_store;
use super::metrics::{Meters, measure};
use super::recent::Recent;
use super::{classic, health, jobs, logs, metrics, nodes, outputs, submit, work};
use crate::queue::Queue;

const MIB: usize = 1 << 20;
/// Most bytes of a body with a few fields.
pub(super) const SMALL: usize = MIB;
/// Most bytes of both outputs of a program, as JSON text, and as base64 beside it.
pub(super) const COMPLETION: usize = 96 * MIB;
/// Most bytes of a submission: files go to the store as they come; the form around them has some room.
pub(super) const SUBMISSION: usize = FILES + MIB;
const FILES: usize = 100 * MIB;
/// Most bytes of files of one job, and of one output.
pub(super) const FILE_BYTES: u64 = FILES as u64;

/// What every handler may use.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) queue: Queue,
    pub(crate) reader: QueueReader,
    pub(crate) shutdown: CancellationToken,
    /// Streams that are open.
    pub(super) streams: TaskTracker,
    /// Those that look at their jobs.
    pub(super) looks: Semaphore,
    pub(super) face: Face,
    pub(crate) meters: Meters,
    /// Where the queue lies in files of this machine.
    pub(super) disk: Option<Arc<DiskWatch>>,
    pub(crate) recent: Recent,
}

/// In what the services that share these calls differ towards their clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Face {
    /// What it calls itself.
    pub(super) service: &'static str,
    /// Whether nodes call it.
    pub(super) has_nodes: bool,
    /// What it says of a job that it has just accepted.
    pub(super) accepted: &'static str,
    /// Whether a form without a manifest is refused.
    pub(super) needs_manifest: bool,
    /// What it can be asked, as OpenAPI 3.1.
    pub(super) openapi: &'static str,
}

impl Face {
    pub(crate) const BROKER: Self = Self {
        service: "sandrun-broker",
        has_nodes: true,
        accepted: "pending",
        needs_manifest: false,
        openapi: include_str!("../../openapi/broker.json"),
    };
    pub(crate) const COORDINATOR: Self = Self {
        service: "sandrun-coordinator",
        has_nodes: false,
        accepted: "queued",
        needs_manifest: true,
        openapi: include_str!("../../openapi/coordinator.json"),
    };
}

pub(crate) type Shared = Arc<App>;

/// Every route of the broker.
pub(super) fn router(app: Shared) -> Router {
    let clients = pool_api()
        .route("/status/{id}", get(classic::status))
        .route("/results/{id}", get(classic::results))
        .route("/nodes", get(classic::nodes));
    dress(clients.merge(node_clients()), app)
}

/// Routes with what every answer has in common.
pub(crate) fn dress(routes: Router<Shared>, app: Shared) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(Any)
        .expose_headers(Any);
    routes
        .fallback(async || ApiError::not_found("there is no such call; GET / says what this service is"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this call takes another method")
        })
        .layer(axum::middleware::map_response(async |mut response: Response| {
            no_store(response.headers_mut());
            response
        }))
        .layer(cors)
        .layer(from_fn_with_state(Arc::clone(&app), measure))
        .with_state(app)
}

/// Calls of clients and operators that every service has.
pub(crate) fn pool_api() -> Router<Shared> {
    Router::new()
        .route("/", get(classic::root))
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(classic::openapi))
        .route(
            "/submit",
            post(submit::submit).layer(DefaultBodyLimit::max(SUBMISSION)),
        )
        .route("/v1/jobs", get(jobs::list))
        .route(
            "/v1/jobs/batch",
            post(submit::batch).layer(DefaultBodyLimit::max(32 * MIB)),
        )
        .route("/v1/jobs/{id}", get(jobs::view).delete(jobs::cancel))
        .route("/v1/jobs/{id}/logs", get(logs::logs))
        .route("/v1/jobs/{id}/logs/stream", get(logs::stream))
        .route("/v1/jobs/{id}/outputs", get(outputs::list))
        .route("/v1/jobs/{id}/outputs/{*path}", get(outputs::file))
        .route("/v1/jobs/{id}/receipt", get(outputs::receipt))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{id}/drain", post(nodes::drain))
        .route("/v1/nodes/{id}/resume", post(nodes::resume))
}

/// Calls of nodes.
fn node_clients() -> Router<Shared> {
    let small = DefaultBodyLimit::max(SMALL);
    Router::new()
        .route("/register", post(nodes::register).layer(small))
        .route("/heartbeat", post(nodes::heartbeat).layer(small))
        .route("/claim", post(nodes::claim).layer(small))
        .route(
            "/complete",
            post(work::complete).layer(DefaultBodyLimit::max(COMPLETION)),
        )
        .route(
            "/v1/work/complete",
            post(work::complete_all).layer(DefaultBodyLimit::max(COMPLETION)),
        )
        .route("/v1/work/{id}/{attempt}/files/{sha256}", get(work::file))
        .route(
            "/v1/work/{id}/{attempt}/logs",
            post(work::logs).layer(DefaultBodyLimit::max(8 * MIB)),
        )
        .route("/v1/work/{id}/{attempt}/fail", post(work::fail).layer(small))
        // its own limit counts what comes in
        .route(
            "/v1/work/{id}/{attempt}/outputs/{*path}",
            put(work::output).layer(DefaultBodyLimit::disable()),
        )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_document_names_every_route_and_no_other() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../openapi/broker.json")).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let named: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        // routes are the only texts here that begin so
        let mut texts = include_str!("http.rs").split('"').skip(1).step_by(2);
        let begin = |text: &&str| text.starts_with('/');
        let routes: BTreeSet<String> = std::iter::from_fn(|| texts.next())
            .filter(begin)
            .map(|it| it.replace("{*", "{"))
            .collect();
        assert_eq!(
            named,
            routes.iter().map(String::as_str).collect::<BTreeSet<&str>>()
        );
    }
}

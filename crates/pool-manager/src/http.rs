//! Queries over HTTP, JSON; the shapes of the answers are the client's ([`client_sdk`]). Owns routes and statuses; reads
//! the book alone.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use client_sdk::{ErrorView, HealthView, JobView, JobsQuery, JobsView, NodesView, StatusView};
use sandrun_chain::{Deployment, Head};
use sandrun_core::market::why;
use sandrun_metrics::Check;
use sandrun_types::JobId;
use serde::Serialize;
use tokio::sync::watch;

use crate::book::Shared;
use crate::error::ManagerError;
use crate::meters::Meters;

#[derive(Debug, Clone)]
struct App {
    book: Shared,
    head: watch::Receiver<Option<Head>>,
    deployment: Deployment,
    meters: Arc<Meters>,
}

/// An answer that is no success.
struct Refusal(StatusCode, String);

impl From<ManagerError> for Refusal {
    fn from(error: ManagerError) -> Self {
        // what is inside concerns the operator, not the client
        tracing::error!(%error, "a query failed");
        let text = "the index can't be read; the manager's log says why";
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorView { error: self.1 })).into_response()
    }
}

/// The routes.
pub(crate) fn router(
    book: Shared,
    head: watch::Receiver<Option<Head>>,
    deployment: Deployment,
    meters: Arc<Meters>,
) -> Router {
    let refuse = |status, text: &'static str| async move { Refusal(status, text.to_owned()) };
    Router::new()
        .route("/", get(root))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/jobs", get(jobs))
        .route("/v1/jobs/{id}", get(job))
        .route("/v1/nodes", get(nodes))
        .fallback(move || {
            refuse(
                StatusCode::NOT_FOUND,
                "there is nothing here; GET / lists what there is",
            )
        })
        .method_not_allowed_fallback(move || {
            refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "a manager only answers questions: use GET",
            )
        })
        .with_state(App {
            book,
            head,
            deployment,
            meters,
        })
}

async fn root() -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "service": "sandrun-pool manager",
        "endpoints": [
            "/health",
            "/metrics",
            "/v1/status",
            "/v1/jobs?open=true&client=0x…&prefix=0x…&limit=50",
            "/v1/jobs/{id}",
            "/v1/nodes",
        ],
    }))
}

/// What is said of the manager, and of the parts that it needs.
#[derive(Debug, Serialize)]
struct HealthAnswer {
    #[serde(flatten)]
    view: HealthView,
    checks: Vec<Check>,
}

async fn health(State(app): State<App>) -> Response {
    let head = *app.head.borrow();
    let readiness = app.meters.readiness().await;
    let status = match (head.is_some(), readiness.is_ready()) {
        (true, true) => "healthy",
        (true, false) => "not ready",
        (false, _) => "starting",
    };
    let code = StatusCode::from_u16(readiness.code()).unwrap_or(StatusCode::OK);
    let view = HealthView {
        status: status.to_owned(),
        head,
    };
    let checks = readiness.checks;
    (code, Json(HealthAnswer { view, checks })).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    // where the index can't be read there are no such numbers
    let counts = app.book.with(|book| book.counts()).await.ok();
    let text = app.meters.text(counts).await;
    ([(CONTENT_TYPE, sandrun_metrics::CONTENT_TYPE)], text).into_response()
}

async fn status(State(app): State<App>) -> Result<Json<StatusView>, Refusal> {
    let head = *app.head.borrow();
    let (jobs, nodes) = app.book.with(|book| book.counts()).await?;
    Ok(Json(StatusView {
        chain: app.deployment.chain,
        escrow: app.deployment.escrow,
        head,
        jobs,
        nodes,
    }))
}

async fn jobs(
    State(app): State<App>,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Result<Json<JobsView>, Refusal> {
    let Query(query) = query?;
    let is_hex = |text: &str| {
        text.bytes()
            .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
    };
    if let Some(prefix) = &query.prefix
        && !prefix.strip_prefix("0x").is_some_and(is_hex)
    {
        let text = format!("`{prefix}` begins no job id: write 0x and hex digits in lower case");
        return Err(Refusal(StatusCode::BAD_REQUEST, text));
    }
    Ok(Json(app.book.with(move |book| book.jobs(&query)).await?))
}

async fn job(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<JobView>, Refusal> {
    let Path(id) = id?;
    let id: JobId = id
        .parse()
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let job = app.book.with(move |book| book.job(id)).await?;
    let job = job.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("job {id} was never posted here")))?;
    let why = app.head.borrow().map(|head| why(&job.facts, head.timestamp));
    Ok(Json(JobView { job, why }))
}

async fn nodes(State(app): State<App>) -> Result<Json<NodesView>, Refusal> {
    Ok(Json(app.book.with(|book| Ok(book.nodes())).await?))
}

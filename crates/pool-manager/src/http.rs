//! Queries over HTTP, JSON. Owns the shapes of the answers; reads the index alone.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use client_sdk::JobEntry;
use sandrun_chain::{Deployment, Head};
use sandrun_core::market::{Why, why};
use sandrun_types::{Address, ChainId, JobId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::ManagerError;
use crate::manager::{Shared, parse};
use crate::nodes::NodeEntry;

/// Most jobs in one answer.
const MAX_LIMIT: u32 = 1_000;

/// `GET /health`.
#[derive(Debug, Serialize)]
pub struct HealthView {
    /// `healthy`, or `starting` before the first block was read.
    pub status: &'static str,
    /// The last block that is in the index.
    pub head: Option<Head>,
}

/// `GET /v1/status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// The chain.
    pub chain: ChainId,
    /// The escrow.
    pub escrow: Address,
    /// The last block that is in the index.
    pub head: Option<Head>,
    /// Jobs ever posted.
    pub jobs: u64,
    /// Those that are not over.
    pub open: u64,
    /// Registered nodes.
    pub nodes: u64,
}

/// `GET /v1/jobs?open=true&limit=50`, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobsView {
    /// The jobs.
    pub jobs: Vec<JobEntry>,
    /// How many there are in all.
    pub total: u64,
}

/// `GET /v1/jobs/{id}`.
#[derive(Debug, Serialize)]
struct JobView {
    job: JobEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
}

/// `GET /v1/nodes`.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodesView {
    /// The nodes, by index.
    pub nodes: Vec<NodeEntry>,
}

#[derive(Debug, Clone)]
struct App {
    index: Shared,
    head: watch::Receiver<Option<Head>>,
    deployment: Deployment,
}

/// An answer that is no success.
struct Refusal(StatusCode, String);

impl From<ManagerError> for Refusal {
    fn from(error: ManagerError) -> Self {
        // what is inside concerns the operator, not the client
        tracing::error!(%error, "a query failed");
        Self(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the index can't be read; the manager's log says why".to_owned(),
        )
    }
}

impl From<sandrun_store::IndexError> for Refusal {
    fn from(error: sandrun_store::IndexError) -> Self {
        ManagerError::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

/// The routes.
pub(crate) fn router(index: Shared, head: watch::Receiver<Option<Head>>, deployment: Deployment) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/health", get(health))
        .route("/v1/status", get(status))
        .route("/v1/jobs", get(jobs))
        .route("/v1/jobs/{id}", get(job))
        .route("/v1/nodes", get(nodes))
        .fallback(|| async {
            Refusal(
                StatusCode::NOT_FOUND,
                "there is nothing here; GET / lists what there is".into(),
            )
        })
        .with_state(App {
            index,
            head,
            deployment,
        })
}

async fn root() -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "service": "sandrun-pool manager",
        "endpoints": ["/health", "/v1/status", "/v1/jobs?open=true&limit=50", "/v1/jobs/{id}", "/v1/nodes"],
    }))
}

async fn health(State(app): State<App>) -> Response {
    let head = *app.head.borrow();
    let (code, status) = if head.is_some() {
        (StatusCode::OK, "healthy")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    };
    (code, Json(HealthView { status, head })).into_response()
}

async fn status(State(app): State<App>) -> Result<Json<StatusView>, Refusal> {
    let head = *app.head.borrow();
    let index = app.index.index();
    let ((jobs, open), nodes) = (index.counts()?, index.nodes()?.len());
    let (chain, escrow) = (app.deployment.chain, app.deployment.escrow);
    Ok(Json(StatusView {
        chain,
        escrow,
        head,
        jobs,
        open,
        nodes: nodes as u64,
    }))
}

#[derive(Debug, Deserialize)]
struct JobsQuery {
    #[serde(default)]
    open: bool,
    #[serde(default = "default_limit")]
    limit: u32,
}

const fn default_limit() -> u32 {
    50
}

async fn jobs(State(app): State<App>, Query(query): Query<JobsQuery>) -> Result<Json<JobsView>, Refusal> {
    let index = app.index.index();
    let texts = index.jobs(query.open, query.limit.min(MAX_LIMIT))?;
    let (total, _) = index.counts()?;
    drop(index);
    let jobs = texts
        .iter()
        .map(|text| parse("a job", text))
        .collect::<Result<_, _>>()?;
    Ok(Json(JobsView { jobs, total }))
}

async fn job(State(app): State<App>, Path(id): Path<String>) -> Result<Json<JobView>, Refusal> {
    let id: JobId = id
        .parse()
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let text = app.index.index().job(id)?;
    let text =
        text.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("job {id} was never posted here")))?;
    let job: JobEntry = parse("a job", &text)?;
    let why = app.head.borrow().map(|head| why(&job.facts, head.timestamp));
    Ok(Json(JobView { job, why }))
}

async fn nodes(State(app): State<App>) -> Result<Json<NodesView>, Refusal> {
    let texts = app.index.index().nodes()?;
    let nodes = texts
        .iter()
        .map(|text| parse("a node", text))
        .collect::<Result<_, _>>()?;
    Ok(Json(NodesView { nodes }))
}

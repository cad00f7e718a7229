//! Nodes: how they come, say that they live, and ask for work; and what operators say about them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use sandrun_core::pool::{ClaimNumber, JobNumber, NodeStatus};
use sandrun_executor::without_credentials;
use sandrun_types::Attempt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::{At, JsonBody, answer, make_whole, or_default};
use super::error::ApiError;
use super::found::{parents, request};
use super::http::{App, Shared};
use super::offer::offer;
use super::request::{WorkRequest, WorkView};
use super::time::text;
use crate::queue::{Announced, Claim, NodeView, Orders, Registration, Work};

/// Longest wait of a claim.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Most jobs of one claim.
const MAX_CLAIM: u32 = 256;
/// Bytes that an answer to a claim has around each request, about.
const AROUND: usize = 128;
/// Longest endpoint.
const MAX_ENDPOINT: usize = 2_000;

/// Body of `POST /register`.
#[derive(Debug, Deserialize)]
pub(super) struct RegisterFields {
    endpoint: String,
    #[serde(default)]
    capabilities: Option<Value>,
    #[serde(default)]
    protocol: Option<u32>,
    #[serde(default)]
    slots: Option<u32>,
    #[serde(default)]
    offer: Option<Value>,
}

/// `POST /register`.
pub(super) async fn register(
    State(app): State<Shared>,
    JsonBody(fields): JsonBody<RegisterFields>,
) -> Result<Json<Value>, ApiError> {
    if fields.endpoint.is_empty() || fields.endpoint.len() > MAX_ENDPOINT {
        let text = format!("`endpoint` has to be the executor's URL, of at most {MAX_ENDPOINT} bytes");
        return Err(ApiError::bad_request(text));
    }
    let mut fields = fields;
    fields.offer.as_mut().into_iter().for_each(make_whole);
    let offer = offer(fields.offer.as_ref(), fields.capabilities.as_ref())?;
    let announced = Announced {
        protocol: fields.protocol.unwrap_or(1),
        slots: fields.slots,
        capabilities: fields.capabilities.unwrap_or_else(|| json!({})),
    };
    let node = Registration {
        // whoever asks for the nodes sees it
        endpoint: without_credentials(&fields.endpoint),
        offer,
        announced,
    };
    Ok(Json(json!({"node_id": app.queue.register(node).await?})))
}

/// An attempt that a node works on.
#[derive(Debug, Deserialize)]
struct HeldFields {
    id: String,
    #[serde(default)]
    attempt: Option<Attempt>,
}

/// Body of `POST /heartbeat`.
#[derive(Debug, Deserialize)]
pub(super) struct HeartbeatFields {
    node_id: String,
    #[serde(default, deserialize_with = "or_default")]
    jobs: Vec<HeldFields>,
    #[serde(default)]
    claims_answered_up_to: Option<ClaimNumber>,
}

/// `POST /heartbeat`.
pub(super) async fn heartbeat(
    State(app): State<Shared>,
    JsonBody(fields): JsonBody<HeartbeatFields>,
) -> Result<Json<Value>, ApiError> {
    let ids = app.queue.ids();
    let settled = fields.claims_answered_up_to;
    if settled.is_some() && fields.jobs.iter().any(|it| it.attempt.is_none()) {
        let text = "with `claims_answered_up_to` each of `jobs` has to say its `attempt`";
        return Err(ApiError::bad_request(text));
    }
    let held = |it: &HeldFields| Some((ids.job(&it.id)?, it.attempt?));
    let jobs: Vec<(JobNumber, Attempt)> = fields.jobs.iter().filter_map(held).collect();
    let Orders {
        speaks,
        cancel,
        drain,
    } = app.queue.heartbeat_after(fields.node_id, jobs, settled).await?;
    if !speaks {
        return Ok(Json(json!({"status": "ok"})));
    }
    let view = |(job, attempt): &(JobNumber, Attempt)| json!({"id": ids.job_id(*job), "attempt": attempt});
    let cancel: Vec<Value> = cancel.iter().map(view).collect();
    Ok(Json(json!({"status": "ok", "cancel": cancel, "drain": drain})))
}

/// Body of `POST /claim`.
#[derive(Debug, Deserialize)]
pub(super) struct ClaimFields {
    node_id: String,
    #[serde(default)]
    max: Option<u32>,
    /// The node's own number of it.
    #[serde(default)]
    claim: Option<ClaimNumber>,
}

/// Query of `POST /claim`.
#[derive(Debug, Deserialize)]
pub(super) struct ClaimQuery {
    /// Seconds.
    #[serde(default)]
    wait: Option<f64>,
}

/// What a claim was given: a list where it said how many jobs it takes.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Claimed<'a> {
    Many { jobs: Vec<WorkView<'a>> },
    One { job: Option<WorkView<'a>> },
}

/// `POST /claim`.
pub(super) async fn claim(
    State(app): State<Shared>,
    query: Result<Query<ClaimQuery>, QueryRejection>,
    JsonBody(fields): JsonBody<ClaimFields>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let wait = Duration::try_from_secs_f64(query.wait.unwrap_or(0.0))
        .map_err(|_| ApiError::bad_request("`wait` has to be a number of seconds"))?
        .min(MAX_WAIT);
    let claim = Claim {
        node: fields.node_id,
        max: fields.max.unwrap_or(1).clamp(1, MAX_CLAIM),
        wait: u64::try_from(wait.as_millis()).unwrap_or(0),
        number: fields.claim,
    };
    let work = if claim.wait == 0 {
        app.queue.claim(claim).await?
    } else {
        tokio::select! {
            work = app.queue.claim(claim) => work?,
            // who waits gets to hear that there is nothing, and asks whoever comes next
            () = app.shutdown.cancelled() => Vec::new(),
        }
    };
    let work = with_requests(&app, work).await?;
    let mut jobs = Vec::with_capacity(work.len());
    for (work, request) in &work {
        jobs.extend(view(&app, work, request).await?);
    }
    let claimed = match fields.max {
        Some(_) => Claimed::Many { jobs },
        None => Claimed::One { job: jobs.pop() },
    };
    let sizes = work.iter().map(|(_, request)| request.len() + AROUND);
    answer(&claimed, AROUND + sizes.sum::<usize>())
}

/// What a claim was given, with requests: those that the queue did not have at hand are read. A job that was removed
/// meanwhile is left out.
async fn with_requests(app: &App, work: Vec<Work>) -> Result<Vec<(Work, Arc<[u8]>)>, ApiError> {
    let missing = work.iter().filter(|it| it.request.is_none());
    let missing: Vec<JobNumber> = missing.map(|it| it.job).collect();
    let mut read = match missing.as_slice() {
        [] => Vec::new(),
        missing => app.reader.requests(missing).await?,
    }
    .into_iter()
    .peekable();
    let whole = work.into_iter().filter_map(|work| {
        let request = match &work.request {
            Some(request) => Arc::clone(request),
            None => read.next_if(|(job, _)| *job == work.job)?.1.into(),
        };
        Some((work, request))
    });
    Ok(whole.collect())
}

/// A job as its node gets it.
async fn view<'a>(app: &App, work: &Work, stored: &'a [u8]) -> Result<Option<WorkView<'a>>, ApiError> {
    let Some(request) = request::<WorkRequest<'_>>(stored) else {
        return Ok(None);
    };
    let waited = request.waited(work.attempt, app.queue.clock().now());
    waited.into_iter().for_each(|it| app.meters.waited(it));
    let parents = parents(app, &request.after).await?;
    let id = app.queue.ids().job_id(work.job);
    let view = request.work(id, work.attempt, parents);
    if view.is_none() {
        tracing::error!("a stored request has neither a program's text nor a list of files");
    }
    Ok(view)
}

/// `GET /v1/nodes`: all, dead ones too.
pub(super) async fn list(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let view = |it: NodeView| {
        let status = match it.status {
            NodeStatus::Up => "up",
            NodeStatus::Draining => "draining",
            NodeStatus::Lost => "lost",
        };
        json!({
            "id": it.id,
            "endpoint": it.endpoint,
            "status": status,
            "draining": it.drained,
            "capabilities": it.announced.capabilities,
            "protocol": it.announced.protocol,
            "slots": it.announced.slots,
            "active_jobs": it.active,
            "jobs_completed": it.completed,
            "jobs_failed": it.failed,
            "last_heartbeat": text(it.heard),
        })
    };
    let nodes: Vec<Value> = app.queue.nodes().await?.into_iter().map(view).collect();
    Ok(Json(json!({"nodes": nodes})))
}

/// `POST /v1/nodes/{id}/drain`.
pub(super) async fn drain(State(app): State<Shared>, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    app.queue.set_draining(id, true).await?;
    Ok(Json(json!({"status": "draining"})))
}

/// `POST /v1/nodes/{id}/resume`.
pub(super) async fn resume(State(app): State<Shared>, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    app.queue.set_draining(id, false).await?;
    Ok(Json(json!({"status": "up"})))
}

//! Jobs as clients and operators look at them: one, many, taking one back.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use sandrun_store::queue::{Answer, JobFilter, JobRow};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::{At, whole};
use super::error::ApiError;
use super::found::{find_ended, number, parse_word, request, word};
use super::http::{App, Shared};
use super::request::StoredRequest;
use super::time::text;
use super::waits;

/// Most jobs of one page.
const MAX_LIMIT: u32 = 1_000;
/// Jobs of a page where the query does not say.
const LIMIT: u32 = 50;

/// Query of `GET /v1/jobs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    status: Option<String>,
    client: Option<String>,
    limit: Option<f64>,
    after: Option<String>,
}

/// `GET /v1/jobs`: newest first.
pub(super) async fn list(
    State(app): State<Shared>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let unknown = "`status` is one of pending, assigned, running, completed, failed";
    let word = query
        .status
        .map(|it| parse_word(&it).ok_or_else(|| ApiError::bad_request(unknown)));
    let below = query.after.map(|it| {
        let job = app.queue.ids().job(&it);
        job.ok_or_else(|| ApiError::bad_request("`after` has to be the `next` of the page before"))
    });
    let limit = match query.limit {
        None => LIMIT,
        Some(limit) => whole(limit)
            .and_then(|it| u32::try_from(it).ok())
            .ok_or_else(|| ApiError::bad_request("`limit` has to be a whole number, not below 0"))?
            .clamp(1, MAX_LIMIT),
    };
    let filter = JobFilter {
        word: word.transpose()?,
        client: query.client,
        below: below.transpose()?,
        limit,
    };
    let rows = app.reader.list(&filter).await?;
    let is_full = rows.len() as u64 >= u64::from(limit);
    let next = rows.last().filter(|_| is_full);
    let next = next.map(|row| app.queue.ids().job_id(row.new.number));
    let jobs: Vec<Value> = rows.iter().map(|row| Value::Object(fields(&app, row))).collect();
    Ok(Json(json!({"jobs": jobs, "next": next})))
}

/// `GET /v1/jobs/{id}`.
pub(super) async fn view(State(app): State<Shared>, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    let (row, answer) = find_ended(&app, &id).await?;
    let mut view = fields(&app, &row);
    if row.state.open
        && row.state.reason.is_none()
        && let Some(open) = waits::waiting(&row.state.snapshot)
        // a queue that can't be written at the moment is no reason not to show what was read
        && let Ok(nodes) = app.queue.nodes().await
    {
        view.insert(
            "reason".to_owned(),
            json!(waits::reason(&open, &nodes, app.face.has_nodes)),
        );
    }
    let outputs = answer
        .as_ref()
        .map(|it| it.outputs.as_slice())
        .unwrap_or_default();
    view.insert("outputs".to_owned(), json!(outputs));
    let details = answer.as_ref().map(details).unwrap_or_default();
    for name in ["output_root", "explanation"] {
        view.insert(name.to_owned(), details.get(name).cloned().unwrap_or_default());
    }
    if view["output_root"].is_null() {
        // no receipt says it
        view["output_root"] = json!(
            answer
                .and_then(|it| it.output_root)
                .map(|root| hex::encode(root.0))
        );
    }
    Ok(Json(Value::Object(view)))
}

/// What is kept of an answer beside its columns.
pub(crate) fn details(answer: &Answer) -> Map<String, Value> {
    serde_json::from_slice(&answer.details).unwrap_or_default()
}

/// What a list shows of a job.
fn fields(app: &App, row: &JobRow) -> Map<String, Value> {
    let ids = app.queue.ids();
    let (new, state) = (&row.new, &row.state);
    let request = request::<StoredRequest>(&new.request);
    let parents: Vec<String> = new.parents.iter().map(|it| ids.job_id(*it)).collect();
    let view = json!({
        "job_id": ids.job_id(new.number),
        "status": word(state.word),
        "reason": state.reason,
        "client": row.client_name,
        "priority": new.priority,
        "attempt": state.attempt,
        "node": state.node.map(|it| ids.node_id(it)),
        "created_at": text(new.created),
        "started_at": state.started.map(text),
        "completed_at": state.ended.map(text),
        "exit_code": row.exit_code,
        "parents": parents,
        "replicas": request.as_ref().map(|it| it.replicas),
        "quorum": request.as_ref().map(|it| it.quorum),
        "retries": request.as_ref().map(|it| it.retries.unwrap_or(app.queue.settings().max_retries)),
    });
    match view {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// `DELETE /v1/jobs/{id}`.
pub(super) async fn cancel(State(app): State<Shared>, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    app.queue.cancel(number(&app, &id)?).await?;
    Ok(Json(
        json!({"job_id": id, "status": "failed", "reason": "cancelled by its client"}),
    ))
}

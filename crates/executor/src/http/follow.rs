//! `GET /follow/{id}`: what was printed since, as soon as there is something, and in the end the receipt; for nodes that
//! pass output on while a job runs. And `DELETE /jobs/{id}`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::status::find;
use super::submit::blocking;
use super::{ApiError, Shared};
use crate::job::Stage;
use crate::log::{LogReader, Piece, Stream};
use crate::service::CancelRefused;
use crate::wire::{Cancelled, Followed};

/// Longest wait for something new.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest wait for a cancelled job's processes to be dead.
const DYING: Duration = Duration::from_secs(5);
/// Bytes of log in one answer, about.
const MOST: u64 = 1024 * 1024;

/// From where on, and how long to wait.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Since {
    from: u64,
    wait: u64,
}

pub(super) async fn follow(
    State(app): State<Shared>,
    Path(id): Path<String>,
    since: Result<Query<Since>, QueryRejection>,
) -> Result<Json<Followed>, ApiError> {
    let since = since?;
    let deadline = Instant::now() + Duration::from_secs(since.wait).min(LONGEST);
    let found = find(&app, &id).await?.data()?;
    let (mut log, mut stage) = (found.job.log.clone(), found.job.stage.subscribe());
    drop(found);
    let changed = async {
        let is_over = matches!(*stage.borrow_and_update(), Stage::Ended(_));
        if !is_over {
            tokio::select! {
                () = log.grown_beyond(since.from) => {}
                _ = stage.wait_for(|stage| matches!(stage, Stage::Ended(_))) => {}
                () = app.shutdown.cancelled() => {}
            }
        }
    };
    // nothing new in time is an answer too
    drop(timeout_at(deadline, changed).await);
    // asked before the log is read: what is printed until the end is all in the log by then
    let found = find(&app, &id).await?.data()?;
    let (pieces, next) = read(log.clone(), since.from).await?;
    let text = |stream: Stream| {
        let bytes: Vec<u8> = pieces
            .iter()
            .filter(|piece| piece.stream == stream)
            .flat_map(|piece| piece.bytes.iter().copied())
            .collect();
        STANDARD.encode(bytes)
    };
    let ended = found.phase.report().filter(|_| next == log.length());
    Ok(Json(Followed {
        status: found.state(),
        next,
        stdout: text(Stream::Stdout),
        stderr: text(Stream::Stderr),
        receipt: ended.map(|ended| STANDARD.encode(&ended.receipt_bytes)),
        signature: ended.and_then(|ended| ended.signature.map(|signature| STANDARD.encode(signature))),
    }))
}

async fn read(log: LogReader, from: u64) -> Result<(Vec<Piece>, u64), ApiError> {
    let failed = |error| ApiError::internal("a job's log could not be read", &error);
    if from > log.length() {
        return Err(ApiError::bad_request("`from` lies behind the end of the output"));
    }
    if from == log.length() {
        return Ok((Vec::new(), from));
    }
    blocking(move || log.pieces(from, MOST)).await?.map_err(failed)
}

pub(super) async fn cancel(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Cancelled>, ApiError> {
    let mut stage = find(&app, &id).await?.job.stage.subscribe();
    match app.service.cancel(id.parse()?).await? {
        Ok(status) => {
            let dead = stage.wait_for(|stage| matches!(stage, Stage::Ended(_)));
            // a job that does not die in time is dying all the same
            drop(tokio::time::timeout(DYING, dead).await);
            Ok(Json(Cancelled { job_id: id, status }))
        }
        Err(CancelRefused::Unknown) => Err(ApiError::unknown_job()),
        Err(CancelRefused::Deleted) => Err(ApiError::not_found("the job's data was deleted already")),
    }
}

//! `GET /follow/{id}`: what was printed since, as soon as there is something, and in the end the receipt; for nodes that
//! pass output on while a job runs. And `DELETE /jobs/{id}`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::path::Path;
use super::status::find;
use super::submit::blocking;
use super::{ApiError, App, Shared};
use crate::id::RunId;
use crate::job::{Job, Stage};
use crate::log::{LogReader, Piece, Stream};
use crate::service::{CancelRefused, Snapshot};
use crate::wire::{Cancelled, Followed};

/// Longest wait for something new.
const LONGEST: Duration = Duration::from_secs(30);
/// How much longer who waits for a run from its beginning waits for its end, once it has printed something.
const LONGER: Duration = Duration::from_millis(100);
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
    let wait = Duration::from_secs(since.wait).min(LONGEST);
    let found = find(&app, &id).await?.data()?;
    let (log, stage) = (found.job.log.clone(), found.job.stage.subscribe());
    drop(found);
    changed(&app, log, stage, since.from, (wait, Duration::ZERO)).await;
    let found = find(&app, &id).await?.data()?;
    Ok(Json(tell(found, since.from).await?))
}

/// Waits until a run has printed more or is over, so long at most; and where it has printed more, for its end a little
/// longer. Nothing new in time is an answer too.
async fn changed(
    app: &App,
    mut log: LogReader,
    mut stage: watch::Receiver<Stage>,
    from: u64,
    (wait, longer): (Duration, Duration),
) {
    let is_over = |stage: &Stage| matches!(stage, Stage::Ended(_));
    let changed = async {
        let has_printed = tokio::select! {
            biased;
            _ = stage.wait_for(is_over) => false,
            () = log.grown_beyond(from) => true,
            () = app.shutdown.cancelled() => false,
        };
        if has_printed && !longer.is_zero() {
            drop(timeout_at(Instant::now() + longer, stage.wait_for(is_over)).await);
        }
    };
    drop(timeout_at(Instant::now() + wait, changed).await);
}

/// What became of a job that was just submitted, for whoever waits for it.
pub(super) async fn begin(app: &App, job: &Job, wait: Duration) -> Result<Followed, ApiError> {
    let (log, stage) = (job.log.clone(), job.stage.subscribe());
    changed(app, log, stage, 0, (wait.min(LONGEST), LONGER)).await;
    let found = app
        .service
        .look(job.id)
        .await?
        .ok_or_else(ApiError::unknown_job)?;
    tell(found.data()?, 0).await
}

/// Whether an ended run has left no files.
pub(super) async fn has_no_files(app: &App, id: RunId) -> Result<bool, ApiError> {
    let found = app.service.look(id).await?;
    let ended = found.as_ref().and_then(|found| found.phase.report());
    Ok(ended.is_some_and(|ended| ended.receipt.output_files.is_empty()))
}

/// `found` was asked for before the log is read: what is printed until the end is all in the log by then.
async fn tell(found: Snapshot, from: u64) -> Result<Followed, ApiError> {
    let log = found.job.log.clone();
    let (pieces, next) = read(log.clone(), from).await?;
    let text = |stream: Stream| {
        let bytes: Vec<u8> = pieces
            .iter()
            .filter(|piece| piece.stream == stream)
            .flat_map(|piece| piece.bytes.iter().copied())
            .collect();
        STANDARD.encode(bytes)
    };
    let ended = found.phase.report().filter(|_| next == log.length());
    Ok(Followed {
        status: found.state(),
        next,
        stdout: text(Stream::Stdout),
        stderr: text(Stream::Stderr),
        receipt: ended.map(|ended| STANDARD.encode(&ended.receipt_bytes)),
        signature: ended.and_then(|ended| ended.signature.map(|signature| STANDARD.encode(signature))),
    })
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

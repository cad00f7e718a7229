//! `GET /metrics`: the service's numbers in Prometheus' text format (version 0.0.4), named by its conventions: base
//! units, `_total` for counters. A label has a fixed set of values; clients, jobs and nodes are never among them.
//!
//! Counters and histograms are this process's, since it started. Jobs and nodes by how they stand are the queue's: all
//! replicas of it say the same.

mod meters;
mod requests;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::health::readiness;
use super::http::{App, Shared};
use crate::queue::QueueStats;
pub(super) use meters::{During, Meters};
pub(super) use requests::{DatabaseFailed, measure, note};
use sandrun_metrics::{Exposition, Kind, Sample};

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let mut out = Exposition::default();
    out.build(app.face.service, env!("CARGO_PKG_VERSION"));
    readiness(&app).await.expose(&mut out);
    let stats = app.queue.stats();
    standing(&mut out, &stats);
    age(&mut out, &app).await;
    let streams = [Sample::of(app.streams.len() as u64)];
    let help = "Streams of jobs' output that are open: server-sent events and WebSockets.";
    out.family("sandrun_open_streams", Kind::Gauge, help, &streams);
    done(&mut out, &stats);
    times(&mut out, &stats);
    app.meters.expose(&mut out);
    let disk = app.disk.clone();
    let text = tokio::task::spawn_blocking(move || {
        if let Some(disk) = disk {
            disk.expose(&mut out);
        }
        sandrun_metrics::expose_process(&mut out);
        out.finish()
    });
    let text = text.await.unwrap_or_default();
    ([(CONTENT_TYPE, sandrun_metrics::CONTENT_TYPE)], text).into_response()
}

/// How the queue stands.
fn standing(out: &mut Exposition, stats: &QueueStats) {
    let counts = &stats.counts;
    let by_status = |values: [(&'static str, usize); 3]| {
        values.map(|(status, count)| Sample::labelled(&[("status", status)], count as u64))
    };
    let jobs = by_status([
        ("blocked", counts.blocked),
        ("queued", counts.queued),
        ("running", counts.running),
    ]);
    let help = "Jobs that have not ended, by how they stand.";
    out.family("sandrun_jobs", Kind::Gauge, help, &jobs);
    let nodes = by_status([
        ("up", counts.up),
        ("draining", counts.draining),
        ("lost", counts.lost),
    ]);
    out.family("sandrun_nodes", Kind::Gauge, "Nodes by how they stand.", &nodes);
    let help = "Claims that wait for work at this service.";
    out.family(
        "sandrun_waiting_claims",
        Kind::Gauge,
        help,
        &[Sample::of(stats.waiters)],
    );
}

/// How long the oldest job waits that nobody works on. It stands in the store; where that does not answer there is none.
async fn age(out: &mut Exposition, app: &App) {
    let seconds = match app.reader.oldest_pending().await {
        Ok(Some(created)) => seconds(app.queue.clock().now().saturating_sub(created)),
        Ok(None) => 0.0,
        Err(error) => {
            tracing::debug!(%error, "the age of the oldest job can't be read");
            app.meters.database_failed(During::Scrape);
            return;
        }
    };
    let help = "How long the oldest job waits that nobody works on; 0 where none does.";
    let name = "sandrun_oldest_pending_job_age_seconds";
    out.family(name, Kind::Gauge, help, &[Sample::of(seconds)]);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of our days are exact in a double"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

/// What the queue has done.
fn done(out: &mut Exposition, stats: &QueueStats) {
    let ended = [
        ("completed", stats.completed),
        ("failed", stats.failed.saturating_sub(stats.cancelled)),
        ("cancelled", stats.cancelled),
    ];
    let ended = ended.map(|(status, count)| Sample::labelled(&[("status", status)], count));
    out.family(
        "sandrun_jobs_ended_total",
        Kind::Counter,
        "Jobs that ended.",
        &ended,
    );
    let by_reason = stats.retries.by_reason();
    let retries: Vec<Sample> = by_reason
        .map(|(reason, count)| Sample::labelled(&[("reason", reason)], count))
        .collect();
    let help = "Attempts that came to nothing and were made again.";
    out.family("sandrun_retries_total", Kind::Counter, help, &retries);
    for (name, help, value) in [
        (
            "sandrun_jobs_submitted_total",
            "Jobs that were accepted.",
            stats.submitted,
        ),
        (
            "sandrun_leases_total",
            "Attempts that were given to nodes.",
            stats.leased,
        ),
        (
            "sandrun_empty_claims_total",
            "Claims that found no work in the time that they wait.",
            stats.empty_claims,
        ),
        (
            "sandrun_nodes_lost_total",
            "Nodes that were not heard of for too long.",
            stats.nodes_lost,
        ),
        (
            "sandrun_commands_total",
            "What the queue was asked, in all batches that were written.",
            stats.commands,
        ),
        (
            "sandrun_failed_commits_total",
            "Batches that could not be written.",
            stats.failed_commits,
        ),
    ] {
        out.family(name, Kind::Counter, help, &[Sample::of(value)]);
    }
}

/// How long that took.
fn times(out: &mut Exposition, stats: &QueueStats) {
    let help = "How long a batch took, from its first command to the disk.";
    out.histogram("sandrun_commit_seconds", help, &[(&[], stats.commits)]);
    let help = "How long jobs took that have a result, from their last lease to its answer.";
    out.histogram("sandrun_job_run_seconds", help, &[(&[], stats.runs)]);
}

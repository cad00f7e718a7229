//! `GET /metrics`, and what makes the service ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use sandrun_metrics::{Check, Exposition, Kind, Readiness, Sample};

use super::{App, Shared};
use crate::service::Load;

/// Bytes that have to be free for a job's inputs and outputs.
pub(crate) const LEAST_FREE: u64 = 64 << 20;

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let readiness = readiness(&app).await;
    let mut out = Exposition::default();
    out.build("sandrun", env!("CARGO_PKG_VERSION"));
    readiness.expose(&mut out);
    if let Ok(load) = app.service.load().await {
        jobs(&mut out, &app, &load);
    }
    app.meters.expose(&mut out);
    environments(&mut out, &app);
    let help = "Streams of jobs' output that are open.";
    out.gauge("sandrun_open_streams", help, app.streams.len());
    let disk = Arc::clone(&app.disk);
    let out = tokio::task::spawn_blocking(move || {
        disk.expose(&mut out);
        sandrun_metrics::expose_process(&mut out);
        out.finish()
    });
    let text = out.await.unwrap_or_default();
    ([(CONTENT_TYPE, sandrun_metrics::CONTENT_TYPE)], text).into_response()
}

fn jobs(out: &mut Exposition, app: &App, load: &Load) {
    let jobs = [
        ("queued", load.queued),
        ("running", load.running),
        ("ended", load.ended),
    ];
    let jobs = jobs.map(|(status, count)| Sample::labelled(&[("status", status)], count));
    let help = "Jobs that are remembered, by how they stand.";
    out.family("sandrun_jobs", Kind::Gauge, help, &jobs);
    out.gauge("sandrun_slots", "Jobs that may run at once.", app.parallel);
    let help = "Jobs that may wait; one more is refused.";
    out.gauge("sandrun_queue_limit", help, app.max_queued);
    let help = "Bytes that the data of ended jobs takes.";
    out.gauge("sandrun_kept_bytes", help, load.kept_bytes);
}

fn environments(out: &mut Exposition, app: &App) {
    // two names may stand for one image
    let held: BTreeMap<_, _> = app
        .environments
        .available()
        .iter()
        .filter_map(|it| Some((it.content, it.bytes?)))
        .collect();
    let help = "Environments that are at hand.";
    out.gauge("sandrun_environments", help, held.len());
    let help = "Bytes that environments take on disk.";
    out.gauge("sandrun_environments_bytes", help, held.values().sum::<u64>());
    let help = "Jobs that used an environment.";
    out.counter("sandrun_environment_uses_total", help, app.environments.uses());
}

/// Whether jobs can be taken and run now.
pub(super) async fn readiness(app: &App) -> Readiness {
    let disk = Arc::clone(&app.disk);
    let disk = tokio::task::spawn_blocking(move || disk.check()).await;
    let disk = disk.unwrap_or_else(|_| Check::bad("disk", "the service is ending", "start it again"));
    let isolation = if app.isolation.is_empty() {
        Check::bad(
            "isolation",
            "no layer is proven",
            "start the service again and read its log",
        )
    } else {
        Check::good("isolation", app.isolation.join(" "))
    };
    let queue = match app.service.load().await {
        // a full queue is work, and no fault
        Ok(load) => Check::good(
            "queue",
            format!("{} jobs wait, {} run", load.queued, load.running),
        ),
        Err(_) => Check::bad("queue", "the service is ending", "start it again"),
    };
    Readiness::of(vec![isolation, disk, queue])
}

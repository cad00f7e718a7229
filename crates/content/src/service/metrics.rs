//! `GET /metrics`, `GET /health`, and the measuring of every call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sandrun_metrics::{Calls, Check, DiskWatch, Exposition, Readiness};

use super::App;
use crate::embedded::{EmbeddedStore, StoreStat};

/// Bytes that have to be free for the store to take anything.
const LEAST_FREE: u64 = 64 << 20;
/// How long a count of the blocks holds: it reads all folders.
const FRESH: Duration = Duration::from_secs(30);
/// The route of calls that there are none of.
const NO_ROUTE: &str = "none";

/// What the service knows of itself.
#[derive(Debug)]
pub(super) struct Vitals {
    calls: Calls,
    disk: Arc<DiskWatch>,
    counted: Mutex<Option<(Instant, StoreStat)>>,
}

impl Vitals {
    pub(super) fn new(store: &EmbeddedStore) -> Self {
        Self {
            calls: Calls::default(),
            disk: Arc::new(DiskWatch::new(store.dir().to_owned(), LEAST_FREE)),
            counted: Mutex::new(None),
        }
    }

    /// What is in the store, as it was within the last half minute; `None` where it can't be read.
    async fn stat(&self, store: &EmbeddedStore) -> Option<StoreStat> {
        let known = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stat)) = known.filter(|(at, _)| at.elapsed() < FRESH) {
            return Some(stat);
        }
        let stat = store.stat().await.ok()?;
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), stat));
        Some(stat)
    }
}

/// The layer around all routes.
pub(super) async fn measure(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = sandrun_metrics::method_name(request.method().as_str());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let kinds = (method, response.status().as_u16());
    app.vitals.calls.note(route, kinds, began.elapsed());
    response
}

async fn readiness(app: &App) -> Readiness {
    let disk = Arc::clone(&app.vitals.disk);
    let disk = tokio::task::spawn_blocking(move || disk.check()).await;
    let disk = disk.unwrap_or_else(|_| Check::bad("disk", "the service is ending", "start it again"));
    let name = "store";
    let store = match app.vitals.stat(&app.store).await {
        Some(stat) => match stat.max_bytes.filter(|cap| stat.bytes >= *cap) {
            Some(cap) => Check::bad(
                name,
                format!("{} bytes of {cap} are taken", stat.bytes),
                "unpin what is not needed any more, or allow the store more",
            ),
            None => Check::good(name, format!("{} blocks, {} pins", stat.blocks, stat.pins)),
        },
        None => Check::bad(
            name,
            "the blocks can't be counted",
            "look at the owner and the mode of the data directory, and at the disk",
        ),
    };
    Readiness::of(vec![store, disk])
}

/// `GET /health`.
pub(super) async fn health(State(app): State<App>) -> Response {
    let readiness = readiness(&app).await;
    let code = StatusCode::from_u16(readiness.code()).unwrap_or(StatusCode::OK);
    (code, Json(readiness)).into_response()
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let mut out = Exposition::default();
    out.build("content", env!("CARGO_PKG_VERSION"));
    readiness(&app).await.expose(&mut out);
    if let Some(stat) = app.vitals.stat(&app.store).await {
        let help = "Blocks in the store, at most 30 s ago.";
        out.gauge("sandrun_content_blocks", help, stat.blocks);
        let help = "Bytes of the blocks in the store, at most 30 s ago.";
        out.gauge("sandrun_content_bytes", help, stat.bytes);
        out.gauge(
            "sandrun_content_pins",
            "Roots that are pinned, at most 30 s ago.",
            stat.pins,
        );
        if let Some(cap) = stat.max_bytes {
            out.gauge("sandrun_content_limit_bytes", "Bytes that blocks may take.", cap);
        }
    }
    app.vitals.calls.expose(&mut out);
    let disk = Arc::clone(&app.vitals.disk);
    let text = tokio::task::spawn_blocking(move || {
        disk.expose(&mut out);
        sandrun_metrics::expose_process(&mut out);
        out.finish()
    });
    let text = text.await.unwrap_or_default();
    ([(CONTENT_TYPE, sandrun_metrics::CONTENT_TYPE)], text).into_response()
}

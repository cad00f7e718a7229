//! `GET /metrics` and `GET /health` of a service that serves nothing else: off unless an address is given.
//!
//! Owns the port and the two routes. What is said is [`Vitals`]' matter; it never waits for a network.

mod agent;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use sandrun_metrics::{Exposition, Readiness};
use sandrun_serve::Bounds;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use agent::{AgentVitals, Money, Standing, Started};

/// How long answers under way may take to end.
const DRAIN: Duration = Duration::from_secs(1);

/// What a service knows of itself. Both may touch the disk and are called where that blocks nobody.
pub(crate) trait Vitals: Send + Sync + 'static {
    /// Whether it can do its work now.
    fn readiness(&self) -> Readiness;
    /// Its numbers, but for those of [`Self::readiness`] and of the process.
    fn expose(&self, out: &mut Exposition);
}

/// The port could not be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address} for metrics ({source}); choose another --metrics-port, or stop what uses it"
)]
pub struct MetricsError {
    /// Where.
    address: SocketAddr,
    /// Why.
    source: io::Error,
}

/// The port, served.
#[derive(Debug)]
pub(crate) struct Served {
    stop: CancellationToken,
    server: AbortOnDropHandle<()>,
}

impl Served {
    /// Listens and answers from now on; nothing where there is no address.
    pub(crate) async fn start(
        listen: Option<SocketAddr>,
        vitals: Arc<dyn Vitals>,
    ) -> Result<Option<Self>, MetricsError> {
        let Some(address) = listen else { return Ok(None) };
        let failed = |source| MetricsError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "metrics and health are served");
        let stop = CancellationToken::new();
        let server = sandrun_serve::serve(listener, router(vitals), Bounds::default(), stop.clone());
        let server = AbortOnDropHandle::new(tokio::spawn(server));
        Ok(Some(Self { stop, server }))
    }

    /// Lets answers under way end.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        drop(tokio::time::timeout(DRAIN, self.server).await);
    }
}

fn router(vitals: Arc<dyn Vitals>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(vitals)
}

async fn health(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    match tokio::task::spawn_blocking(move || vitals.readiness()).await {
        Ok(readiness) => {
            let code = StatusCode::from_u16(readiness.code()).unwrap_or(StatusCode::OK);
            (code, Json(readiness)).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State(vitals): State<Arc<dyn Vitals>>) -> Response {
    let written = tokio::task::spawn_blocking(move || {
        let mut out = Exposition::default();
        vitals.expose(&mut out);
        vitals.readiness().expose(&mut out);
        sandrun_metrics::expose_process(&mut out);
        out.finish()
    });
    match written.await {
        Ok(text) => ([(CONTENT_TYPE, sandrun_metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

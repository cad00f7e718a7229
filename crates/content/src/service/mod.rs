//! Serves the embedded store over HTTP: the calls of Kubo's RPC that clients of this product need, under `/api/v0/`,
//! and the gateway path `/ipfs/CID`.
//!
//! Parameters, answers and errors are those of Kubo 0.39 (<https://docs.ipfs.tech/reference/kubo/rpc/>), checked
//! against it call by call; what an option asks for that this store can't do is refused, never ignored. Never talks to
//! other peers.
//!
//! The RPC can write, and asks nobody for a password: it listens on loopback unless told otherwise, takes POST alone,
//! and refuses what a browser sends on behalf of some page (see [`guard`]). What the gateway serves is sandboxed, as it
//! is other people's content.

mod add;
mod block;
mod gateway;
mod guard;
mod metrics;
mod node;
mod params;
mod parts;
mod pin;
mod read;
mod reply;
mod tar;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use sandrun_serve::Bounds;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::embedded::EmbeddedStore;
use crate::limits::Limits;

/// How long running answers may take to end after the shutdown began.
const DRAIN: Duration = Duration::from_secs(5);

/// How to serve a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What one request may add or read.
    pub limits: Limits,
    /// Web origins (`http://host:port`) whose pages may use the RPC. None by default.
    pub allowed_origins: Vec<String>,
}

impl ServiceConfig {
    /// Kubo's own port on loopback.
    pub const DEFAULT_PORT: u16 = 5001;

    /// Listening on `listen`, with limits that leave the bounding to the store's size cap.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        let limits = Limits {
            max_bytes: 1 << 40,
            max_file_bytes: 1 << 40,
            max_entries: 1_000_000,
            max_depth: 64,
        };
        Self {
            listen,
            limits,
            allowed_origins: Vec::new(),
        }
    }
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self::new(SocketAddr::from((Ipv4Addr::LOCALHOST, Self::DEFAULT_PORT)))
    }
}

/// Why the service could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened on.
    #[error(
        "could not listen on {listen} for the content store; choose another --port, or stop what uses it"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server failed later.
    #[error("the content service on {listen} failed")]
    Serve {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What every handler has.
#[derive(Debug, Clone)]
struct App {
    store: EmbeddedStore,
    limits: Limits,
    /// Whether only this machine reaches the service, so that the Host header can be held against it.
    loopback: bool,
    allowed_origins: Arc<[String]>,
    vitals: Arc<metrics::Vitals>,
}

/// A store that listens, and answers once it [runs](Self::run).
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    app: App,
}

impl Service {
    /// Takes the address.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub async fn bind(store: EmbeddedStore, config: ServiceConfig) -> Result<Self, ServeError> {
        let listen = config.listen;
        let failed = |source| ServeError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let app = App {
            vitals: Arc::new(metrics::Vitals::new(&store)),
            store,
            limits: config.limits,
            loopback: address.ip().is_loopback(),
            allowed_origins: config.allowed_origins.into(),
        };
        Ok(Self {
            listener,
            address,
            app,
        })
    }

    /// Where it listens, the port known.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as `--ipfs-api` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers until `shutdown` is ready, then lets running answers end, for 5 s at most.
    ///
    /// # Errors
    /// [`ServeError::Serve`].
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let listen = self.address;
        tracing::info!(%listen, dir = %self.app.store.dir().display(), "content store listens");
        let stop = CancellationToken::new();
        let server = sandrun_serve::serve(self.listener, router(self.app), Bounds::default(), stop.clone());
        let mut server = AbortOnDropHandle::new(tokio::spawn(server));
        let drain = async {
            shutdown.await;
            stop.cancel();
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = &mut server => served.map_err(|died| ServeError::Serve { listen, source: died.into() }),
            () = drain => Ok(()),
        }
    }
}

/// Binds and runs in one.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    store: EmbeddedStore,
    config: ServiceConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    Service::bind(store, config).await?.run(shutdown).await
}

fn router(app: App) -> Router {
    let rpc = Router::new()
        .route("/add", post(add::add))
        .route("/cat", post(read::cat))
        .route("/get", post(read::get))
        .route("/ls", post(read::ls))
        .route("/block/get", post(block::get))
        .route("/block/put", post(block::put))
        .route("/block/stat", post(block::stat))
        .route("/pin/add", post(pin::add))
        .route("/pin/ls", post(pin::ls))
        .route("/pin/rm", post(pin::rm))
        .route("/version", post(node::version))
        .route("/id", post(node::id))
        .route("/repo/stat", post(node::repo_stat))
        .route("/stats/repo", post(node::repo_stat))
        .route("/repo/gc", post(node::repo_gc))
        .fallback(reply::unknown_command)
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::check))
        // what is added is bounded by the limits and the store's cap, as it streams
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .nest("/api/v0", rpc)
        .route("/health", get(metrics::health))
        .route("/metrics", get(metrics::metrics))
        .route("/ipfs/{cid}", get(gateway::root))
        .route("/ipfs/{cid}/", get(gateway::root))
        .route("/ipfs/{cid}/{*path}", get(gateway::path))
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            metrics::measure,
        ))
        .with_state(app)
}

#[cfg(test)]
mod tests;

//! The broker as a service: start, what it does beside answering, end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sandrun_serve::Bounds;
use sandrun_store::queue::{QueueAddress, QueueReader, QueueStoreError, ReplicaId, open_queue};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::follow::LOOKS;
use super::health::disk_of;
use super::hot::first;
use super::http::{App, Face, Shared, router};
use super::metrics::{During, Meters};
use super::recent::Recent;
use crate::queue::{Clock, Queue, QueueError, QueueSettings, QueueThread};

/// How long answers and streams under way may take to end after the shutdown began.
const GRACE: Duration = Duration::from_secs(5);
/// How long the queue may take after that to bring what it knows to the disk.
const QUEUE_GRACE: Duration = Duration::from_secs(3);
/// Longest pause between two sweeps of ended jobs.
const SWEEP_JOBS: Duration = Duration::from_secs(60);
/// Pause between two sweeps of bodies that nothing refers to.
const SWEEP_BLOBS: Duration = Duration::from_secs(600);

/// Everything that a broker needs to know.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where its queue lies.
    pub database: QueueAddress,
    /// Timeouts and retries.
    pub settings: QueueSettings,
}

/// Why a broker does not start, or has to end.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Its queue can't be opened.
    #[error(transparent)]
    Store(#[from] QueueStoreError),
    /// Its queue can't be loaded.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The port is taken.
    #[error("can't listen on {address}: {source}; choose another --port, or stop what uses it")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The queue ended while the service did not.
    #[error("the queue's thread has died; what was acknowledged is on the disk: start the service again")]
    Died,
    /// A thread or task of the service died.
    #[error("a task of the service died")]
    Task(#[from] tokio::task::JoinError),
}

/// A broker that is ready: it listens, and answers once [`Broker::run`] is polled.
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    thread: QueueThread,
    bounds: Bounds,
}

impl Broker {
    /// Opens the queue, loads what is open, and listens.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        Self::open(config, Face::BROKER).await
    }

    /// As [`Self::start`], as the service that it is towards its clients.
    pub(crate) async fn open(config: BrokerConfig, face: Face) -> Result<Self, BrokerError> {
        Self::open_replica(config, face, None).await
    }

    /// As [`Self::open`], as this replica of a service that carries leases.
    pub(crate) async fn open_replica(
        config: BrokerConfig,
        face: Face,
        me: Option<ReplicaId>,
    ) -> Result<Self, BrokerError> {
        let listen = |source| BrokerError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let disk = disk_of(&config.database);
        let (store, reader) = open_queue(&config.database).await?;
        let settings = config.settings;
        let start = move || Queue::start_replica(store, settings, Clock::system(), me);
        let (queue, thread) = tokio::task::spawn_blocking(start).await??;
        let app = App {
            queue,
            reader,
            shutdown: CancellationToken::new(),
            streams: TaskTracker::new(),
            looks: Semaphore::new(LOOKS),
            face,
            meters: Meters::default(),
            disk,
            recent: Recent::default(),
        };
        Ok(Self {
            listener,
            address,
            app: Arc::new(app),
            thread,
            bounds: Bounds::fleet(),
        })
    }

    /// With other bounds on connections than [`Bounds::fleet`].
    #[must_use]
    pub const fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done, then ends waiting claims, streams and requests, and returns within seconds.
    ///
    /// # Errors
    /// [`BrokerError::Task`], [`BrokerError::Died`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), BrokerError> {
        let router = router(self.app());
        self.serve(router, shutdown).await
    }

    /// What its handlers use.
    pub(crate) fn app(&self) -> Shared {
        Arc::clone(&self.app)
    }

    /// As [`Self::run`], with these routes.
    pub(crate) async fn serve(
        self,
        router: Router,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), BrokerError> {
        let Self {
            listener,
            address,
            app,
            mut thread,
            bounds,
        } = self;
        tracing::info!(%address, connections = bounds.connections, "serving");
        let first = first(&app);
        let server = sandrun_serve::serve_behind(listener, first, router, bounds, app.shutdown.clone());
        let mut server = tokio::spawn(server);
        let chores = [
            tokio::spawn(sweep(Arc::clone(&app))),
            tokio::spawn(watch(app.reader.clone(), app.queue.clone())),
        ];
        let served = tokio::select! {
            () = shutdown => None,
            served = &mut server => Some(served.map_err(BrokerError::from)),
            // who can't decide anything any more must not go on answering: whoever watches over it starts it again
            () = thread.ended() => Some(Err(BrokerError::Died)),
        };
        app.shutdown.cancel();
        app.streams.close();
        let deadline = Instant::now() + GRACE;
        let streams_ended = timeout_at(deadline, app.streams.wait()).await.is_ok();
        let is_over = server.is_finished() || timeout_at(deadline, &mut server).await.is_ok();
        server.abort();
        for chore in chores {
            chore.abort();
        }
        app.queue.stop();
        let joined = tokio::task::spawn_blocking(|| thread.join());
        let queue_ended = timeout(QUEUE_GRACE, joined).await.is_ok();
        tracing::info!(streams_ended, requests_ended = is_over, queue_ended, "stopped");
        served.unwrap_or(Ok(()))
    }
}

/// Removes what is not kept any longer, now and then.
async fn sweep(app: Shared) {
    let App { queue, reader, .. } = &*app;
    let ttl = Duration::from_secs(queue.settings().result_ttl.into());
    let mut jobs = interval((ttl / 4).clamp(Duration::from_secs(1), SWEEP_JOBS));
    jobs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut blobs_at = Instant::now();
    loop {
        jobs.tick().await;
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        match reader.sweep_jobs(queue.clock().now(), millis).await {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "removed ended jobs"),
            Err(error) => {
                app.meters.database_failed(During::Sweep);
                tracing::warn!(%error, "ended jobs can't be removed; it is tried again");
            }
        }
        if Instant::now() >= blobs_at {
            blobs_at = Instant::now() + SWEEP_BLOBS;
            let node_ttl = queue.settings().node_ttl();
            let swept = reader.sweep_nodes(queue.clock().now(), node_ttl).await;
            if let Err(error) = swept.and(reader.sweep_clients().await) {
                app.meters.database_failed(During::Sweep);
                tracing::warn!(%error, "lost nodes and former clients can't be removed; it is tried again");
            }
            if let Err(error) = reader.sweep_blobs(queue.clock().now()).await {
                app.meters.database_failed(During::Sweep);
                tracing::warn!(%error, "unused files can't be removed; it is tried again");
            }
        }
    }
}

/// Lets the queue look whenever another replica has written.
async fn watch(reader: QueueReader, queue: Queue) {
    let mut changes = reader.changes();
    loop {
        changes.next().await;
        queue.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_whose_queue_is_gone_ends() {
        let folder = tempfile::tempdir().unwrap();
        let config = BrokerConfig {
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            database: QueueAddress::Sqlite(folder.path().join("queue.db")),
            settings: QueueSettings::BROKER,
        };
        let broker = Broker::start(config).await.unwrap();
        broker.app().queue.stop();
        let ended = tokio::time::timeout(GRACE, broker.run(std::future::pending())).await;
        assert!(matches!(ended, Ok(Err(BrokerError::Died))), "{ended:?}");
    }
}

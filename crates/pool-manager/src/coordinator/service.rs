//! The coordinator as a service: start, what it does beside answering, end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandrun_core::pool::{Policy, Verification};
use sandrun_store::queue::{Living, Presence, QueueAddress, join_replicas};
use tokio::sync::watch::Receiver;

use super::allowlist::{Allowlist, NoAllowlist};
use super::carry::carry_all;
use super::fleet::{Fleet, HealthRules};
use super::http::router;
use crate::broker::{Broker, BrokerConfig, BrokerError, Face};
use crate::queue::{QueueError, QueueSettings};

/// Pause between two looks at the list of workers.
const LOOK: Duration = Duration::from_secs(1);
/// How long tasks may take to end after the HTTP server has.
const GRACE: Duration = Duration::from_secs(2);

/// Everything that a coordinator needs to know.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where its queue lies.
    pub database: QueueAddress,
    /// Timeouts and retries.
    pub settings: QueueSettings,
    /// The list of workers, JSON; it is read again when it changes.
    pub workers: PathBuf,
    /// Pause between two questions about a worker's health.
    pub health_interval: Duration,
    /// Whether workers that prove nothing may work, and answers without a receipt count: executors of old.
    pub allow_unproven: bool,
    /// Its name, which workers' proofs are bound to.
    pub name: String,
}

/// Why a coordinator does not start, or has to end.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// Queue, port or HTTP server.
    #[error(transparent)]
    Service(#[from] BrokerError),
    /// The list of workers can't be read.
    #[error("the list of workers {} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The list of workers is none.
    #[error("{}: {source}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NoAllowlist,
    },
}

/// A coordinator that is ready: it listens, and answers once [`Coordinator::run`] is polled.
#[derive(Debug)]
pub struct Coordinator {
    service: Broker,
    fleet: Arc<Fleet>,
    workers: PathBuf,
    seen: Vec<u8>,
    list: Allowlist,
    /// Where there can be several.
    presence: Option<Presence>,
}

impl Coordinator {
    /// Reads the list, opens the queue, loads what is open, and listens.
    ///
    /// # Errors
    /// [`CoordinatorError`].
    pub async fn start(config: CoordinatorConfig) -> Result<Self, CoordinatorError> {
        let path = config.workers;
        let seen = std::fs::read(&path).map_err(|source| CoordinatorError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let list = Allowlist::parse(&seen).map_err(|source| CoordinatorError::List {
            path: path.clone(),
            source,
        })?;
        let mut settings = config.settings;
        if config.allow_unproven {
            // an answer that nobody signed counts; one that is signed wrongly never does
            settings.policy = Policy {
                verification: Verification::Replicas,
                ..settings.policy
            };
        }
        // it is the coordinator that says who is lost: three missed checks are more than it takes for that
        let three_checks = config
            .health_interval
            .as_secs()
            .saturating_mul(3)
            .saturating_add(10);
        let three_checks = u32::try_from(three_checks).unwrap_or(u32::MAX);
        settings.node_timeout = settings.node_timeout.max(three_checks);
        let service = BrokerConfig {
            listen: config.listen,
            database: config.database,
            settings,
        };
        let joined = join_replicas(&service.database, rand::random).await;
        let presence = joined.map_err(BrokerError::from)?;
        let me = presence.as_ref().map(Presence::id);
        let service = Broker::open_replica(service, Face::COORDINATOR, me).await?;
        if let Some(presence) = &presence {
            service.app().queue.living(presence.living().borrow().clone());
        }
        let rules = HealthRules {
            interval: config.health_interval,
            allow_unproven: config.allow_unproven,
            audience: config.name,
        };
        let fleet = Arc::new(Fleet::new(service.app(), rules));
        Ok(Self {
            service,
            fleet,
            workers: path,
            seen,
            list,
            presence,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.service.local_addr()
    }

    /// Serves until `shutdown` is done, then ends streams and requests, and returns within seconds. Runs at the workers
    /// go on; the next start finds them.
    ///
    /// # Errors
    /// [`CoordinatorError::Service`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), CoordinatorError> {
        let Self {
            service,
            fleet,
            workers,
            seen,
            list,
            presence,
        } = self;
        if let Some(presence) = &presence {
            fleet.tasks.spawn(hear(Arc::clone(&fleet), presence.living()));
        }
        fleet.begin(&list).await.map_err(BrokerError::from)?;
        let pushes = service.app().queue.assignments();
        let pushes = pushes.ok_or(BrokerError::from(QueueError::Stopped))?;
        fleet.tasks.spawn(carry_all(Arc::clone(&fleet), pushes));
        fleet.tasks.spawn(look(Arc::clone(&fleet), workers, seen));
        let shutdown = async move {
            shutdown.await;
            // the others take over at once what goes on
            drop(presence);
        };
        let served = service.serve(router(Arc::clone(&fleet)), shutdown).await;
        fleet.tasks.close();
        if tokio::time::timeout(GRACE, fleet.tasks.wait()).await.is_err() {
            tracing::debug!("some answers were not told any more; the next start asks for them again");
        }
        Ok(served?)
    }
}

/// Tells the queue which replicas live.
async fn hear(fleet: Arc<Fleet>, mut living: Receiver<Living>) {
    let shutdown = fleet.app.shutdown.clone();
    let mut told = BTreeSet::new();
    loop {
        let now = living.borrow_and_update().clone();
        if now.replicas != told || fleet.app.queue.awaits_look() {
            told.clone_from(&now.replicas);
            tracing::debug!(replicas = told.len(), "the replicas that live");
            fleet.app.queue.living(now);
        }
        tokio::select! {
            changed = living.changed() => if changed.is_err() { break },
            () = shutdown.cancelled() => break,
        }
    }
}

/// Looks at the list of workers now and then.
async fn look(fleet: Arc<Fleet>, path: PathBuf, mut seen: Vec<u8>) {
    let shutdown = fleet.app.shutdown.clone();
    let mut was_wrong = false;
    while tokio::time::timeout(LOOK, shutdown.cancelled()).await.is_err() {
        match read(&path, &seen).await {
            Ok(None) => was_wrong = false,
            Ok(Some((bytes, list))) => {
                was_wrong = false;
                seen = bytes;
                tracing::info!(workers = list.entries.len(), "the list of workers has changed");
                fleet.change(&list).await;
            }
            Err(why) => {
                if !std::mem::replace(&mut was_wrong, true) {
                    tracing::error!(why, path = %path.display(), "the former list of workers holds on");
                }
            }
        }
    }
}

/// The list, if it has changed.
async fn read(path: &Path, seen: &[u8]) -> Result<Option<(Vec<u8>, Allowlist)>, String> {
    let bytes = tokio::fs::read(path).await.map_err(|error| error.to_string())?;
    if bytes == seen {
        return Ok(None);
    }
    let list = Allowlist::parse(&bytes).map_err(|error| error.to_string())?;
    Ok(Some((bytes, list)))
}

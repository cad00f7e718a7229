//! Starts and stops the whole service.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandrun_environment::{CacheError, Environments};
use sandrun_metrics::DiskWatch;
use sandrun_sandbox::{Sandbox, StartError};
use sandrun_serve::Bounds;
use sandrun_store::LockFile;
use sandrun_types::{Manifest, Sha256Hex};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admit::Offer;
use crate::config::ExecutorConfig;
use crate::http::{self, App, Slots};
use crate::jobs::Rules;
use crate::meters::Meters;
use crate::service::{self, Tools};
use crate::worker_key::{self, WorkerKeyError};

/// The service cannot start, or has failed.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The worker key cannot be used.
    #[error(transparent)]
    WorkerKey(#[from] WorkerKeyError),
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}; give another one", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder of environments cannot be used.
    #[error("the environments cannot be opened")]
    Environments(#[from] CacheError),
    /// Another executor works in the data folder.
    #[error("another executor uses the data folder {}; stop it, or give this one a folder of its own with --data-dir", .0.display())]
    Locked(PathBuf),
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ({source}); choose another port, or stop what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Jobs cannot be isolated on this machine.
    #[error("jobs cannot be isolated on this machine, so none is taken")]
    Sandbox(#[from] StartError),
    /// A thread of the service died while it started or ran.
    #[error("a task of the service died")]
    Task(#[from] tokio::task::JoinError),
    /// The listening socket failed.
    #[error("the HTTP server failed")]
    Http(#[source] io::Error),
}

/// A service that is ready: it listens and has proven its isolation, and answers once [`Executor::run`] is polled.
#[derive(Debug)]
pub struct Executor {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    service: JoinHandle<()>,
    shutdown: CancellationToken,
    grace: Duration,
    jobs: PathBuf,
    /// Held for as long as the service works in its data folder.
    _lock: LockFile,
}

/// Starts the service and runs it until `shutdown` is done, then ends jobs, streams and requests and returns, at the
/// latest after the configured grace.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(config: ExecutorConfig, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    Executor::start(config).await?.run(shutdown).await
}

impl Executor {
    /// Loads the key, takes the data folder, binds the address and proves the isolation.
    ///
    /// # Errors
    /// [`ServeError`] says which of these failed and what to do.
    pub async fn start(config: ExecutorConfig) -> Result<Self, ServeError> {
        let key = config.worker_key.as_deref().map(worker_key::load).transpose()?;
        let data_dir = config.data_dir.clone();
        let lock = tokio::task::spawn_blocking(move || take_folder(&data_dir)).await??;
        let listen = |source| ServeError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (images, setup) = (config.data_dir.join("environments"), config.environments.clone());
        let environments = tokio::task::spawn_blocking(move || Environments::open(&images, setup)).await??;
        let mut sandbox_config = config.sandbox.clone();
        sandbox_config.environments_dir = Some(environments.images_dir());
        let sandbox = tokio::task::spawn_blocking(move || {
            let sandbox = Sandbox::start(sandbox_config)?;
            // looks at all of the system's files, so not where requests are served
            let _ = sandbox.classes();
            Ok::<_, ServeError>(Arc::new(sandbox))
        });
        let sandbox = sandbox.await??;
        let shutdown = CancellationToken::new();
        let jobs = jobs_dir(&config.data_dir);
        let rules = rules(&config, &jobs);
        let meters = Arc::new(Meters::new(sandbox.classes().iter().map(|(class, _)| class)));
        let tools = Tools {
            meters: Arc::clone(&meters),
            sandbox: Arc::clone(&sandbox),
            key: key.clone(),
            jobs: jobs.clone(),
        };
        let (service, service_task) = service::spawn(rules, tools, shutdown.clone());
        let app = App {
            service,
            offer: Offer {
                limits: config.limits.clone(),
                interpreters: sandbox
                    .interpreters()
                    .iter()
                    .map(|(interpreter, _)| *interpreter)
                    .collect(),
            },
            environments,
            key,
            isolation: sandbox.layers().names(),
            class: Sha256Hex(sandbox.class().0),
            sandbox: Arc::clone(&sandbox),
            parallel: config.parallel.get(),
            limits_line: limits_line(&config),
            cpu_quota: config.quota.map(|quota| quota.cpu_per_minute.as_secs_f64()),
            meters,
            disk: Arc::new(DiskWatch::new(config.data_dir.clone(), http::LEAST_FREE)),
            max_queued: config.max_queued,
            jobs: jobs.clone(),
            uploads: Slots::new(config.quota.is_some()),
            images: Slots::new(config.quota.is_some()),
            shutdown: shutdown.clone(),
            streams: TaskTracker::new(),
        };
        let app = Arc::new(app);
        tokio::spawn(watch_system(
            sandbox,
            config.sandbox.system_check,
            shutdown.clone(),
        ));
        Ok(Self {
            listener,
            address,
            app,
            service: service_task,
            shutdown,
            grace: config.grace,
            jobs,
            _lock: lock,
        })
    }

    /// Where the service listens, the real port where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done; see [`serve`].
    ///
    /// # Errors
    /// [`ServeError::Task`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        tracing::info!(address = %self.address, "serving");
        let router = http::router(Arc::clone(&self.app));
        let server = sandrun_serve::serve(self.listener, router, Bounds::default(), self.shutdown.clone());
        let mut server = tokio::spawn(server);
        let mut service = self.service;
        tokio::select! {
            () = shutdown => {}
            ended = &mut server => ended?,
            ended = &mut service => ended?,
        }
        self.shutdown.cancel();
        self.app.uploads.close();
        self.app.images.close();
        self.app.streams.close();
        let deadline = Instant::now() + self.grace;
        // Jobs first: a stream that follows one ends with it. Whatever is not over in time is dropped.
        let jobs_ended = service.is_finished() || timeout_at(deadline, &mut service).await.is_ok();
        let streams_ended = timeout_at(deadline, self.app.streams.wait()).await.is_ok();
        let requests_ended = server.is_finished() || timeout_at(deadline, &mut server).await.is_ok();
        server.abort();
        tracing::info!(jobs_ended, streams_ended, requests_ended, "stopped");
        let jobs = self.jobs;
        tokio::task::spawn_blocking(move || empty(&jobs)).await?;
        Ok(())
    }
}

/// Lets the sandbox look at the system's files now and then, jobs or not: a class that holds no more is no longer offered.
async fn watch_system(sandbox: Arc<Sandbox>, every: Duration, shutdown: CancellationToken) {
    const SHORTEST: Duration = Duration::from_secs(1);
    while timeout(every.max(SHORTEST), shutdown.cancelled()).await.is_err() {
        let sandbox = Arc::clone(&sandbox);
        if tokio::task::spawn_blocking(move || sandbox.look_again())
            .await
            .is_err()
        {
            return;
        }
    }
}

fn jobs_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("jobs")
}

/// Makes the data folder ours: nobody else may look into it, no other executor works in it, and nothing is left of a
/// former run.
fn take_folder(data_dir: &Path) -> Result<LockFile, ServeError> {
    let failed = |source| ServeError::DataDir {
        path: data_dir.to_owned(),
        source,
    };
    let make = |path: &Path| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)
    };
    make(data_dir)?;
    let lock = LockFile::take(&data_dir.join("lock"))
        .map_err(failed)?
        .ok_or_else(|| ServeError::Locked(data_dir.to_owned()))?;
    let jobs = jobs_dir(data_dir);
    match fs::remove_dir_all(&jobs) {
        Ok(()) => tracing::info!("removed the leftovers of a former run"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    make(&jobs)?;
    Ok(lock)
}

fn rules(config: &ExecutorConfig, jobs: &Path) -> Rules {
    Rules {
        parallel: config.parallel,
        max_queued: config.max_queued,
        quota: config.quota,
        retention: config.retention,
        kept_bytes: config.kept_bytes.unwrap_or_else(|| kept_bytes(jobs)),
    }
}

/// What ended jobs may keep where nobody has said how much.
fn kept_bytes(jobs: &Path) -> u64 {
    let free = rustix::fs::statvfs(jobs).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    free.map_or(ExecutorConfig::MOST_KEPT, |free| {
        (free / 4).min(ExecutorConfig::MOST_KEPT)
    })
}

/// Removes what jobs have left.
fn empty(jobs: &Path) {
    if let Err(error) = fs::remove_dir_all(jobs) {
        tracing::warn!(%error, "cannot remove the jobs' data; the next start will");
    }
}

fn limits_line(config: &ExecutorConfig) -> String {
    let limits = &config.limits;
    let cpu = config.quota.map_or("no quota".to_owned(), |quota| {
        format!(
            "{} CPU-sec/min, {} jobs at once, {} jobs/hour",
            quota.cpu_per_minute.as_secs(),
            quota.jobs_at_once,
            quota.jobs_per_hour
        )
    });
    format!(
        "{cpu}, {} MB memory (at most {}), {} s timeout (at most {}), {} MB upload",
        limits.default_memory_mb,
        limits.max_memory_mb,
        limits.default_timeout,
        Manifest::MAX_TIMEOUT,
        limits.upload_bytes / (1024 * 1024)
    )
}

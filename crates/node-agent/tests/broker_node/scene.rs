//! A real executor with the real sandbox, and nodes that use it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use node_agent::{BrokerNodeConfig, BrokerNodeError};
use sandrun_executor::{Executor, ExecutorClient, ExecutorConfig, SandboxConfig, ServeError, worker_key};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Within what every service has to end.
const GRACE: Duration = Duration::from_secs(10);
const PROCESS: &str = env!("CARGO_BIN_EXE_agent-test-process");

/// A service in this process.
pub(crate) struct Running<E> {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), E>>,
}

impl<E: std::error::Error + Send + Sync + 'static> Running<E> {
    pub(crate) fn start<F>(
        service: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(service(Box::pin(async move { drop(stopped.await) })));
        Self {
            stop: Some(stop),
            task,
        }
    }

    /// Ends it as SIGTERM does, in time.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.stop.take());
        tokio::time::timeout(GRACE, self.task)
            .await
            .context("it does not end in time")???;
        Ok(())
    }
}

/// An executor as a process that can be killed.
pub(crate) fn executor_process(address: SocketAddr, data: &Path) -> Result<Child> {
    let child = Command::new(PROCESS)
        .args(["executor", &address.to_string()])
        .arg(data)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

/// The executor, in a folder that goes with it.
pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) executor: ExecutorClient,
    service: Running<ServeError>,
}

impl Scene {
    pub(crate) async fn new() -> Result<Self> {
        if std::env::var_os("RUST_LOG").is_some() {
            let logs = tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .with_test_writer();
            drop(logs.try_init());
        }
        let folder = tempfile::tempdir()?;
        let key = folder.path().join("worker.pem");
        worker_key::generate(&key)?;
        let launcher = vec![PROCESS.into(), "__sandbox".into()];
        let data = folder.path().join("executor");
        let mut config = ExecutorConfig::new(data, SandboxConfig::new(launcher)).without_quota();
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.worker_key = Some(key);
        let executor = Executor::start(config).await?;
        let url = format!("http://{}", executor.local_addr());
        Ok(Self {
            executor: ExecutorClient::new(&url)?,
            url,
            service: Running::start(|shutdown| executor.run(shutdown)),
            folder,
        })
    }

    /// Where the node keeps its answers.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("node")
    }

    /// Starts a node in this process.
    pub(crate) fn node(
        &self,
        broker: &str,
        change: impl FnOnce(&mut BrokerNodeConfig),
    ) -> Running<BrokerNodeError> {
        let mut config = BrokerNodeConfig::new(broker.to_owned(), self.url.clone(), self.data());
        config.poll_interval = Duration::from_millis(200);
        config.heartbeat_interval = Duration::from_millis(200);
        change(&mut config);
        Running::start(|shutdown| node_agent::run_for_broker(config, |_| (), shutdown))
    }

    /// Starts a node as a process that can be killed.
    pub(crate) fn process(&self, broker: &str) -> Result<Child> {
        let data = self.data();
        let arguments: [&Path; 3] = [Path::new(broker), Path::new(&self.url), &data];
        let child = Command::new(PROCESS)
            .arg("node")
            .args(arguments)
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    /// How many answers lie on disk.
    pub(crate) fn kept_answers(&self) -> Result<usize> {
        Ok(std::fs::read_dir(self.data().join("answers"))?.count())
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.service.stop().await
    }
}

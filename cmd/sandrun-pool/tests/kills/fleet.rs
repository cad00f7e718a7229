//! All processes of one combination: who is killed, and that everybody comes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandrun_store::queue::QueueAddress;
use sandrun_testnet::PostgresServer;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::balancer::Balancer;
use crate::process::{Plan, Process};
use crate::rng::SplitMix64;

/// Executors, each with a node or on the list of workers.
const EXECUTORS: usize = 2;
/// Jobs that each of them runs at once.
const SLOTS: &str = "4";

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Broker,
    Coordinator,
}

/// Where its queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// One process.
    Sqlite,
    /// Three.
    Postgres,
}

/// Somebody who is killed: up, or on the way back.
#[derive(Debug)]
enum Victim {
    Up(Box<Process>),
    Down(JoinHandle<anyhow::Result<Process>>),
    /// While it changes.
    Nowhere,
}

/// All processes.
pub(crate) struct Fleet {
    folder: TempDir,
    database: QueueAddress,
    postgres: Option<PostgresServer>,
    balancer: Balancer,
    /// Addresses of the service's replicas.
    pub(crate) replicas: Vec<SocketAddr>,
    victims: Vec<(&'static str, Victim)>,
    killed: BTreeMap<&'static str, usize>,
}

/// What is left when all processes have ended.
pub(crate) struct Rest {
    pub(crate) database: QueueAddress,
    /// Held for as long as it is read.
    _postgres: Option<PostgresServer>,
    _folder: TempDir,
}

/// An address that is free now.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

struct Planner<'a>(&'a Path);

impl Planner<'_> {
    fn plan(&self, name: &str, line: &str, more: &[String]) -> Plan {
        let words = line.split_whitespace().map(str::to_owned);
        Plan {
            name: name.to_owned(),
            arguments: words.chain(more.iter().cloned()).collect(),
            folder: self.0.to_owned(),
        }
    }

    /// Makes a worker's key; its id.
    async fn key(&self, file: &str) -> anyhow::Result<String> {
        let make = self.plan("key", &format!("sandrun --generate-key {file}"), &[]);
        let said = String::from_utf8(make.command().output().await?.stdout)?;
        let id = said.trim().strip_prefix("Worker ID: ").context("a key")?;
        Ok(id.to_owned())
    }
}

impl Fleet {
    pub(crate) async fn start(service: Service, disk: Disk) -> anyhow::Result<Self> {
        let mut folder = tempfile::Builder::new().prefix("sandrun-kills-").tempdir()?;
        folder.disable_cleanup(std::env::var_os("SANDRUN_TEST_KEEP").is_some());
        let planner = Planner(folder.path());
        let (postgres, database) = match disk {
            Disk::Sqlite => (
                None,
                folder.path().join("queue.db").to_string_lossy().into_owned(),
            ),
            Disk::Postgres => {
                let server = tokio::task::spawn_blocking(PostgresServer::start).await??;
                let url = server.url();
                (Some(server), url)
            }
        };
        let mut victims = Vec::new();
        let mut workers = Vec::new();
        for at in 0..EXECUTORS {
            let (key, address) = (format!("worker{at}.pem"), free()?);
            let worker = planner.key(&key).await?;
            let endpoint = format!("http://{address}");
            workers.push(json!({"worker_id": worker, "endpoint": endpoint, "max_concurrent_jobs": 4}));
            let line = format!(
                "sandrun --port {} --no-quota --parallel {SLOTS} --worker-key {key} --data-dir executor{at}",
                address.port()
            );
            victims.push(("executor", planner.plan(&format!("executor{at}"), &line, &[])));
        }
        std::fs::write(folder.path().join("workers.json"), json!(workers).to_string())?;
        let replicas = if disk == Disk::Sqlite { 1 } else { 3 };
        let replicas: Vec<SocketAddr> = (0..replicas).map(|_| free()).collect::<Result<_, _>>()?;
        let (word, line) = match service {
            Service::Broker => ("broker", "broker --node-timeout 10 --job-timeout 5"),
            Service::Coordinator => (
                "coordinator",
                "coordinator --workers workers.json --health-interval 1 --job-timeout 5",
            ),
        };
        for (at, address) in replicas.iter().enumerate() {
            let line = format!("{line} --max-retries 100 --port {}", address.port());
            let database = ["--db".to_owned(), database.clone()];
            victims.push((word, planner.plan(&format!("{word}{at}"), &line, &database)));
        }
        let balancer = Balancer::start(replicas.clone()).await?;
        if service == Service::Broker {
            for (at, worker) in workers.iter().enumerate() {
                let line = format!(
                    "node --broker {} --sandrun {} --endpoint http://node{at} --data-dir node{at} \
                     --max-concurrent-jobs {SLOTS} --heartbeat-interval 1 --poll-interval 1 --timeout-buffer 3",
                    balancer.url(),
                    worker["endpoint"].as_str().unwrap_or_default()
                );
                victims.push(("node", planner.plan(&format!("node{at}"), &line, &[])));
            }
        }
        let mut up = Vec::new();
        for (kind, plan) in victims {
            up.push((kind, Victim::Up(Box::new(plan.start().await?))));
        }
        Ok(Self {
            database: database.parse()?,
            folder,
            postgres,
            balancer,
            replicas,
            victims: up,
            killed: BTreeMap::new(),
        })
    }

    /// Whether there are nodes that ask for jobs.
    pub(crate) fn has_nodes(&self) -> bool {
        self.victims.iter().any(|(kind, _)| *kind == "node")
    }

    /// Where clients ask.
    pub(crate) fn url(&self) -> String {
        self.balancer.url()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Kills one and lets it come back after a while.
    pub(crate) async fn kill(&mut self, rng: &mut SplitMix64) -> anyhow::Result<()> {
        let mut kinds: Vec<&'static str> = self.victims.iter().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        let kind = *rng.pick(&kinds);
        let those: Vec<usize> = (0..self.victims.len())
            .filter(|at| self.victims[*at].0 == kind)
            .collect();
        let at = *rng.pick(&those);
        let pause = std::time::Duration::from_millis(rng.below(500));
        let victim = std::mem::replace(&mut self.victims[at].1, Victim::Nowhere);
        let process = back(victim).await?;
        let plan = process.kill().await?;
        *self.killed.entry(kind).or_default() += 1;
        let again = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            plan.start().await
        });
        self.victims[at].1 = Victim::Down(again);
        Ok(())
    }

    /// Waits until everybody is there.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<()> {
        for (_, victim) in &mut self.victims {
            let process = back(std::mem::replace(victim, Victim::Nowhere)).await?;
            *victim = Victim::Up(Box::new(process));
        }
        Ok(())
    }

    /// How often who was killed.
    pub(crate) fn killed(&self) -> String {
        let kinds = self
            .killed
            .iter()
            .map(|(kind, count)| format!("{count} × {kind}"));
        kinds.collect::<Vec<_>>().join(", ")
    }

    /// Ends all, those first who work; nothing of them is left.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Rest> {
        let order = |kind: &str| usize::from(kind != "node") + usize::from(kind == "executor");
        self.victims.sort_by_key(|(kind, _)| order(kind));
        for (_, victim) in self.victims {
            back(victim).await?.terminate().await?;
        }
        crate::check::nothing_is_left(self.folder.path()).await?;
        Ok(Rest {
            database: self.database,
            _postgres: self.postgres,
            _folder: self.folder,
        })
    }
}

async fn back(victim: Victim) -> anyhow::Result<Process> {
    match victim {
        Victim::Up(process) => Ok(*process),
        Victim::Down(task) => task.await?,
        Victim::Nowhere => anyhow::bail!("it did not come back before"),
    }
}

//! The trust models, each with real parts: a chain with three nodes, a coordinator with a worker, a broker with a node.

use std::path::Path;

use anyhow::Context as _;
use sandrun_testnet::Role;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::process::Process;
use crate::support::{Said, Scene, said};
use crate::world::{self, World};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    Market,
    Coordinator,
    Broker,
}

/// One that runs.
pub(crate) struct Model {
    trust: Trust,
    parts: Parts,
}

enum Parts {
    Market(Box<Scene>),
    Coordinator(Box<World>, Box<Process>),
    Broker(Box<World>),
}

impl Model {
    pub(crate) async fn start(trust: Trust) -> anyhow::Result<Self> {
        let parts = match trust {
            Trust::Market => Parts::Market(Box::new(Scene::with(&[Role::Honest; 3]).await?)),
            Trust::Broker => Parts::Broker(Box::new(World::new().await?)),
            Trust::Coordinator => {
                let world = World::new().await?;
                let workers = json!([{
                    "worker_id": world.worker, "endpoint": world.executor.ready, "max_concurrent_jobs": 4
                }]);
                world.write("workers.json", &workers.to_string())?;
                let start = ["coordinator", "--port", "0", "--workers", "workers.json"];
                let coordinator = Process::start(world::command(world.directory.path(), &start)).await?;
                Parts::Coordinator(Box::new(world), Box::new(coordinator))
            }
        };
        Ok(Self { trust, parts })
    }

    /// What a submission costs: words that only the market has.
    pub(crate) const fn price(&self) -> &'static str {
        match self.trust {
            Trust::Market => "--payment 0.3 --redundancy 3",
            Trust::Coordinator | Trust::Broker => "",
        }
    }

    /// What nobody here can do.
    pub(crate) const fn hopeless(&self) -> &'static str {
        match self.trust {
            Trust::Market => "--min-reputation 255 --force",
            Trust::Coordinator | Trust::Broker => "--require label.nobody=yes",
        }
    }

    /// Who vouches for a result, out of what `fetch` says.
    pub(crate) fn vouches(&self, fetched: &Value) -> bool {
        match &self.parts {
            Parts::Market(_) => fetched["digest"].is_string() && fetched["outcome"] == "Digest",
            Parts::Coordinator(world, _) | Parts::Broker(world) => {
                fetched["receipt"]["worker"] == world.worker.as_str()
                    && fetched["receipt"]["covers_result"] == true
            }
        }
    }

    /// An id of the same form that no job has.
    pub(crate) fn unknown(&self, job: &str) -> String {
        let (start, last) = job.split_at(job.len() - 1);
        format!("{start}{}", if last == "0" { '1' } else { '0' })
    }

    pub(crate) fn directory(&self) -> &Path {
        match &self.parts {
            Parts::Market(scene) => scene.directory.path(),
            Parts::Coordinator(world, _) | Parts::Broker(world) => world.directory.path(),
        }
    }

    fn command(&self, line: &str) -> Command {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &self.parts {
            Parts::Market(scene) => scene.command(&words),
            Parts::Broker(world) => world.command(line),
            Parts::Coordinator(world, coordinator) => {
                let mut command = world::command(world.directory.path(), &words);
                command.env("SANDRUN_TO", &coordinator.ready);
                command
            }
        }
    }

    /// Runs a command; it has to end with this code.
    pub(crate) async fn run(&self, line: &str, code: i32) -> anyhow::Result<Said> {
        let said = said(self.command(line)).await?;
        anyhow::ensure!(said.code == code, "{:?}: {line}: {said:?}", self.trust);
        Ok(said)
    }

    /// The same for scripts.
    pub(crate) async fn json(&self, line: &str, code: i32) -> anyhow::Result<Value> {
        self.run(&format!("{line} --json"), code).await?.json()
    }

    /// Submits without waiting; the job's id.
    pub(crate) async fn submit(&self, line: &str) -> anyhow::Result<String> {
        let line = format!("submit --detach {} {line}", self.price());
        let job = self.json(&line, 0).await?;
        Ok(job["job"].as_str().context("no id")?.to_owned())
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.parts {
            Parts::Market(scene) => scene.market.stop().await,
            Parts::Broker(world) => world.stop().await?,
            Parts::Coordinator(world, coordinator) => {
                let (code, _) = coordinator.terminate().await?;
                anyhow::ensure!(code == 0, "the coordinator ended with {code}");
                world.stop().await?;
            }
        }
        Ok(())
    }
}

//! A market whose lines can fail, jobs posted into it, and what has to hold of them in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sandrun_chain::{Key, Sender, SenderConfig};
use sandrun_testnet::{Role, Service};
use serde_json::Value;

use crate::support::{Scene, said};
use crate::wire::Wires;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until it is so.
pub(crate) async fn until(what: &str, so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let waiting = async {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        while !so().await? {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .with_context(|| format!("it never was: {what}"))?
}

/// A market on lines that can fail.
pub(crate) struct Frail {
    pub(crate) scene: Scene,
    pub(crate) wires: Wires,
}

/// How a command ends that does not reach what it needs.
const UNREACHABLE: i32 = 3;
/// How a command ends where a job came to nothing.
const NO_AGREEMENT: i32 = 6;
/// What a job costs for each replica.
const PRICE: &str = "0.1";

impl Frail {
    pub(crate) async fn with(nodes: &[Role]) -> anyhow::Result<Self> {
        let wires = Wires::default();
        let scene = Scene::built(nodes, |config| config.lines = wires.lines()).await?;
        Ok(Self { scene, wires })
    }

    /// Posts a job for three nodes that prints `word`, paid by this key; its id.
    pub(crate) async fn post(&self, key: &Path, word: &str) -> anyhow::Result<String> {
        self.post_for(key, word, 20).await
    }

    /// The same, with so many seconds for the program.
    pub(crate) async fn post_for(&self, key: &Path, word: &str, timeout: u32) -> anyhow::Result<String> {
        let program = format!("print('{word}')\n");
        let manifest = format!(r#"{{"timeout": {timeout}}}"#);
        self.scene
            .code(word, &[("main.py", &program), ("job.json", &manifest)])?;
        let mut looks = tokio::time::interval(Duration::from_millis(200));
        let said = loop {
            let mut command = self
                .scene
                .command(&["submit", "--detach", "--json", "--code", word]);
            command
                .args(["--payment", "0.3", "--redundancy", "3"])
                .env("SANDRUN_KEY", key);
            let said = said(command).await?;
            // what it needs may be down at this moment; then nothing was posted
            if said.code != UNREACHABLE || said.stderr.contains("posted") {
                break said;
            }
            looks.tick().await;
        };
        anyhow::ensure!(said.code == 0, "{said:?}");
        Ok(said.json()?["job"].as_str().context("no id")?.to_owned())
    }

    /// One of the market's services.
    pub(crate) fn service(&mut self, name: &str) -> anyhow::Result<&mut Service> {
        let found = self.scene.market.service(name);
        found.with_context(|| format!("no service {name}"))
    }

    /// Waits until the log of a service has this text.
    pub(crate) async fn says(&self, service: &str, text: &str) -> anyhow::Result<()> {
        let log = self
            .scene
            .directory
            .path()
            .join(format!("market/logs/{service}.log"));
        until(&format!("{text} in {}", log.display()), async || {
            Ok(std::fs::read_to_string(&log)?.contains(text))
        })
        .await
    }

    /// Asks the chain's own program for something.
    pub(crate) async fn rpc(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let call = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = reqwest::Client::new()
            .post(&self.scene.market.rpc)
            .json(&call)
            .send()
            .await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        anyhow::ensure!(answer.get("error").is_none(), "{method}: {answer}");
        Ok(answer["result"].clone())
    }

    /// Who sends with the key in this file.
    pub(crate) async fn sender(&self, key: &Path) -> anyhow::Result<Sender> {
        let market = &self.scene.market;
        let chain = market.reader().await?.chain().clone();
        let deployment = Some(market.deployment.clone());
        Ok(Sender::new(
            chain,
            Key::load(key, None)?,
            deployment,
            SenderConfig::default(),
        ))
    }

    /// Waits until a job is over, and each of its seats settled.
    pub(crate) async fn over(&self, job: &str) -> anyhow::Result<()> {
        let settled = |_, it: &Value| {
            let facts = &it["job"]["facts"];
            let mut seats = facts["seats"].as_array().into_iter().flatten();
            facts["phase"] == "closed" && seats.all(|seat| seat["end"].is_object())
        };
        self.scene.manager(&format!("/v1/jobs/{job}"), settled).await?;
        Ok(())
    }

    /// All honest: each job has a result that can be fetched and is what its program printed, each of its seats is paid the
    /// price once, and nobody has lost a bond.
    pub(crate) async fn check(&self, jobs: &BTreeMap<String, String>) -> anyhow::Result<()> {
        self.check_but(jobs, false).await.map(drop)
    }

    /// The same, but that nodes may have been away for a job's whole seat window: with fewer than two of them it expired, with
    /// all money back and no bond lost, and how many did is the answer; with two the third price went back.
    pub(crate) async fn check_but(
        &self,
        jobs: &BTreeMap<String, String>,
        may_lack: bool,
    ) -> anyhow::Result<usize> {
        let mut expired = 0;
        for (job, word) in jobs {
            let fetched = self.scene.run(&["fetch", job, "--json", "--out", job]).await?;
            if may_lack && fetched.code == NO_AGREEMENT && is_refunded(&fetched.json()?) {
                expired += 1;
                continue;
            }
            anyhow::ensure!(fetched.code == 0, "{job}: {fetched:?}");
            let fetched = fetched.json()?;
            let seats = fetched["payments"].as_array().context("no payments")?;
            let is_paid =
                |seat: &&Value| seat["end"] == "Paid" && seat["paid"] == PRICE && seat["slashed"] == "0";
            // two of three are a quorum: where nobody was there for the third seat its price goes back
            let wanted = match fetched["refunded"].as_str() {
                Some(PRICE) if may_lack => 2,
                Some(_) | None => 3,
            };
            let nodes: std::collections::BTreeSet<_> =
                seats.iter().map(|seat| seat["node"].to_string()).collect();
            anyhow::ensure!(
                fetched["outcome"] == "Digest"
                    && seats.iter().filter(is_paid).count() == wanted
                    && nodes.len() == seats.len(),
                "{job}: {fetched}"
            );
            let directory = fetched["result"]["directory"].as_str().unwrap_or_default();
            let printed =
                std::fs::read_to_string(self.scene.directory.path().join(directory).join("stdout"))?;
            anyhow::ensure!(printed == format!("{word}\n"), "{job} printed {printed:?}");
        }
        Ok(expired)
    }

    /// Waits until the chain has made so many blocks: time goes by for everybody.
    pub(crate) async fn blocks(&self, more: u64) -> anyhow::Result<()> {
        let chain = self.scene.market.reader().await?.chain().clone();
        let from = chain.head().await?.block.number;
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        while chain.head().await?.block.number < from + more {
            looks.tick().await;
        }
        Ok(())
    }
}

/// Whether a job expired with all its money back, and nobody lost anything.
fn is_refunded(finished: &Value) -> bool {
    let mut seats = finished["payments"].as_array().into_iter().flatten();
    finished["outcome"] == "Expired"
        && finished["refunded"] == "0.3"
        && seats.all(|seat| seat["slashed"] == "0")
}

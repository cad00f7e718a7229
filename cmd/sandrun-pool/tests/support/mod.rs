//! A real local market for a test, and the command line as a user runs it.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sandrun_testnet::{Lines, LocalMarket, Ports, Role, Store, TestnetConfig};
use serde_json::Value;
use tokio::process::Command;

/// The binary under test.
pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_sandrun-pool");
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A market and a place for code and results.
pub(crate) struct Scene {
    pub(crate) market: LocalMarket,
    pub(crate) directory: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Its standard output as JSON.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {self:?}"))
    }
}

impl Scene {
    /// A market with these nodes.
    pub(crate) async fn with(nodes: &[Role]) -> anyhow::Result<Self> {
        Self::on(Store::Embedded, nodes).await
    }

    /// A market with these nodes on this content store.
    pub(crate) async fn on(store: Store, nodes: &[Role]) -> anyhow::Result<Self> {
        Self::built(nodes, |config| config.store = store).await
    }

    /// A market with these nodes, and with what else is changed about it.
    pub(crate) async fn built(
        nodes: &[Role],
        change: impl FnOnce(&mut TestnetConfig),
    ) -> anyhow::Result<Self> {
        let mut directory = tempfile::tempdir()?;
        // for whoever looks for a failure: the services' logs are in market/logs
        directory.disable_cleanup(std::env::var_os("SANDRUN_TEST_KEEP").is_some());
        let mut config = TestnetConfig {
            program: BIN.into(),
            directory: directory.path().join("market"),
            publish: None,
            nodes: nodes.to_vec(),
            block_time: Some(1),
            ports: Ports::Free,
            manager: true,
            store: Store::Embedded,
            lines: Lines::default(),
            agent_arguments: Vec::new(),
        };
        change(&mut config);
        Ok(Self {
            market: LocalMarket::start(config, |_| ()).await?,
            directory,
        })
    }

    /// Writes a directory of code.
    pub(crate) fn code(&self, name: &str, files: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        for (file, text) in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().context("a parent")?)?;
            std::fs::write(file, text)?;
        }
        Ok(path)
    }

    /// A command with the market's addresses and the client's key.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BIN);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("SANDRUN_HOME", self.directory.path().join("home"))
            .env("SANDRUN_CONFIG", "/dev/null")
            .env("SANDRUN_RPC", &self.market.rpc)
            .env("SANDRUN_IPFS_API", &self.market.ipfs_api)
            .env("SANDRUN_DEPLOYMENTS", &self.market.deployments)
            .env("SANDRUN_KEY", &self.market.client_key)
            .env_remove("SANDRUN_POOL");
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        said(self.command(arguments)).await
    }

    /// Submits code and waits for its end.
    pub(crate) async fn submit(&self, code: &Path, redundancy: u8, more: &[&str]) -> anyhow::Result<Said> {
        let (code, redundancy) = (code.to_string_lossy().into_owned(), redundancy.to_string());
        let mut arguments = vec![
            "submit",
            "--json",
            "--code",
            &code,
            "--payment",
            "0.3",
            "--redundancy",
            &redundancy,
        ];
        arguments.extend(more);
        self.run(&arguments).await
    }

    /// Asks the manager until its answer is what is looked for.
    pub(crate) async fn manager(
        &self,
        path: &str,
        wanted: impl Fn(u16, &Value) -> bool,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.market.pool.as_deref().context("a manager")?);
        ask(&url, wanted).await
    }

    /// Coins that the client has, by the chain.
    pub(crate) async fn client_coins(&self) -> anyhow::Result<sandrun_types::Amount> {
        let reader = self.market.reader().await?;
        let credit = reader
            .credit(self.market.client, sandrun_types::Token::Native)
            .await?;
        let coins = reader.chain().balance(self.market.client).await?;
        coins.checked_add(credit).context("a sum")
    }
}

/// Asks a service until its answer is what is looked for.
pub(crate) async fn ask(url: &str, wanted: impl Fn(u16, &Value) -> bool) -> anyhow::Result<Value> {
    let (started, mut last) = (Instant::now(), Value::Null);
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    while started.elapsed() < PATIENCE {
        looks.tick().await;
        let answer = reqwest::get(url).await?;
        let status = answer.status().as_u16();
        last = answer.json().await?;
        if wanted(status, &last) {
            return Ok(last);
        }
    }
    anyhow::bail!("{url} never said what was wanted, at last: {last}")
}

/// Runs a command to its end, within the patience of a test.
pub(crate) async fn said(mut command: Command) -> anyhow::Result<Said> {
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output())
        .await
        .context("the command hangs")??;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

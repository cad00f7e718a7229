//! A broker with a node and its executor, and the command line as a user runs it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::process::Process;
use crate::support::{BIN, Said, said};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that a job needs.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) broker: Process,
    pub(crate) executor: Process,
    /// The executor's public key.
    pub(crate) worker: String,
    node: Process,
}

/// A command in a directory of its own.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command
        .args(arguments)
        .current_dir(directory)
        .env("SANDRUN_HOME", directory.join("home"))
        .env("SANDRUN_CONFIG", "/dev/null")
        // nothing of this needs a chain
        .env("SANDRUN_RPC", "http://127.0.0.1:1")
        .env_remove("SANDRUN_TO")
        .env_remove("SANDRUN_CLIENT");
    command
}

impl World {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let start = |arguments: &[&str]| Process::start(command(directory.path(), arguments));
        let broker = start(&["broker", "--port", "0"]).await?;
        let key = ["sandrun", "--generate-key", "worker.pem"];
        let made = said(command(directory.path(), &key)).await?;
        let worker = made
            .stdout
            .trim()
            .strip_prefix("Worker ID: ")
            .context("a key")?
            .to_owned();
        let several = ["--parallel", "4", "--worker-key", "worker.pem"];
        let executor = start(&[&["sandrun", "--port", "0", "--no-quota"], &several[..]].concat()).await?;
        let (to, run) = (broker.ready.clone(), executor.ready.clone());
        let several = ["--max-concurrent-jobs", "4", "--heartbeat-interval", "1"];
        let node = start(&[&["node", "--broker", &to, "--sandrun", &run], &several[..]].concat()).await?;
        Ok(Self {
            directory,
            broker,
            executor,
            worker,
            node,
        })
    }

    /// Writes a file below the directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().context("a parent")?)?;
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// What a file says.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<String> {
        let path = self.directory.path().join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// A command at the broker; its address is in the environment.
    pub(crate) fn command(&self, line: &str) -> Command {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let mut command = command(self.directory.path(), &arguments);
        command.env("SANDRUN_TO", &self.broker.ready);
        command
    }

    /// Runs a command at the broker to its end.
    pub(crate) async fn run(&self, line: &str) -> anyhow::Result<Said> {
        said(self.command(line)).await
    }

    /// As JSON, for a command that ends well.
    pub(crate) async fn json(&self, line: &str) -> anyhow::Result<Value> {
        let said = self.run(&format!("{line} --json")).await?;
        anyhow::ensure!(said.code == 0, "{line}: {said:?}");
        said.json()
    }

    /// Submits without waiting; the job's id.
    pub(crate) async fn detached(&self, line: &str) -> anyhow::Result<String> {
        let job = self.json(&format!("submit --detach {line}")).await?;
        Ok(job["job"].as_str().context("no id")?.to_owned())
    }

    /// Asks until the answer is what is looked for.
    pub(crate) async fn until(&self, line: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let started = Instant::now();
        loop {
            let last = self.json(line).await?;
            if wanted(&last) {
                return Ok(last);
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "{line} never said what was wanted, at last: {last}"
            );
        }
    }

    /// Starts a command whose output is read while it runs.
    pub(crate) fn start(&self, line: &str) -> anyhow::Result<Running> {
        let mut child = self
            .command(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        Ok(Running { child, lines })
    }

    /// Kills the broker as a power cut would, and starts it again at the same place.
    pub(crate) async fn restart_broker(self) -> anyhow::Result<Self> {
        let port = self.broker.ready.rsplit(':').next().context("a port")?.to_owned();
        self.broker.kill().await?;
        let again = ["broker", "--port", &port];
        let broker = Process::start(command(self.directory.path(), &again)).await?;
        Ok(Self { broker, ..self })
    }

    /// Ends everything; each with 0.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for (name, process) in [
            ("node", self.node),
            ("sandrun", self.executor),
            ("broker", self.broker),
        ] {
            let (code, _) = process.terminate().await?;
            anyhow::ensure!(code == 0, "{name} ended with {code}");
        }
        Ok(())
    }
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// The next line; `None` at the end of its output.
    pub(crate) async fn line(&mut self) -> anyhow::Result<Option<String>> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        Ok(line.context("no line in time")??)
    }

    /// Waits for its end; its exit code.
    pub(crate) async fn end(mut self) -> anyhow::Result<i32> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        Ok(status.context("it does not end")??.code().unwrap_or(-1))
    }
}

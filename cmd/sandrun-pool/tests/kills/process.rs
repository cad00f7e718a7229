//! A service as a process that is killed and started again at the same place.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for a service to be ready.
const START: Duration = Duration::from_secs(60);
/// How long a service may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// What is started.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    /// Where it runs, and where its logs go.
    pub(crate) folder: PathBuf,
}

/// A process of it; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    plan: Plan,
    child: Child,
}

impl Plan {
    pub(crate) fn command(&self) -> Command {
        let program = std::env::var_os("SANDRUN_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_sandrun-pool").into());
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env("SANDRUN_HOME", self.folder.join("home"))
            .env("SANDRUN_CONFIG", "/dev/null")
            .env_remove("SANDRUN_TO");
        command
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> anyhow::Result<Process> {
        let log = self.folder.join(format!("{}.log", self.name));
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let first = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("listening on ") || line.starts_with("ready: ") {
                    return Ok(());
                }
            }
            anyhow::bail!("it ended before it was ready")
        };
        let ready = tokio::time::timeout(START, first).await;
        let ready = ready.context("not ready in time").flatten();
        ready.with_context(|| format!("starting {}", self.name))?;
        Ok(Process { plan: self, child })
    }
}

impl Process {
    /// Kills it as a power cut would; what to start again.
    pub(crate) async fn kill(mut self) -> anyhow::Result<Plan> {
        self.child.kill().await?;
        Ok(self.plan)
    }

    /// Tells it to end, which it has to do well and in time.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id().context("it has ended by itself")?)?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let status = tokio::time::timeout(GRACE, self.child.wait())
            .await
            .with_context(|| format!("{} does not end", self.plan.name))??;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.plan.name);
        Ok(())
    }
}

//! A service as a process of its own, with the ends that it can come to.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for a service to be ready.
const START: Duration = Duration::from_secs(60);
/// How long a service may take to end (architecture.md).
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A service that was started; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// What followed `listening on `, or the whole line that says that it is ready.
    pub(crate) ready: String,
}

impl Process {
    /// Starts a service and waits until it says where it is.
    pub(crate) async fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let first = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(url) = line.strip_prefix("listening on ") {
                    return Ok(url.trim_end_matches('/').to_owned());
                }
                if line.starts_with("ready: ") {
                    return Ok(line);
                }
            }
            anyhow::bail!("{command:?} ended before it was ready")
        };
        let ready = tokio::time::timeout(START, first)
            .await
            .context("not ready in time")??;
        Ok(Self { child, ready })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.child.id().context("a process that runs")?)?)
    }

    /// Sends SIGTERM and waits; its exit code and how long that took.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<(i32, Duration)> {
        let started = Instant::now();
        kill(Pid::from_raw(self.id()?), Signal::SIGTERM)?;
        let status = tokio::time::timeout(2 * GRACE, self.child.wait())
            .await
            .context("it does not end")??;
        Ok((status.code().unwrap_or(-1), started.elapsed()))
    }

    /// Kills it as a power cut would.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

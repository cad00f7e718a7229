//! Child processes. Owns their start, their logs, the line by which they say that they are ready, and their orderly end.
//! Never knows what a service does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a service may take until it says that it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a service may take to end; its tether kills it a little earlier.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// What to start.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Name in messages and of the log file.
    pub name: String,
    /// The sandrun-pool binary, which tethers the service: it ends even when this process is killed.
    pub tether: PathBuf,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Directory of the log file.
    pub logs: PathBuf,
    /// Environment beside the inherited one.
    pub env: Vec<(String, String)>,
}

/// A service that runs. Dropping it closes its standard input, upon which its tether ends it.
#[derive(Debug)]
pub struct Service {
    spec: ServiceSpec,
    log: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Service {
    /// Starts a service and waits until `ready` finds what it looks for in a line of its standard output.
    ///
    /// # Errors
    /// The program is missing, ends early, or says nothing within a minute; the end of its log is in the message.
    pub async fn start<T>(spec: ServiceSpec, ready: impl Fn(&str) -> Option<T>) -> anyhow::Result<(Self, T)> {
        tokio::fs::create_dir_all(&spec.logs)
            .await
            .with_context(|| format!("creating {}", spec.logs.display()))?;
        let log = spec.logs.join(format!("{}.log", spec.name));
        let file = std::fs::File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("creating {}", log.display()))?;
        let mut child = Command::new(&spec.tether)
            .arg("__tether")
            .arg("--")
            .args(&spec.command)
            .foreign_settings_removed()
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            // Ctrl-C in a terminal goes to the whole group: the order of the end is ours
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", spec.tether.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a piped standard output")?;
        let mut service = Self {
            spec,
            log,
            child,
            stdin,
        };
        let mut lines = BufReader::new(stdout).lines();
        let found = tokio::time::timeout(START_LIMIT, service.first(&mut lines, ready)).await;
        let value = match found {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => {
                service.stop().await;
                return Err(error);
            }
            Err(_) => {
                service.stop().await;
                anyhow::bail!(
                    "{} was not ready within {START_LIMIT:?}: {}",
                    service.name(),
                    tail(&service.log)
                );
            }
        };
        tokio::spawn(drain(lines, service.log.clone()));
        Ok((service, value))
    }

    async fn first<T>(
        &self,
        lines: &mut Lines<BufReader<ChildStdout>>,
        ready: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        while let Some(line) = lines.next_line().await? {
            if let Some(value) = ready(&line) {
                return Ok(value);
            }
        }
        anyhow::bail!("{} ended before it was ready: {}", self.name(), tail(&self.log))
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where its log lies.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Process id of the tether, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the service has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Ends the service and waits for it; killed when it takes too long.
    pub async fn stop(&mut self) {
        self.stdin = None;
        if tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            tracing::warn!(service = self.name(), "did not end in time and is killed");
            let _ = self.child.kill().await;
        }
    }
}

/// What can be done to a service by force.
impl Service {
    /// A service that took any free port takes this address's when it starts again: others know it by that.
    pub fn pin(&mut self, url: &str) {
        let port = url.rsplit(':').next().unwrap_or_default();
        if let Some(at) = self.spec.command.iter().position(|it| it == "--port")
            && let Some(value) = self.spec.command.get_mut(at + 1)
        {
            *value = port.into();
        }
    }

    /// Has it take these arguments and variables too when it starts again.
    pub fn also(&mut self, arguments: &[&str], env: &[(&str, &str)]) {
        self.spec.command.extend(arguments.iter().map(Into::into));
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.spec.env.extend(env);
    }

    /// Has another command start its program from now on: one that becomes what its last arguments name, as `nsenter` does.
    pub fn within(&mut self, command: &[OsString]) {
        self.spec.command.splice(0..0, command.iter().cloned());
    }

    /// Process id of the program itself.
    ///
    /// # Errors
    /// It has ended.
    pub fn program(&self) -> anyhow::Result<Pid> {
        let tether = self.id().with_context(|| format!("{} has ended", self.name()))?;
        let children = std::fs::read_to_string(format!("/proc/{tether}/task/{tether}/children"));
        let child = children
            .ok()
            .and_then(|it| it.split_whitespace().next()?.parse().ok());
        let child = child.and_then(Pid::from_raw);
        child.with_context(|| format!("{} has ended", self.name()))
    }

    /// Stops the program, as a debugger or a machine that sleeps does.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        Ok(kill_process(self.program()?, Signal::STOP)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        Ok(kill_process(self.program()?, Signal::CONT)?)
    }

    /// Kills the program as a power cut does (`kill -9`), and waits until it is gone.
    ///
    /// # Errors
    /// It has ended by itself.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        kill_process(self.program()?, Signal::KILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// Starts it anew, with the same arguments, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        let ready = |line: &str| (listening(line).is_some() || line.starts_with("ready: ")).then_some(());
        let (again, ()) = Self::start(self.spec.clone(), ready).await?;
        *self = again;
        Ok(())
    }
}

/// Whoever starts a network has settings for their own commands: none of them may reach its services.
trait Inherit {
    fn foreign_settings_removed(&mut self) -> &mut Self;
}

impl Inherit for Command {
    fn foreign_settings_removed(&mut self) -> &mut Self {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SANDRUN_") {
                self.env_remove(name);
            }
        }
        self
    }
}

/// Appends what the service still prints to its log.
async fn drain(mut lines: Lines<BufReader<ChildStdout>>, log: PathBuf) {
    let Ok(mut file) = tokio::fs::OpenOptions::new().append(true).open(log).await else {
        return;
    };
    while let Ok(Some(line)) = lines.next_line().await {
        if file.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The last lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(8);
    if lines.is_empty() {
        format!("its log {} is empty", log.display())
    } else {
        format!("the end of {}:\n  {}", log.display(), lines[last..].join("\n  "))
    }
}

/// Finds the address in the line `listening on http://…` that every service prints.
pub fn listening(line: &str) -> Option<String> {
    line.strip_prefix("listening on ")
        .map(|url| url.trim().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address() {
        assert_eq!(
            listening("listening on http://127.0.0.1:80/").as_deref(),
            Some("http://127.0.0.1:80")
        );
        assert_eq!(listening("other"), None);
    }
}

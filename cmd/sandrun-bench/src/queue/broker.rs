//! Services of the released binary, each with a folder of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandrun_testnet::{Service, ServiceSpec, listening};

/// A running broker or coordinator.
pub(super) struct Broker {
    service: Service,
    command: &'static str,
    /// Its address.
    pub(super) url: String,
    /// Where its database lies, unless it is a server's.
    pub(super) directory: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Broker {
    /// Starts a broker with SQLite.
    ///
    /// # Errors
    /// A binary that does not start.
    pub(super) async fn start(program: &Path) -> anyhow::Result<Self> {
        Self::launch(program, "broker", None, |_| Ok(Vec::new())).await
    }

    /// Starts a broker whose database is at this address.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) async fn start_at(program: &Path, database: &str) -> anyhow::Result<Self> {
        Self::launch(program, "broker", Some(database), |_| Ok(Vec::new())).await
    }

    /// Starts a coordinator with SQLite and this list of workers.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) async fn start_coordinator(program: &Path, workers: &str) -> anyhow::Result<Self> {
        Self::launch(program, "coordinator", None, |directory| {
            let list = directory.join("workers.json");
            std::fs::write(&list, workers).context("the list of workers")?;
            Ok(vec!["--workers".into(), list.into()])
        })
        .await
    }

    async fn launch(
        program: &Path,
        name: &'static str,
        database: Option<&str>,
        more: impl FnOnce(&Path) -> anyhow::Result<Vec<OsString>>,
    ) -> anyhow::Result<Self> {
        let temporary = tempfile::tempdir().context("a temporary directory")?;
        let directory = temporary.path().join(name);
        std::fs::create_dir(&directory)?;
        let mut command = vec![program.into()];
        command.extend([name, "--port", "0", "--db"].map(Into::into));
        command.push(match database {
            Some(url) => url.into(),
            None => directory.join("queue.sqlite").into(),
        });
        command.extend(more(&directory)?);
        let spec = ServiceSpec {
            name: name.to_owned(),
            tether: program.to_owned(),
            command,
            logs: temporary.path().join("logs"),
            // a user's own settings must not leak into the figure
            env: vec![
                ("SANDRUN_CONFIG".into(), "/dev/null".into()),
                ("RUST_LOG".into(), "warn".into()),
            ],
        };
        let (service, url) = Service::start(spec, listening).await?;
        Ok(Self {
            service,
            command: name,
            url,
            directory,
            _temporary: temporary,
        })
    }

    /// Bytes of memory that it has (resident); only of one with SQLite.
    ///
    /// # Errors
    /// A system without /proc.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        let process = self.process()?;
        let status = std::fs::read_to_string(process.join("status")).context("its /proc/…/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
            .context("no VmRSS in its status")?;
        Ok(kib * 1_024)
    }

    /// The process that serves this directory: the service itself runs below a tether.
    fn process(&self) -> anyhow::Result<PathBuf> {
        let wanted = self.directory.join("queue.sqlite");
        let wanted = wanted.to_string_lossy();
        for entry in std::fs::read_dir("/proc").context("/proc")? {
            let path = entry?.path();
            let Ok(line) = std::fs::read(path.join("cmdline")) else {
                continue;
            };
            let mut words = line.split(|byte| *byte == 0);
            let is_ours = words.clone().any(|word| word == wanted.as_bytes());
            // the tether names the whole command behind its own
            if is_ours && words.nth(1) == Some(self.command.as_bytes()) {
                return Ok(path);
            }
        }
        anyhow::bail!("the process of the {} is not to be found", self.command)
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        self.service.stop().await;
    }
}

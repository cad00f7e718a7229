//! The broker of the released binary, with a database of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandrun_testnet::{Service, ServiceSpec, listening};

/// A running broker.
pub(super) struct Broker {
    service: Service,
    /// Its address.
    pub(super) url: String,
    /// Where its database lies.
    pub(super) directory: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Broker {
    /// Starts one.
    ///
    /// # Errors
    /// A binary that does not start.
    pub(super) async fn start(program: &Path) -> anyhow::Result<Self> {
        let temporary = tempfile::tempdir().context("a temporary directory")?;
        let directory = temporary.path().join("broker");
        std::fs::create_dir(&directory)?;
        let mut command = vec![program.into()];
        command.extend(["broker", "--port", "0", "--db"].map(Into::into));
        command.push(directory.join("broker.sqlite").into());
        let spec = ServiceSpec {
            name: "broker".to_owned(),
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
            url,
            directory,
            _temporary: temporary,
        })
    }

    /// Bytes of memory that it has (resident).
    ///
    /// # Errors
    /// A system without /proc.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        let process = broker_process(&self.directory)?;
        let status = std::fs::read_to_string(process.join("status")).context("its /proc/…/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
            .context("no VmRSS in its status")?;
        Ok(kib * 1_024)
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        self.service.stop().await;
    }
}

/// The process that serves this directory: the service itself runs below a tether.
fn broker_process(directory: &Path) -> anyhow::Result<PathBuf> {
    let wanted = directory.join("broker.sqlite");
    let wanted = wanted.to_string_lossy();
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let path = entry?.path();
        let Ok(line) = std::fs::read(path.join("cmdline")) else {
            continue;
        };
        let mut words = line.split(|byte| *byte == 0);
        let is_ours = words.clone().any(|word| word == wanted.as_bytes());
        // the tether names the whole command behind its own
        if is_ours && words.nth(1) == Some(b"broker") {
            return Ok(path);
        }
    }
    anyhow::bail!("the broker's process is not to be found")
}

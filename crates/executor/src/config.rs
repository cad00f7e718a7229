//! What an executor is started with. Owns the settings and their defaults; never reads a flag or a file.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use sandrun_environment::EnvironmentsConfig;
use sandrun_sandbox::SandboxConfig;

use crate::jobs::{QuotaRules, Retention};

/// The port that sandrun services listen on.
pub const DEFAULT_PORT: u16 = 8443;

/// Everything that [`crate::serve`] needs to know.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// Where to listen. Port 0 takes any free one, see [`crate::Executor::local_addr`].
    pub listen: SocketAddr,
    /// PKCS#8 PEM file of the worker key; an anonymous executor has none and signs nothing.
    pub worker_key: Option<PathBuf>,
    /// Folder for uploads, outputs and logs. Made if it is missing, locked while the service runs, and emptied of a
    /// former run's leftovers at start.
    pub data_dir: PathBuf,
    /// What one job may use.
    pub limits: Limits,
    /// What one client may use; `None` switches quotas off.
    pub quota: Option<QuotaRules>,
    /// Jobs that run at once.
    pub parallel: NonZeroU32,
    /// Jobs that may wait; one more is refused with 503.
    pub max_queued: usize,
    /// How long an ended job's data is kept.
    pub retention: Retention,
    /// Bytes that the data of ended jobs may take together: the oldest goes before its time to make room. `None` is a
    /// quarter of what is free on the disk at start, [`Self::MOST_KEPT`] at most.
    pub kept_bytes: Option<u64>,
    /// How jobs are isolated.
    pub sandbox: SandboxConfig,
    /// The images of packages that jobs can name; they are kept in a folder of the data folder, over restarts too.
    pub environments: EnvironmentsConfig,
    /// How long jobs, streams and requests in flight have to end after the shutdown signal, before they are dropped.
    pub grace: Duration,
}

impl ExecutorConfig {
    /// Most bytes that ended jobs' data takes where no setting says so.
    pub const MOST_KEPT: u64 = 2 << 30;

    /// Defaults: loopback, anonymous, the quotas and limits of the wire description, as many jobs at once as there
    /// are CPU cores.
    #[must_use]
    pub fn new(data_dir: PathBuf, sandbox: SandboxConfig) -> Self {
        let cores = std::thread::available_parallelism()
            .ok()
            .and_then(|cores| u32::try_from(cores.get()).ok());
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            worker_key: None,
            data_dir,
            limits: Limits::default(),
            quota: Some(QuotaRules::default()),
            parallel: cores.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
            max_queued: 256,
            retention: Retention::default(),
            kept_bytes: None,
            sandbox,
            environments: EnvironmentsConfig::default(),
            grace: Duration::from_secs(5),
        }
    }

    /// Switches everything off that is counted per client, and the CPU time limit that comes with it: what an agent's
    /// own executor runs with (`--no-quota`). The wall clock still bounds every job.
    #[must_use]
    pub fn without_quota(mut self) -> Self {
        self.quota = None;
        self.limits.default_cpu_seconds = None;
        self
    }
}

/// What one job may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one upload, compressed or not.
    pub upload_bytes: u64,
    /// Bytes of one bundle after unpacking.
    pub unpacked_bytes: u64,
    /// Files and folders of one bundle.
    pub bundle_entries: usize,
    /// Seconds of wall clock where the manifest asks for none.
    pub default_timeout: u32,
    /// Memory in MiB where the manifest asks for none.
    pub default_memory_mb: u32,
    /// Most memory in MiB that a manifest may ask for.
    pub max_memory_mb: u32,
    /// CPU seconds per minute of the wall clock limit where the manifest asks for none; `None` leaves only the wall
    /// clock.
    pub default_cpu_seconds: Option<u32>,
    /// Processes and threads at once.
    pub processes: u32,
    /// Open files of one process.
    pub open_files: u32,
    /// Bytes that the job may write to its own file systems.
    pub tmpfs_bytes: u64,
    /// Bytes of stdout and stderr together that are kept.
    pub captured_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            upload_bytes: 100 * MIB,
            unpacked_bytes: 100 * MIB,
            bundle_entries: 10_000,
            default_timeout: 300,
            default_memory_mb: 512,
            max_memory_mb: 2048,
            default_cpu_seconds: Some(10),
            processes: 32,
            open_files: 256,
            tmpfs_bytes: 100 * MIB,
            captured_bytes: 10 * MIB,
        }
    }
}

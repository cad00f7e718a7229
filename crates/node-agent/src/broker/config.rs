//! What a broker's node is started with. Owns the settings and their defaults; never reads a flag, a file or the
//! environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::detect::Detection;

/// Everything that [`crate::run_for_broker`] needs to know.
#[derive(Debug, Clone)]
pub struct BrokerNodeConfig {
    /// Base URL of the broker.
    pub broker_url: String,
    /// Base URL of the node's executor.
    pub sandrun_url: String,
    /// The name under which the broker knows this node: it gives the same id for the same one. `None` makes one of the
    /// executor's address, with this machine's name in the place of a loopback address.
    pub endpoint: Option<String>,
    /// Folder for answers that are still to be delivered and for files; made if it is missing.
    pub data_dir: PathBuf,
    /// Pause between two questions for work, where the broker does not wait with its answer.
    pub poll_interval: Duration,
    /// Pause between two signs of life. While jobs run it is five seconds at most with a broker that cancels jobs so.
    pub heartbeat_interval: Duration,
    /// Jobs at once.
    pub max_concurrent_jobs: u32,
    /// How long a job may run that does not say so itself.
    pub job_timeout: Duration,
    /// How much longer than a job's own time the node waits for its executor to end it.
    pub timeout_buffer: Duration,
    /// Most memory in MiB that the executor gives a job: no more of what is found is announced. `None` announces all of it.
    pub max_memory_mib: Option<u32>,
    /// What is announced in the place of what is found.
    pub capabilities: Option<StatedCapabilities>,
    /// How to look at the machine.
    pub detection: Detection,
    /// Where to serve `/metrics` and `/health`; `None` serves nothing.
    pub metrics: Option<SocketAddr>,
}

impl BrokerNodeConfig {
    /// The defaults, with what has none.
    #[must_use]
    pub fn new(broker_url: String, sandrun_url: String, data_dir: PathBuf) -> Self {
        Self {
            broker_url,
            sandrun_url,
            endpoint: None,
            data_dir,
            poll_interval: Duration::from_secs(5),
            heartbeat_interval: Duration::from_secs(30),
            max_concurrent_jobs: 1,
            job_timeout: Duration::from_secs(300),
            timeout_buffer: Duration::from_secs(10),
            max_memory_mib: None,
            capabilities: None,
            detection: Detection::default(),
            metrics: None,
        }
    }
}

/// Capabilities as a node's configuration file states them; what is left out is detected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatedCapabilities {
    /// Processors.
    pub cpu_cores: Option<u16>,
    /// Memory in GiB.
    pub memory_gb: Option<f64>,
    /// Whether jobs may use the graphics cards.
    pub gpu: Option<bool>,
    /// Names of interpreters.
    pub interpreters: Option<Vec<String>>,
}

//! `sandrun`: the executor as a service.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sandrun_executor::{
    DEFAULT_PORT, Executor, ExecutorConfig, QuotaRules, SandboxConfig, ServeError, worker_key,
};

use crate::args::{EnvironmentListArgs, ListenArgs, StoreArgs};
use crate::exit::{Failure, Status, WithStatus as _, words};
use crate::output::{announce, remark};
use crate::signals::shutdown;

/// Arguments of `sandrun`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool sandrun --generate-key worker.pem\n  \
    sandrun-pool sandrun --port 8443 --worker-key worker.pem\n  \
    curl -F files=@main.py -F 'manifest={\"entrypoint\":\"main.py\"}' http://127.0.0.1:8443/submit")]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: ListenArgs,
    /// Port; 0 takes any free one
    #[arg(long, default_value_t = DEFAULT_PORT, env = "SANDRUN_PORT")]
    port: u16,
    /// Worker key (Ed25519, PKCS#8 PEM, mode 0600) that signs receipts; anonymous without
    #[arg(long, value_name = "FILE", env = "SANDRUN_WORKER_KEY")]
    worker_key: Option<PathBuf>,
    /// Make a worker key in this file, print its id, and end
    #[arg(long, value_name = "FILE")]
    generate_key: Option<PathBuf>,
    /// Directory for uploads, outputs and logs
    #[arg(long, value_name = "DIR", env = "SANDRUN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Jobs that run at once; the number of cores when not given
    #[arg(long, value_name = "N")]
    parallel: Option<NonZeroU32>,
    /// No quota per client: for an agent's own executor
    #[arg(long)]
    no_quota: bool,
    /// CPU seconds a minute that one client may use
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    quota_cpu: u32,
    /// Jobs that one client may run at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    quota_jobs: u32,
    /// Jobs that one client may submit in an hour
    #[arg(long, value_name = "N", default_value_t = 20)]
    quota_hourly: u32,
    /// Largest upload, MiB
    #[arg(long, value_name = "MIB", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    max_upload: u32,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    names: EnvironmentListArgs,
    /// What environments may take on disk, MiB; the one used longest ago makes room
    #[arg(long, value_name = "MIB", default_value_t = 8192)]
    environments_size: u32,
    /// Most memory that a job may ask for, MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    max_memory: u32,
}

/// Serves until the process is told to end.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    if let Some(path) = &arguments.generate_key {
        let id = worker_key::generate(path).status(Status::BadInput)?;
        remark(&format!("Saved worker key to: {}", path.display()));
        announce(&format!("Worker ID: {id}"));
        return Ok(Status::Success);
    }
    let executor = Executor::start(config(arguments)?).await.map_err(|error| {
        let status = match error {
            ServeError::WorkerKey(_)
            | ServeError::DataDir { .. }
            | ServeError::Environments(_)
            | ServeError::Locked(_)
            | ServeError::Listen { .. } => Status::BadInput,
            ServeError::Sandbox(_) | ServeError::Task(_) | ServeError::Http(_) => Status::Failure,
        };
        Failure::new(status, words(&error.into()))
    })?;
    announce(&format!("listening on http://{}", executor.local_addr()));
    executor.run(shutdown()).await?;
    Ok(Status::Success)
}

fn config(arguments: &Arguments) -> anyhow::Result<ExecutorConfig> {
    let program = std::env::current_exe().context("the path of this program can't be found")?;
    let sandbox = SandboxConfig::new(vec![program.into_os_string(), "__sandbox".into()]);
    let data_dir = arguments
        .data_dir
        .clone()
        .unwrap_or_else(|| crate::config::home().join("sandrun"));
    let mut config = ExecutorConfig::new(data_dir, sandbox);
    config.listen = arguments.listen.at(arguments.port);
    config.worker_key = arguments.worker_key.clone();
    config.quota = (!arguments.no_quota).then(|| QuotaRules {
        cpu_per_minute: Duration::from_secs(arguments.quota_cpu.into()),
        jobs_at_once: arguments.quota_jobs,
        jobs_per_hour: arguments.quota_hourly,
    });
    if let Some(parallel) = arguments.parallel {
        config.parallel = parallel;
    }
    if arguments.no_quota {
        // an agent answers for its jobs' real time; a CPU budget of our own would make nodes differ
        config.limits.default_cpu_seconds = None;
    }
    config.limits.upload_bytes = u64::from(arguments.max_upload) << 20;
    config.limits.unpacked_bytes = config.limits.upload_bytes;
    config.limits.max_memory_mb = arguments.max_memory;
    config.environments.list = arguments.names.list()?;
    config.environments.max_bytes = u64::from(arguments.environments_size) << 20;
    config.environments.store = Some(Arc::new(arguments.store.client()?));
    Ok(config)
}

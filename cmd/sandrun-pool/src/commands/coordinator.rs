//! `coordinator`: a trusted pool as a service.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pool_manager::{BrokerError, Coordinator, CoordinatorConfig, CoordinatorError, QueueSettings};
use sandrun_store::queue::QueueStoreError;

use super::broker::database;
use crate::args::ListenArgs;
use crate::exit::{Failure, Status, words};
use crate::output::announce;
use crate::signals::shutdown;

/// Longest name; executors sign far longer ones.
const MAX_NAME: usize = 200;

/// Arguments of `coordinator`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool coordinator --port 9000 --workers workers.json\n  \
    sandrun-pool sandrun --generate-key worker.pem    # its `Worker ID` goes into workers.json:\n  \
    [{\"worker_id\": \"…\", \"endpoint\": \"http://10.0.0.7:8443\", \"max_concurrent_jobs\": 4}]\n  \
    curl http://127.0.0.1:9000/submit -F files=@main.py -F 'manifest={\"entrypoint\": \"main.py\"}'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: ListenArgs,
    /// Port; 0 takes any free one
    #[arg(long, default_value_t = 9000, env = "COORDINATOR_PORT")]
    port: u16,
    /// List of workers, JSON: worker_id, endpoint, and as far as there are any max_concurrent_jobs, region, labels; read
    /// again when it changes
    #[arg(long, value_name = "FILE", env = "COORDINATOR_WORKERS")]
    workers: PathBuf,
    /// Queue: a file, or postgres://user@host/database
    #[arg(long, value_name = "FILE|URL", env = "COORDINATOR_DB", hide_env_values = true)]
    db: Option<String>,
    /// Seconds that a job runs where it does not say; the least that it is left to a worker
    #[arg(long, value_name = "SECONDS", env = "JOB_TIMEOUT", default_value_t = QueueSettings::COORDINATOR.job_timeout,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    job_timeout: u32,
    /// Seconds that results are kept
    #[arg(long, value_name = "SECONDS", env = "RESULT_TTL", default_value_t = QueueSettings::COORDINATOR.result_ttl,
        value_parser = clap::value_parser!(u32).range(1..))]
    result_ttl: u32,
    /// How many attempts of a job may be lost before it fails
    #[arg(long, value_name = "N", env = "MAX_RETRIES", default_value_t = QueueSettings::COORDINATOR.max_retries)]
    max_retries: u8,
    /// Seconds between two questions about a worker's health
    #[arg(long, value_name = "SECONDS", env = "HEALTH_INTERVAL", default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=3_600))]
    health_interval: u32,
    /// Believe workers that do not prove their key, and answers without a receipt: executors of old
    #[arg(long)]
    allow_unproven: bool,
    /// Name of this coordinator, which workers' proofs are bound to
    #[arg(long, default_value = "sandrun-coordinator", env = "COORDINATOR_NAME", value_parser = name)]
    name: String,
}

/// A name that every executor signs: it stands on a line of its own in what is signed.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(format!(
            "1 to {MAX_NAME} bytes are needed, without control characters"
        ));
    }
    Ok(text.to_owned())
}

/// Serves until the process is told to end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let config = CoordinatorConfig {
        listen: arguments.listen.at(arguments.port),
        database: database(arguments.db.as_deref(), "coordinator")?,
        settings: QueueSettings {
            job_timeout: arguments.job_timeout,
            result_ttl: arguments.result_ttl,
            max_retries: arguments.max_retries,
            ..QueueSettings::COORDINATOR
        },
        workers: arguments.workers,
        health_interval: Duration::from_secs(arguments.health_interval.into()),
        allow_unproven: arguments.allow_unproven,
        name: arguments.name,
    };
    let coordinator = Coordinator::start(config).await.map_err(|error| {
        let status = match &error {
            CoordinatorError::Service(BrokerError::Store(QueueStoreError::Lost { .. })) => {
                Status::Unreachable
            }
            CoordinatorError::Unreadable { .. }
            | CoordinatorError::List { .. }
            | CoordinatorError::Service(BrokerError::Store(_) | BrokerError::Listen { .. }) => {
                Status::BadInput
            }
            CoordinatorError::Service(BrokerError::Queue(_) | BrokerError::Task(_) | BrokerError::Died) => {
                Status::Failure
            }
        };
        Failure::new(status, words(&error.into()))
    })?;
    announce(&format!("listening on http://{}", coordinator.local_addr()));
    coordinator.run(shutdown()).await?;
    Ok(Status::Success)
}

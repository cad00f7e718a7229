//! `broker`: an open queue as a service.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use pool_manager::{Broker, BrokerConfig, BrokerError, QueueSettings};
use sandrun_store::queue::{QueueAddress, QueueStoreError};

use crate::args::ListenArgs;
use crate::exit::{Failure, Status, WithStatus as _, words};
use crate::output::announce;
use crate::signals::shutdown;

/// Arguments of `broker`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool broker --port 8000\n  \
    sandrun-pool broker --db postgres://me@db.example/queue    # one of several replicas\n  \
    curl http://127.0.0.1:8000/submit -d '{\"code\": \"print(1)\"}'\n  \
    sandrun-pool node --broker http://127.0.0.1:8000 --sandrun http://127.0.0.1:8443")]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: ListenArgs,
    /// Port; 0 takes any free one
    #[arg(long, default_value_t = 8000, env = "BROKER_PORT")]
    port: u16,
    /// Queue: a file (by default one in this program's own folder), or postgres://user@host/database, which several
    /// brokers can share
    #[arg(long, value_name = "FILE|URL", env = "BROKER_DB", hide_env_values = true)]
    db: Option<String>,
    /// Seconds that a job runs where it does not say; the least that it is left to a node
    #[arg(long, value_name = "SECONDS", env = "JOB_TIMEOUT", default_value_t = QueueSettings::BROKER.job_timeout,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    job_timeout: u32,
    /// Seconds that results are kept
    #[arg(long, value_name = "SECONDS", env = "RESULT_TTL", default_value_t = QueueSettings::BROKER.result_ttl,
        value_parser = clap::value_parser!(u32).range(1..))]
    result_ttl: u32,
    /// Seconds without a word after which a node is dead
    #[arg(long, value_name = "SECONDS", env = "NODE_TIMEOUT", default_value_t = QueueSettings::BROKER.node_timeout,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    node_timeout: u32,
    /// How many attempts of a job may be lost before it fails
    #[arg(long, value_name = "N", env = "MAX_RETRIES", default_value_t = QueueSettings::BROKER.max_retries)]
    max_retries: u8,
}

/// Serves until the process is told to end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let config = BrokerConfig {
        listen: arguments.listen.at(arguments.port),
        database: database(arguments.db.as_deref(), "broker")?,
        settings: QueueSettings {
            job_timeout: arguments.job_timeout,
            result_ttl: arguments.result_ttl,
            node_timeout: arguments.node_timeout,
            max_retries: arguments.max_retries,
            ..QueueSettings::BROKER
        },
    };
    let broker = Broker::start(config).await.map_err(|error| {
        let status = match &error {
            BrokerError::Store(QueueStoreError::Lost { .. }) => Status::Unreachable,
            BrokerError::Store(_) | BrokerError::Listen { .. } => Status::BadInput,
            BrokerError::Queue(_) | BrokerError::Task(_) | BrokerError::Died => Status::Failure,
        };
        Failure::new(status, words(&error.into()))
    })?;
    announce(&format!("listening on http://{}", broker.local_addr()));
    broker.run(shutdown()).await?;
    Ok(Status::Success)
}

/// Where the queue of a service lies; by default in a folder of this program's own, which is made.
pub(crate) fn database(given: Option<&str>, service: &str) -> anyhow::Result<QueueAddress> {
    if let Some(text) = given {
        return text.parse().context("--db").status(Status::BadInput);
    }
    let folder = crate::config::home().join(service);
    make(&folder)
        .with_context(|| format!("the folder {} can't be made", folder.display()))
        .status(Status::BadInput)?;
    Ok(QueueAddress::Sqlite(folder.join("queue.db")))
}

fn make(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

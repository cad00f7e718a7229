//! `node`: a broker's node as a service.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use client_sdk::pool::{Kind, PoolClient};
use node_agent::{BrokerNodeConfig, BrokerNodeError, Detection, StatedCapabilities};

use crate::args::MetricsArgs;
use crate::config::home;
use crate::exit::{Failure, Status, WithStatus as _, words};
use crate::output::announce;
use crate::signals::shutdown;

/// Arguments of `node`. The names of a node's JSON configuration file stand in [`JSON_KEYS`].
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sandrun-pool node --broker http://localhost:8000 --sandrun http://localhost:8443\n  \
    sandrun-pool node --config config.json --max-concurrent-jobs 4\n\n\
    --config also takes a node's JSON file: broker_url, sandrun_url, poll_interval, heartbeat_interval,\n\
    max_concurrent_jobs, job_timeout, timeout_buffer, capabilities. Start the node's executor with --no-quota.\n\n\
    It ends within ten seconds of SIGTERM: jobs that end by then are answered, the others are given back. Answers that\n\
    the broker could not be told are told by the next start.")]
pub(crate) struct Arguments {
    /// The broker
    #[arg(
        long,
        value_name = "URL",
        env = "BROKER_URL",
        default_value = "http://localhost:8000"
    )]
    broker: String,
    /// The node's executor
    #[arg(
        long,
        value_name = "URL",
        env = "SANDRUN_URL",
        default_value = "http://localhost:8443"
    )]
    sandrun: String,
    /// The name that the broker knows this node by; its executor's address on this machine when not given
    #[arg(long, value_name = "URL", env = "NODE_ENDPOINT")]
    endpoint: Option<String>,
    /// Directory for answers that are still to be delivered and for files
    #[arg(long, value_name = "DIR", env = "SANDRUN_NODE_DIR")]
    data_dir: Option<PathBuf>,
    /// Pause between two questions for work, where the broker does not wait with its answer
    #[arg(long, value_name = "SECONDS", env = "POLL_INTERVAL", default_value = "5", value_parser = seconds)]
    poll_interval: Duration,
    /// Pause between two signs of life
    #[arg(long, value_name = "SECONDS", env = "HEARTBEAT_INTERVAL", default_value = "30", value_parser = seconds)]
    heartbeat_interval: Duration,
    /// Jobs at once
    #[arg(long, value_name = "N", env = "MAX_CONCURRENT_JOBS", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_concurrent_jobs: u32,
    /// How long a job may run that does not say so itself
    #[arg(long, value_name = "SECONDS", env = "JOB_TIMEOUT", default_value = "300", value_parser = seconds)]
    job_timeout: Duration,
    /// How much longer than that to wait for the executor to end it
    #[arg(long, value_name = "SECONDS", env = "TIMEOUT_BUFFER", default_value = "10", value_parser = seconds)]
    timeout_buffer: Duration,
    /// Most memory that the executor gives a job, MiB, as its own --max-memory: no more is announced
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    max_memory: u32,
    /// Where the machine stands, for jobs that ask for a region
    #[arg(long, value_name = "NAME", env = "NODE_REGION")]
    region: Option<String>,
    /// What jobs may ask for besides, as KEY=VALUE; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Announce no graphics card
    #[arg(long)]
    no_gpu: bool,
    /// What to announce in the place of what is found: JSON with cpu_cores, memory_gb, gpu, interpreters
    #[arg(long, value_name = "JSON", value_parser = capabilities)]
    capabilities: Option<StatedCapabilities>,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// How long a broker is looked at before the node begins.
const LOOK: Duration = Duration::from_secs(2);

/// Keys of a node's JSON file and the options that they mean.
pub(crate) const JSON_KEYS: [(&str, &str); 8] = [
    ("broker_url", "broker"),
    ("sandrun_url", "sandrun"),
    ("poll_interval", "poll-interval"),
    ("heartbeat_interval", "heartbeat-interval"),
    ("max_concurrent_jobs", "max-concurrent-jobs"),
    ("job_timeout", "job-timeout"),
    ("timeout_buffer", "timeout-buffer"),
    ("capabilities", "capabilities"),
];

/// Seconds, with a fraction where one is given.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of seconds"))?;
    let time = Duration::try_from_secs_f64(number).map_err(|error| format!("`{text}`: {error}"))?;
    if time.is_zero() || time > Duration::from_secs(86_400) {
        return Err(format!("`{text}` is not above 0 and at most a day"));
    }
    Ok(time)
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    if key.is_empty() {
        return Err(format!("`{text}` has no key before the ="));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn capabilities(text: &str) -> Result<StatedCapabilities, serde_json::Error> {
    // a list would fill the fields in their order
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
    serde_json::from_value(serde_json::Value::Object(fields))
}

/// Works until the process is told to end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let data_dir = match arguments.data_dir {
        Some(folder) => folder,
        None => default_folder(&arguments.broker, &arguments.sandrun)?,
    };
    let mut capabilities = arguments.capabilities;
    if arguments.no_gpu {
        capabilities.get_or_insert_default().gpu = Some(false);
    }
    check_broker(&arguments.broker).await?;
    let config = BrokerNodeConfig {
        endpoint: arguments.endpoint,
        poll_interval: arguments.poll_interval,
        heartbeat_interval: arguments.heartbeat_interval,
        max_concurrent_jobs: arguments.max_concurrent_jobs,
        job_timeout: arguments.job_timeout,
        timeout_buffer: arguments.timeout_buffer,
        max_memory_mib: Some(arguments.max_memory),
        detection: Detection {
            region: arguments.region,
            labels: arguments.labels.into_iter().collect(),
            ..Detection::default()
        },
        capabilities,
        metrics: arguments.metrics.listen(),
        ..BrokerNodeConfig::new(arguments.broker, arguments.sandrun, data_dir)
    };
    let ready = |node: &str| announce(&format!("ready: node {node}"));
    let ended = node_agent::run_for_broker(config, ready, shutdown()).await;
    ended.map_err(|error| {
        let status = match error {
            BrokerNodeError::BrokerAddress { .. }
            | BrokerNodeError::Executor(_)
            | BrokerNodeError::Folder { .. }
            | BrokerNodeError::Locked(_)
            | BrokerNodeError::Metrics(_)
            | BrokerNodeError::Twin { .. } => Status::BadInput,
            BrokerNodeError::Setup(_) | BrokerNodeError::Task(_) => Status::Failure,
        };
        Failure::new(status, words(&error.into()))
    })?;
    Ok(Status::Success)
}

/// Refuses what says that it is something else; a broker that does not answer yet is waited for by the node.
async fn check_broker(url: &str) -> anyhow::Result<()> {
    let Ok(Ok(client)) = tokio::time::timeout(LOOK, PoolClient::connect(url, None)).await else {
        return Ok(());
    };
    let instead = match client.service().kind {
        Kind::Broker => return Ok(()),
        Kind::Coordinator => {
            "a coordinator, which nodes do not come to: it sends jobs to the executors of its workers.json, which need only `sandrun-pool sandrun`"
        }
        Kind::Executor => "an executor: give it with --sandrun, and a broker with --broker",
    };
    let text = format!("what answers at {} is no broker but {instead}", client.url());
    Err(Failure::new(Status::BadInput, text))
}

/// A folder of its own for each pair of broker and executor.
fn default_folder(broker: &str, sandrun: &str) -> anyhow::Result<PathBuf> {
    let name = sandrun_types::Sha256Hex::of(format!("{broker}\n{sandrun}").as_bytes()).to_string();
    let name = name
        .get(..16)
        .context("a hash has 64 digits")
        .status(Status::Failure)?;
    Ok(home().join("node").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_at_most_a_day() {
        assert_eq!(seconds("5"), Ok(Duration::from_secs(5)));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(label("disk=ssd=1"), Ok(("disk".to_owned(), "ssd=1".to_owned())));
        assert!(label("disk").is_err() && label("=ssd").is_err());
        for bad in ["0", "-1", "NaN", "inf", "1e9", "soon", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}

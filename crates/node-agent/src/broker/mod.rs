//! The node of a broker: claims jobs, has them run by an executor, and tells the broker what became of them.
//!
//! Owns the node's side of both of a broker's protocols: the one that every broker speaks, and ours (long polls, several
//! jobs a claim, logs while a job runs, files and outputs, cancelling and draining), which is known by the broker's
//! answers. Never runs a program itself, never decides whose turn a job is, and never says anything about a run whose
//! receipt does not hold.
//!
//! How it is driven: [`run_for_broker`] with a [`BrokerNodeConfig`] and a future that resolves when it has to end. Three
//! tasks share one [`node::Node`]: claims (`claim.rs`, by `pace.rs`), signs of life (`heartbeat.rs`), and one for each
//! job (`task.rs`: `run.rs`, then `report.rs`).
//!
//! **Invariant**: an answer that exists is told until the broker has it or refuses it, also by the node's next process.
//! **Invariant**: an attempt is answered at most once, by its number.

mod claim;
mod client;
mod complete;
mod config;
mod error;
mod feed;
mod heartbeat;
mod journal;
mod node;
mod offer;
mod pace;
mod patience;
mod program;
mod report;
mod run;
mod spool;
mod state;
mod task;
mod trouble;
mod vitals;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use sandrun_executor::{ExecutorClient, without_credentials};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::alone::{Alone, Taken};
use crate::detect::detect;
use crate::vitals::Served;
use client::BrokerClient;
use node::Node;
use pace::Backoff;
use spool::{Left, Spool};
use vitals::NodeVitals;

pub use config::{BrokerNodeConfig, StatedCapabilities};
pub use error::BrokerNodeError;

/// How long jobs under way may go on after the node was told to end.
const GRACE: Duration = Duration::from_secs(4);
/// How long it may take to give back what has not ended by then.
const GIVE_BACK: Duration = Duration::from_secs(4);

/// Works for the broker until `shutdown` resolves, and returns within nine seconds then: jobs that end in the first four
/// are answered, the others are given back, and answers that the broker could not be told stay on disk for the next
/// process. `ready` is called once, with the broker's id of this node.
///
/// # Errors
/// [`BrokerNodeError`]: what is wrong with the configuration. A broker or an executor that does not answer is asked
/// until it does.
pub async fn run_for_broker(
    config: BrokerNodeConfig,
    ready: impl FnOnce(&str),
    shutdown: impl Future<Output = ()>,
) -> Result<(), BrokerNodeError> {
    let vitals = Arc::new(NodeVitals::default());
    let served = Served::start(config.metrics, vitals.clone()).await?;
    let broker = BrokerClient::new(&config.broker_url)?;
    let executor = ExecutorClient::new(&config.sandrun_url)
        .map_err(|error| BrokerNodeError::Executor(Box::new(error)))?;
    let (folder, url) = (config.data_dir.clone(), config.broker_url.clone());
    let (spool, left) = tokio::task::spawn_blocking(move || Spool::open(&folder, &url)).await??;
    let mut found = detect(&config.detection).await;
    found.memory_mib = found.memory_mib.min(config.max_memory_mib.unwrap_or(u32::MAX));
    let offer = offer::offer(&offer::merge(found, config.capabilities.as_ref()));
    let endpoint = config.endpoint.as_deref().map(without_credentials);
    let endpoint = endpoint.unwrap_or_else(|| {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        offer::endpoint(&config.sandrun_url, hostname.trim())
    });
    let _alone = Alone::claim(&[&config.broker_url, &endpoint]).map_err(|Taken| BrokerNodeError::Twin {
        broker: without_credentials(&config.broker_url),
        endpoint: endpoint.clone(),
    })?;
    let node = Arc::new(Node::new(config, endpoint, offer, broker, executor, spool));
    vitals.set(Arc::clone(&node));
    let (loops, jobs) = (TaskTracker::new(), TaskTracker::new());
    if left != Left::default() {
        let (answers, orphans) = (left.answers.len(), left.orphans.len());
        info!(answers, orphans, "a former process has left something to be told");
    }
    for orphan in left.orphans {
        jobs.spawn(report::give_back(Arc::clone(&node), orphan));
    }
    for spooled in left.answers {
        // before the first sign of life, which names them
        node.state().keep_answer(&spooled.completion.held());
        jobs.spawn(report::resend(Arc::clone(&node), spooled));
    }
    tokio::pin!(shutdown);
    let is_told_to_end = tokio::select! {
        () = &mut shutdown => true,
        () = settle_in(&node) => false,
    };
    if !is_told_to_end {
        let node_id = node.state().node_id.clone();
        ready(node_id.as_ref().map_or("", |id| id.0.as_str()));
        loops.spawn(claim::claim(Arc::clone(&node), jobs.clone()));
        loops.spawn(heartbeat::heartbeat(Arc::clone(&node)));
        shutdown.await;
    }
    end(&node, &loops, &jobs).await;
    if let Some(served) = served {
        served.end().await;
    }
    Ok(())
}

/// Asks executor and broker until both have answered.
async fn settle_in(node: &Node) {
    let mut failures = 0;
    loop {
        let answered: Result<(), String> = match node.ask_executor().await {
            Err(error) => Err(error.to_string()),
            Ok(()) => match node.register(None).await {
                Ok(_) => return,
                Err(error) => Err(format!(
                    "{error} ({})",
                    without_credentials(&node.config.broker_url)
                )),
            },
        };
        if let Err(error) = answered {
            warn!(error, "cannot begin yet; asking again");
        }
        failures += 1;
        sleep(Backoff::USUAL.pause(failures, rand::random())).await;
    }
}

async fn end(node: &Node, loops: &TaskTracker, jobs: &TaskTracker) {
    info!(
        jobs = node.state().held().len(),
        "ending: nothing new is claimed; jobs under way have {} s",
        GRACE.as_secs()
    );
    node.stop.cancel();
    loops.close();
    loops.wait().await;
    jobs.close();
    if timeout(GRACE, jobs.wait()).await.is_err() {
        node.abort.cancel();
        if timeout(GIVE_BACK, jobs.wait()).await.is_err() {
            warn!("not everything could be given back; leases end the rest");
        }
    }
    info!("ended");
}

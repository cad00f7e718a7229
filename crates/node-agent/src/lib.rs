//! The agent: what a node of the market runs beside its executor.
//!
//! Owns the async loop around [`sandrun_core::seat`], which decides everything about a single job: this crate watches
//! the chain, fetches and checks bundles, has jobs run by an executor, stores results, and signs what the machine asks
//! for once the journal holds it. Also detection of the machine ([`detect`]), registration and stake ([`Operator`]).
//!
//! Also the node of a broker ([`run_for_broker`]), which shares nothing with the market but executor and detection.
//!
//! Never holds money, never runs a program itself, and never signs an answer that is not in its journal.
//!
//! How it is driven: [`run`] with an [`AgentConfig`] and a future that resolves when it has to end.
//!
//! When nothing can be said honestly: an executor that keeps failing says nothing about a program, so a node whose
//! every attempt failed falls back to `limit` at the end of the run window (there is no result in time), to
//! `unavailable` where it has no bundle, and stays silent only where not even that would be valid.

mod agent;
mod alone;
mod broker;
mod bundle;
mod config;
mod crash;
mod detect;
mod error;
mod execute;
mod fit;
mod health;
mod images;
mod node;
mod operator;
mod probe;
mod start;
mod tickets;
mod verdict;
mod vitals;

use std::sync::Arc;
use std::time::Duration;

use sandrun_types::NodeIndex;
use tokio_util::task::AbortOnDropHandle;

use node::Node;
use vitals::{AgentVitals, Served};

pub use broker::{BrokerNodeConfig, BrokerNodeError, StatedCapabilities, run_for_broker};
pub use config::{AgentConfig, Misbehaviour, TokenPolicy};
#[cfg(feature = "crash-points")]
pub use crash::CRASH_POINTS;
pub use detect::{Detection, detect};
pub use error::AgentError;
pub use operator::{Earning, Operator, OperatorError, Registration};
pub use vitals::MetricsError;

/// Checks everything, registers the node as far as it is not registered, and works until `shutdown` resolves; ends
/// within a few seconds then. Jobs under way go on at the next start, from the journal.
///
/// # Errors
/// [`AgentError`]: what was missing at the start, or a journal that can't be written any more.
pub async fn run(config: AgentConfig, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    run_with(config, |_| {}, shutdown).await
}

/// As [`run`]; `ready` is called once with the node's index, when it is registered and begins to work.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: AgentConfig,
    ready: impl FnOnce(NodeIndex),
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    tokio::pin!(shutdown);
    let vitals = Arc::new(AgentVitals::default());
    let served = Served::start(config.metrics, vitals.clone()).await?;
    let started = tokio::select! {
        started = start::start(config, vitals) => started?,
        () = &mut shutdown => return Ok(()),
    };
    tracing::info!(node = %started.node.index, worker = %started.node.worker, "the agent works");
    ready(started.node.index);
    let store = served
        .is_some()
        .then(|| AbortOnDropHandle::new(tokio::spawn(watch_store(Arc::clone(&started.node)))));
    let ended = agent::Agent::new(started.node, started.journal, started.gate, started.resume_from)
        .drive(shutdown)
        .await;
    drop(started.alone);
    drop(store);
    if let Some(served) = served {
        served.end().await;
    }
    ended
}

/// Asks the content store how it is, for whoever asks the agent.
async fn watch_store(node: Arc<Node>) {
    /// Pause between two questions, and longest wait for an answer.
    const PAUSES: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));
    let mut looks = tokio::time::interval(PAUSES.0);
    loop {
        looks.tick().await;
        let said = tokio::time::timeout(PAUSES.1, node.store.health()).await;
        node.vitals.store_said(match said {
            Ok(Ok(health)) => Ok(format!("{} answers", health.place)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PAUSES.1.as_secs())),
        });
    }
}

//! The node as its tasks share it: configuration, clients, state, and how it is told to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use sandrun_executor::{ClientError, ExecutorClient};
use sandrun_types::ClassId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::client::BrokerClient;
use super::complete::Completions;
use super::config::BrokerNodeConfig;
use super::error::BrokerError;
use super::offer::Offer;
use super::spool::Spool;
use super::state::{ExecutorFacts, State};
use super::wire::{NodeId, Registration};

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: BrokerNodeConfig,
    pub(crate) endpoint: String,
    pub(crate) offer: Offer,
    pub(crate) broker: BrokerClient,
    pub(crate) completions: Arc<Completions>,
    pub(crate) executor: ExecutorClient,
    pub(crate) spool: Spool,
    state: Mutex<State>,
    /// A slot is free, or the broker's wishes have changed.
    pub(crate) changed: Notify,
    /// Nothing new is to be taken.
    pub(crate) stop: CancellationToken,
    /// What is under way is to be given back.
    pub(crate) abort: CancellationToken,
    /// One registration at a time.
    registering: tokio::sync::Mutex<()>,
}

impl Node {
    pub(crate) fn new(
        config: BrokerNodeConfig,
        endpoint: String,
        offer: Offer,
        broker: BrokerClient,
        executor: ExecutorClient,
        spool: Spool,
    ) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first_claim = u64::try_from(since.as_millis()).unwrap_or_default();
        Self {
            config,
            endpoint,
            offer,
            completions: Completions::new(broker.clone()),
            broker,
            executor,
            spool,
            state: Mutex::new(State::new(first_claim)),
            changed: Notify::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            registering: tokio::sync::Mutex::new(()),
        }
    }

    /// The state; never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id that this node has with the broker: registers where it has none, or where `lost` is what it had.
    pub(crate) async fn register(&self, lost: Option<&NodeId>) -> Result<NodeId, BrokerError> {
        let _one = self.registering.lock().await;
        if let Some(known) = self.state().node_id.clone()
            && Some(&known) != lost
        {
            return Ok(known);
        }
        self.tell_offer().await
    }

    /// Registers, under the id that the broker has for this endpoint, with what is known of the executor.
    async fn tell_offer(&self) -> Result<NodeId, BrokerError> {
        let features = self.state().executor.as_ref().map(ExecutorFacts::features);
        let offer = self.offer.with(features.as_ref());
        let registration = Registration {
            endpoint: &self.endpoint,
            capabilities: &self.offer.plain,
            protocol: 2,
            slots: self.config.max_concurrent_jobs,
            offer: &offer,
        };
        let node_id = self.broker.register(&registration).await?;
        info!(node = %node_id, endpoint = self.endpoint, "registered with the broker");
        let mut state = self.state();
        state.node_id = Some(node_id.clone());
        state.told = features;
        Ok(node_id)
    }

    /// Tells the broker anew what this node offers, where that has changed since it registered: another executor may
    /// answer at its address by now.
    async fn tell_changes(&self) {
        let _one = self.registering.lock().await;
        let has_changed = {
            let state = self.state();
            let features = state.executor.as_ref().map(ExecutorFacts::features);
            state.node_id.is_some() && features.is_some() && features != state.told
        };
        if has_changed && let Err(error) = self.tell_offer().await {
            warn!(%error, "the broker is not told yet what the executor can do now");
        }
    }

    /// Asks the executor who it is.
    pub(crate) async fn ask_executor(&self) -> Result<(), ClientError> {
        let health = self.executor.health().await?;
        let class = health.class.ok_or_else(|| ClientError::Refused {
            status: 200,
            words: "it names no execution class; it is of an older version".to_owned(),
        })?;
        // an executor of old has none
        let environments = self.executor.environments().await.is_ok_and(|it| it.fetches);
        let facts = ExecutorFacts {
            worker_id: health.worker_id,
            environments,
            classes: health
                .classes
                .values()
                .chain([&class])
                .map(|id| ClassId(id.0))
                .collect(),
        };
        let worker = facts
            .worker_id
            .map_or("anonymous".to_owned(), |id| id.to_string());
        info!(worker, %class, layers = health.isolation.join(" "), "executor");
        self.state().executor = Some(facts);
        self.tell_changes().await;
        Ok(())
    }

    /// The executor did not answer: nothing more is claimed until it does.
    pub(crate) fn suspect_executor(&self, error: &ClientError) {
        if self.state().executor.take().is_some() {
            warn!(%error, "the executor does not answer; no job is claimed until it does");
        }
    }
}

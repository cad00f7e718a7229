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
use super::vitals::NodeMeters;
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
    /// What its operator is told.
    pub(crate) meters: NodeMeters,
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
            meters: NodeMeters::new(config.data_dir.clone()),
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

    /// The id that this node has with the broker: registers where it has none, where `lost` is what it had, and where the
    /// executor can do something else than the broker was told: another one may answer at its address by now.
    pub(crate) async fn register(&self, lost: Option<&NodeId>) -> Result<NodeId, BrokerError> {
        let _one = self.registering.lock().await;
        let known = self.state().known().filter(|known| Some(known) != lost);
        match known {
            Some(known) => Ok(known),
            None => self.tell_offer().await,
        }
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

    /// Asks the executor who it is.
    pub(crate) async fn ask_executor(&self) -> Result<(), ClientError> {
        let health = self.executor.health().await?;
        let class = health.class.ok_or_else(|| ClientError::Refused {
            status: 200,
            words: "it names no execution class; it is of an older version".to_owned(),
        })?;
        let environments = self.executor.fetches_environments().await?;
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
        // before the first registration, whoever asked registers
        let is_registered = self.state().node_id.is_some();
        if is_registered && let Err(error) = self.register(None).await {
            // with the next claim or sign of life
            warn!(%error, "the broker is not told yet what the executor can do now");
        }
        Ok(())
    }

    /// The executor did not answer: nothing more is claimed until it does.
    pub(crate) fn suspect_executor(&self, error: &ClientError) {
        if self.state().executor.take().is_some() {
            warn!(%error, "the executor does not answer; no job is claimed until it does");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, post};

    use super::*;

    /// A broker that registers nobody the second time.
    async fn broker(asked: Arc<AtomicUsize>) -> String {
        let register = move || {
            let is_away = asked.fetch_add(1, Ordering::SeqCst) == 1;
            let (status, text) = match is_away {
                true => (StatusCode::SERVICE_UNAVAILABLE, "{}"),
                false => (StatusCode::OK, r#"{"node_id": "n"}"#),
            };
            std::future::ready((status, text))
        };
        served(Router::new().route("/register", post(register))).await
    }

    async fn served(router: Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        url
    }

    fn node(folder: &std::path::Path, broker: &str, executor: &str) -> Node {
        let (spool, _) = Spool::open(folder, broker).unwrap();
        Node::new(
            BrokerNodeConfig::new(broker.to_owned(), executor.to_owned(), folder.to_owned()),
            executor.to_owned(),
            super::super::offer::offer(&sandrun_types::Capabilities::default()),
            BrokerClient::new(broker).unwrap(),
            ExecutorClient::new(executor).unwrap(),
            spool,
        )
    }

    #[tokio::test]
    async fn a_broker_is_told_what_the_executor_can_do_until_it_knows() {
        let (folder, asked) = (tempfile::tempdir().unwrap(), Arc::<AtomicUsize>::default());
        let url = broker(Arc::clone(&asked)).await;
        let node = node(folder.path(), &url, "http://127.0.0.1:9");
        let executor = |environments| {
            let facts = ExecutorFacts {
                worker_id: None,
                environments,
                classes: Vec::new(),
            };
            node.state().executor = Some(facts);
        };
        executor(false);
        node.register(None).await.unwrap();
        node.register(None).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        executor(true);
        node.register(None).await.unwrap_err();
        node.register(None).await.unwrap();
        node.register(None).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn an_executor_that_does_not_say_what_it_fetches_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        for (status, has_answered) in [
            (StatusCode::SERVICE_UNAVAILABLE, false),
            (StatusCode::NOT_FOUND, true),
        ] {
            let health = format!(
                r#"{{"status": "healthy", "service": "sandrun", "version": "1", "class": "{}"}}"#,
                "00".repeat(32)
            );
            let router = Router::new()
                .route("/health", get(|| std::future::ready(health)))
                .route("/environments", get(move || std::future::ready((status, "{}"))));
            let node = node(folder.path(), "http://127.0.0.1:9", &served(router).await);
            assert_eq!(node.ask_executor().await.is_ok(), has_answered, "{status}");
            let facts = node.state().executor.clone();
            assert_eq!(facts.map(|it| it.environments), has_answered.then_some(false));
        }
    }
}

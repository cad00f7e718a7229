//! What an agent works with: the market's contracts, the content store and the executor, each asked who it is before
//! anything is decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use sandrun_chain::{Chain, Deployment, MarketReader};
use sandrun_content::{ContentStore, KuboClient};
use sandrun_executor::ExecutorClient;
use sandrun_types::{Capabilities, ChainId, ClassId, WorkerId};
use tracing::info;

use crate::config::AgentConfig;
use crate::detect::detect;
use crate::error::AgentError;

/// Connections that were made, and what is offered at them.
pub(super) struct Services {
    pub(super) reader: MarketReader,
    pub(super) store: Arc<dyn ContentStore>,
    pub(super) executor: ExecutorClient,
    /// Who signs the executor's receipts.
    pub(super) worker_id: WorkerId,
    /// The class of jobs that ask for none.
    pub(super) class: ClassId,
    /// Those that the operator wants to serve.
    pub(super) classes: Vec<ClassId>,
    pub(super) capabilities: Capabilities,
}

impl Services {
    /// Connects to them.
    pub(super) async fn connect(config: &AgentConfig) -> Result<Self, AgentError> {
        let reader = market(config).await?;
        let chain = reader.chain().id();
        if config.misbehaviour.is_some() && chain != ChainId::LOCAL {
            return Err(AgentError::Misbehaviour { chain });
        }
        let store = content(config).await?;
        let (executor, worker_id, offered) = executor(config).await?;
        let classes = classes(config, &offered)?;
        let mut capabilities = detect(&config.detection).await;
        let environments = executor.fetches_environments().await;
        capabilities.environments = environments.map_err(|source| AgentError::Executor {
            url: config.sandrun_url.clone(),
            source: Box::new(source),
        })?;
        capabilities.to_json()?;
        Ok(Self {
            reader,
            store,
            executor,
            worker_id,
            class: offered.class,
            classes,
            capabilities,
        })
    }
}

/// The market's contracts, checked.
async fn market(config: &AgentConfig) -> Result<MarketReader, AgentError> {
    let expected = config
        .chain
        .or(config.deployment.as_ref().map(|deployment| deployment.chain));
    let chain = Chain::connect(&config.rpc, expected)
        .await
        .map_err(|error| AgentError::Connect(Box::new(error)))?;
    let deployment = match &config.deployment {
        Some(deployment) => deployment.clone(),
        None => Deployment::lookup(chain.id(), None)?,
    };
    let verified = MarketReader::verified(chain, deployment).await;
    verified.map_err(|error| AgentError::Contracts(Box::new(error)))
}

async fn content(config: &AgentConfig) -> Result<Arc<dyn ContentStore>, AgentError> {
    let fail = |source| AgentError::Content {
        api: config.ipfs_api.clone(),
        source: Box::new(source),
    };
    let store = KuboClient::new(&config.ipfs_api).map_err(fail)?;
    let fail = |source| AgentError::Content {
        api: config.ipfs_api.clone(),
        source: Box::new(source),
    };
    let health = store.health().await.map_err(fail)?;
    info!(place = health.place, version = health.version, "content store");
    Ok(Arc::new(store))
}

/// The classes that an executor runs.
struct Offered {
    /// That of jobs which ask for none.
    class: ClassId,
    /// All of a kind that the market knows, in the order of their ids.
    all: Vec<ClassId>,
}

async fn executor(config: &AgentConfig) -> Result<(ExecutorClient, WorkerId, Offered), AgentError> {
    let url = || config.sandrun_url.clone();
    let fail = |source| AgentError::Executor {
        url: url(),
        source: Box::new(source),
    };
    let client = ExecutorClient::new(&config.sandrun_url).map_err(fail)?;
    let health = client.health().await.map_err(|source| AgentError::Executor {
        url: url(),
        source: Box::new(source),
    })?;
    // another service may answer, which has a word on its health too
    let class = health.class.ok_or_else(|| AgentError::NoClass { url: url() })?;
    let worker_id = health
        .worker_id
        .ok_or_else(|| AgentError::AnonymousExecutor { url: url() })?;
    info!(%worker_id, class = %class, layers = health.isolation.join(" "), "executor");
    let class = ClassId(class.0);
    // an executor of old names that one alone
    let all: BTreeSet<ClassId> = health
        .classes
        .values()
        .map(|id| ClassId(id.0))
        .chain([class])
        .filter(|id| id.kind().is_some())
        .collect();
    let all = all.into_iter().collect();
    Ok((client, worker_id, Offered { class, all }))
}

/// Those of them that the operator wants to serve.
fn classes(config: &AgentConfig, offered: &Offered) -> Result<Vec<ClassId>, AgentError> {
    let wanted =
        |id: &ClassId| config.classes.is_empty() || config.classes.iter().any(|request| request.accepts(*id));
    let served: Vec<ClassId> = offered.all.iter().copied().filter(wanted).collect();
    if served.is_empty() {
        return Err(AgentError::ClassNotOffered {
            offered: offered.all.clone(),
        });
    }
    Ok(served)
}

//! A whole market on this machine: a real chain, a real content store, real executors, real agents.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses a part")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use node_agent::{AgentConfig, AgentError};
use sandrun_chain::anvil::{Anvil, AnvilOptions, Mining};
use sandrun_chain::{
    Call, Chain, ChainUpdate, Deployment, MarketReader, MarketTerms, Sender, SenderConfig, deploy,
    deploy_test_token,
};
use sandrun_content::{
    ContentStore as _, EmbeddedConfig, EmbeddedStore, Limits, Service, ServiceConfig, pack_bundle,
};
use sandrun_core::market::rules::Windows;
use sandrun_core::market::{JobFacts, MarketEvent, Outcome, Phase, SeatEnd};
use sandrun_executor::{Executor, ExecutorConfig, SandboxConfig, worker_key};
use sandrun_types::{
    Address, Amount, B256, ClassId, JobId, Manifest, NodeIndex, Order, Redundancy, Requirements, ResultParts,
    Token, U256,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Windows of the test network.
const WINDOWS: Windows = Windows {
    seat: 60,
    run_multiple: 3,
    run_slack: 30,
    reveal: 60,
};
/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Account of the client; nodes take those from 1 on.
const CLIENT: usize = 9;

/// A service that ends when it is told to, and with the test.
pub struct Running<E> {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), E>>,
}

impl<E: Send + 'static> Running<E> {
    fn start<F, S>(service: S) -> Self
    where
        S: FnOnce(Shutdown) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(service(Box::pin(async move { drop(stopped.await) })));
        Self {
            stop: Some(stop),
            task,
        }
    }

    /// Ends it and returns how it ended.
    pub async fn stop(mut self) -> Result<Result<(), E>> {
        drop(self.stop.take());
        Ok(tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .context("it does not end")??)
    }
}

pub type Shutdown = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Market {
    pub folder: tempfile::TempDir,
    pub anvil: Anvil,
    pub chain: Chain,
    pub reader: MarketReader,
    pub store: EmbeddedStore,
    pub ipfs: String,
    pub client: Sender,
    pub class: Option<ClassId>,
    content: Running<sandrun_content::ServeError>,
    executors: Vec<Running<sandrun_executor::ServeError>>,
    nonce: u64,
}

impl Market {
    /// A chain with a block every second, the contracts, a content store.
    pub async fn new() -> Result<Self> {
        Self::with_token().await.map(|(market, _)| market)
    }

    /// The same, and an ERC-20 that may pay, of which the client has a thousand.
    pub async fn with_token() -> Result<(Self, Address)> {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            drop(
                tracing_subscriber::fmt()
                    .with_env_filter(filter)
                    .with_test_writer()
                    .try_init(),
            );
        }
        let folder = tempfile::tempdir()?;
        let anvil = Anvil::start(&AnvilOptions {
            mining: Mining::Every(1),
            ..AnvilOptions::default()
        })
        .await?;
        let chain = anvil.connect().await?;
        let owner = Sender::new(chain.clone(), Anvil::key(0)?, None, SenderConfig::default());
        let token = deploy_test_token(&owner, "Test", "TEST", 18).await?;
        let mut terms = MarketTerms::testnet();
        terms.tokens.push(MarketTerms::token_like_coin(token, 18));
        let deployment = deploy(&owner, &terms).await?;
        deployment.save(&folder.path().join("deployments.json"))?;
        let reader = MarketReader::verified(chain.clone(), deployment.clone()).await?;
        let store = EmbeddedStore::open(EmbeddedConfig::new(folder.path().join("content"))).await?;
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let service = Service::bind(store.clone(), ServiceConfig::new(local)).await?;
        let ipfs = service.url();
        let content = Running::start(|shutdown| service.run(shutdown));
        let client = Sender::new(
            chain.clone(),
            Anvil::key(CLIENT)?,
            Some(deployment),
            SenderConfig::default(),
        );
        let thousand = Amount::from_gwei(1_000_000_000_000);
        client.send(Call::mint(token, client.address(), thousand)).await?;
        client.send(reader.deployment().approve(token, thousand)).await?;
        let market = Self {
            folder,
            anvil,
            chain,
            reader,
            store,
            ipfs,
            client,
            class: None,
            content,
            executors: Vec::new(),
            nonce: 0,
        };
        Ok((market, token))
    }

    pub fn deployment(&self) -> &Deployment {
        self.reader.deployment()
    }

    /// Starts an executor; returns its address.
    pub async fn executor(&mut self) -> Result<String> {
        let data = self
            .folder
            .path()
            .join(format!("executor{}", self.executors.len()));
        let key = self
            .folder
            .path()
            .join(format!("executor{}.pem", self.executors.len()));
        worker_key::generate(&key)?;
        let launcher = vec![
            env!("CARGO_BIN_EXE_agent-test-process").into(),
            "__sandbox".into(),
        ];
        let mut config = ExecutorConfig::new(data, SandboxConfig::new(launcher));
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.worker_key = Some(key);
        config.quota = None;
        config.limits.default_cpu_seconds = None;
        let executor = Executor::start(config).await?;
        let url = format!("http://{}", executor.local_addr());
        self.executors
            .push(Running::start(|shutdown| executor.run(shutdown)));
        let health = sandrun_executor::ExecutorClient::new(&url)?.health().await?;
        self.class = health.class.map(|class| ClassId(class.0));
        Ok(url)
    }

    /// The settings of the node with anvil's account `index`.
    pub fn config(&self, index: usize, executor: String) -> Result<AgentConfig> {
        let data = self.folder.path().join(format!("agent{index}"));
        let rpc = self.anvil.url().to_owned();
        let mut config = AgentConfig::new(executor, rpc, self.ipfs.clone(), Anvil::key(index)?, data);
        config.deployment = Some(self.deployment().clone());
        config.withdraw_threshold = Amount::from_gwei(1_000_000);
        Ok(config)
    }

    /// Starts an agent with an executor of its own and waits until it has opted in.
    pub async fn agent(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut AgentConfig),
    ) -> Result<(NodeIndex, Running<AgentError>)> {
        let executor = self.executor().await?;
        let mut config = self.config(index, executor)?;
        change(&mut config);
        let account = config.key.address();
        let running = Running::start(|shutdown| node_agent::run(config, shutdown));
        let node = self
            .wait_for("the node to opt in", || async {
                let Some(node) = self.reader.node_by_account(account).await? else {
                    return Ok(None);
                };
                let record = self.reader.node(node).await?;
                Ok(record.filter(|record| !record.classes.is_empty()).map(|_| node))
            })
            .await?;
        Ok((node, running))
    }

    /// Asks once a block until there is an answer.
    pub async fn wait_for<T, F>(&self, what: &str, mut ask: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let mut watch = self.reader.watch(self.reader.from_start(), []);
        let found = async {
            loop {
                if let Some(found) = ask().await? {
                    return Ok(found);
                }
                loop {
                    match watch.next().await.context("the chain's events ended")?? {
                        ChainUpdate::Head(_) => break,
                        ChainUpdate::Applied(_) | ChainUpdate::Undone(_) => {}
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .with_context(|| format!("waited for {what}"))?
    }

    /// Waits until the chain has grown by so many blocks.
    pub async fn wait_blocks(&self, blocks: u64) -> Result<()> {
        let until = self.chain.head().await?.block.number + blocks;
        self.wait_for("blocks", || async {
            let head = self.chain.head().await?.block.number;
            Ok((head >= until).then_some(()))
        })
        .await
    }

    /// Posts a job with these files.
    pub async fn post(
        &mut self,
        files: &[(&str, &str)],
        manifest: &str,
        redundancy: Redundancy,
    ) -> Result<(JobId, Order)> {
        let order = self.order(files, manifest, redundancy).await?;
        let job = self.send_order(&order).await?;
        Ok((job, order))
    }

    /// Posts an order as it is.
    pub async fn send_order(&self, order: &Order) -> Result<JobId> {
        let call = self.deployment().post(order).context("the price overflows")?;
        self.client.send(call).await?;
        Ok(order.job_id(self.deployment().escrow_ref()))
    }

    /// An order of a job with these files, which are in the content store.
    pub async fn order(
        &mut self,
        files: &[(&str, &str)],
        manifest: &str,
        redundancy: Redundancy,
    ) -> Result<Order> {
        let source = tempfile::tempdir_in(self.folder.path())?;
        for (name, text) in files {
            std::fs::write(source.path().join(name), text)?;
        }
        let manifest = Manifest::parse(manifest.as_bytes())?;
        let tree = pack_bundle(source.path(), &manifest.canonical_bytes(), &Limits::default())?;
        let bundle = self.store.add(&tree).await?;
        self.nonce += 1;
        let price = Amount::from_gwei(30_000_000);
        Ok(Order {
            client: self.client.address(),
            payer: self.client.address(),
            nonce: U256::from(self.nonce),
            bundle: bundle.to_digest(),
            manifest: manifest.digest(),
            class: self.class.context("no executor was started")?,
            requirements: Requirements::default().to_word(),
            token: Token::Native,
            price,
            redundancy,
            bond: Amount::from_gwei(5 * 30_000_000),
            wall_limit: 20,
            min_reputation: 0,
            client_key: B256::ZERO,
        })
    }

    /// The block of a job's first event that `is_it` knows.
    pub async fn block_of(&self, job: JobId, is_it: impl Fn(&MarketEvent) -> bool) -> Result<u64> {
        let mut watch = self.reader.watch(self.reader.from_start(), []);
        let found = async {
            loop {
                if let ChainUpdate::Applied(logged) =
                    watch.next().await.context("the chain's events ended")??
                    && logged.event.job() == Some(job)
                    && is_it(&logged.event)
                {
                    return anyhow::Ok(logged.at.block.number);
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .context("waited for an event")?
    }

    /// Every event of a job until it is closed.
    pub async fn until_closed(&self, job: JobId) -> Result<Story> {
        let mut watch = self.reader.watch(self.reader.from_start(), []);
        let mut story = Story::default();
        let closed = async {
            loop {
                let update = watch.next().await.context("the chain's events ended")??;
                if let ChainUpdate::Undone(logged) = &update {
                    story.events.retain(|event| *event != logged.event);
                }
                if let ChainUpdate::Applied(logged) = update
                    && logged.event.job() == Some(job)
                {
                    story.events.push(logged.event);
                    // the escrow says nothing more when the last seat is finished: the facts say that it is over
                    let is_end = JobFacts::fold(&story.events, WINDOWS)?.phase == Phase::Closed;
                    if is_end {
                        return anyhow::Ok(());
                    }
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, closed).await;
        match ended {
            Ok(Ok(())) => Ok(story),
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("the job did not end; so far: {:#?}", story.events),
        }
    }

    /// The files of a result, as anybody fetches them.
    pub async fn result(&self, parts: &ResultParts, into: &Path) -> Result<PathBuf> {
        let id = sandrun_content::ContentId::from_digest(parts.content);
        self.store.fetch(id, into, &Limits::default()).await?;
        Ok(into.to_owned())
    }
}

/// What happened to a job.
#[derive(Debug, Default)]
pub struct Story {
    pub events: Vec<MarketEvent>,
}

impl Story {
    pub fn outcome(&self) -> Option<Outcome> {
        self.events.iter().find_map(|event| {
            if let MarketEvent::JobDecided { outcome, .. } = event {
                Some(*outcome)
            } else {
                None
            }
        })
    }

    /// How each node's seat ended, and what it was paid and lost.
    pub fn ends(&self) -> Vec<(NodeIndex, SeatEnd, Amount, Amount)> {
        self.events
            .iter()
            .filter_map(|event| {
                if let MarketEvent::SeatFinished {
                    node,
                    end,
                    paid,
                    slashed,
                    ..
                } = event
                {
                    Some((*node, *end, *paid, *slashed))
                } else {
                    None
                }
            })
            .collect()
    }

    pub fn end_of(&self, node: NodeIndex) -> Option<SeatEnd> {
        self.ends()
            .into_iter()
            .find(|(of, ..)| *of == node)
            .map(|(_, end, ..)| end)
    }

    /// How often a node committed.
    pub fn commits_of(&self, node: NodeIndex) -> usize {
        let by =
            |event: &&MarketEvent| matches!(event, MarketEvent::Committed { node: of, .. } if *of == node);
        self.events.iter().filter(by).count()
    }

    pub fn published(&self) -> Vec<ResultParts> {
        self.events
            .iter()
            .filter_map(|event| {
                if let MarketEvent::ResultPublished { result, .. } = event {
                    result.parts().ok()
                } else {
                    None
                }
            })
            .collect()
    }
}

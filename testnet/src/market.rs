//! A whole market on one machine: chain, contracts, content store, executors with agents, manager. Owns the order of
//! start and end. Every part is the released binary in its own process; nothing is faked but the worth of the coin.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandrun_chain::{
    Call, Chain, Deployment, Key, MarketReader, MarketTerms, Sender, SenderConfig, anvil::Anvil,
};
use sandrun_store::LockFile;
use sandrun_types::{Address, Amount, ChainId, NodeIndex, Token};

use crate::config::{Role, Store, TestnetConfig};
use crate::process::{Service, ServiceSpec, listening};
use crate::{folder, kubo};

/// Symbol of the test network's ERC-20.
pub const TEST_TOKEN: &str = "TEST";
/// Whole coins that each account starts with.
const FUNDS: u64 = 1_000;
/// Stake of each node, coins.
const STAKE: &str = "10";

/// A node that runs.
#[derive(Debug, Clone)]
pub struct LocalNode {
    /// Its index in the registry.
    pub index: NodeIndex,
    /// Its account.
    pub account: Address,
    /// What it does.
    pub role: Role,
    /// Its key file.
    pub key: PathBuf,
    /// Its executor.
    pub sandrun_url: String,
}

/// A market that runs; everything ends when it is dropped, in order with [`LocalMarket::stop`].
#[derive(Debug)]
pub struct LocalMarket {
    config: TestnetConfig,
    services: Vec<Service>,
    /// Held, not read: nobody else empties the directory.
    _folder: LockFile,
    /// RPC of the chain.
    pub rpc: String,
    /// RPC of the content store.
    pub ipfs_api: String,
    /// The manager.
    pub pool: Option<String>,
    /// The contracts.
    pub deployment: Deployment,
    /// File with the contracts' addresses.
    pub deployments: PathBuf,
    /// A funded client's key file.
    pub client_key: PathBuf,
    /// Its account.
    pub client: Address,
    /// The nodes, in the order of the configuration.
    pub nodes: Vec<LocalNode>,
}

impl LocalMarket {
    /// Starts everything; `say` hears what is going on.
    ///
    /// # Errors
    /// A part that does not start; what was started is stopped.
    pub async fn start(config: TestnetConfig, mut say: impl FnMut(&str)) -> anyhow::Result<Self> {
        let folder = folder::take(&config.directory)?;
        let mut services = Vec::new();
        match Self::bring_up(&config, &mut services, &mut say).await {
            Ok(ground) => {
                let mut market = Self {
                    services,
                    ..ground.into_market(config, folder)
                };
                for place in 0..market.config.nodes.len() {
                    if let Err(error) = market.start_node(place, &mut say).await {
                        market.stop().await;
                        return Err(error);
                    }
                }
                Ok(market)
            }
            Err(error) => {
                stop_all(&mut services).await;
                Err(error)
            }
        }
    }

    async fn bring_up(
        config: &TestnetConfig,
        services: &mut Vec<Service>,
        say: &mut impl FnMut(&str),
    ) -> anyhow::Result<Ground> {
        let rpc = start_anvil(config, services).await?;
        say(&format!("chain            {rpc} (id {})", ChainId::LOCAL));
        let chain = Chain::connect(&rpc, Some(ChainId::LOCAL)).await?;
        let deployer = Sender::new(chain.clone(), Anvil::key(0)?, None, SenderConfig::default());
        let client_key = config.directory.join("client.key");
        let client = Key::generate(&client_key)?.address();
        let deployment = deploy(&deployer, client).await?;
        fund(&deployer, client).await?;
        let deployments = config.directory.join("deployments.json");
        deployment.save(&deployments)?;
        if let Some(publish) = &config.publish {
            deployment.save(publish)?;
        }
        say(&format!(
            "escrow           {}\nregistry         {}",
            deployment.escrow, deployment.registry
        ));
        let (mut content, ipfs_api) = start_store(config).await?;
        content.pin(&ipfs_api);
        services.push(content);
        say(&format!("content store    {ipfs_api}"));
        let mut ground = Ground {
            rpc,
            ipfs_api,
            pool: None,
            deployment,
            deployments,
            client_key,
            client,
        };
        if config.manager {
            let key = config.directory.join("manager.key");
            fund(&deployer, Key::generate(&key)?.address()).await?;
            ground.pool = Some(start_manager(config, &ground, &key, services).await?);
            say(&format!(
                "manager          {}",
                ground.pool.as_deref().unwrap_or_default()
            ));
        }
        Ok(ground)
    }

    /// Starts executor and agent of the node at `place` of the configuration.
    async fn start_node(&mut self, place: usize, say: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        let role = self
            .config
            .nodes
            .get(place)
            .copied()
            .context("a node of the configuration")?;
        let directory = self.config.directory.join(format!("node{}", place + 1));
        std::fs::create_dir_all(&directory)?;
        let key = directory.join("node.key");
        let account = Key::generate(&key)?.address();
        let chain = Chain::connect(&self.rpc, Some(ChainId::LOCAL)).await?;
        let deployer = Sender::new(chain, Anvil::key(0)?, None, SenderConfig::default());
        fund(&deployer, account).await?;
        let worker_key = directory.join("worker.pem");
        generate_worker_key(&self.config.program, &worker_key).await?;
        let port = self.config.ports.of(8443 + u16::try_from(place).unwrap_or(0));
        let name = format!("sandrun{}", place + 1);
        let store = self.config.lines.of(&name, "content", &self.ipfs_api)?;
        let spec = service(
            &self.config,
            &name,
            ["sandrun", "--no-quota", "--port", &port.to_string()],
            |arguments| {
                arguments.extend(["--worker-key".into(), worker_key.clone().into()]);
                arguments.extend(["--data-dir".into(), directory.join("sandrun").into()]);
                arguments.extend(["--ipfs-api".into(), store.into()]);
            },
        );
        let (mut executor, sandrun_url) = Service::start(spec, listening).await?;
        executor.pin(&sandrun_url);
        self.services.push(executor);
        let mut node = LocalNode {
            index: NodeIndex(0),
            account,
            role,
            key,
            sandrun_url,
        };
        let (agent, index) =
            Service::start(self.agent(place, &node, &directory, &worker_key)?, ready).await?;
        self.services.push(agent);
        node.index = index;
        say(&format!(
            "node {index:<11} {account} {} ({})",
            node.sandrun_url,
            role.name()
        ));
        self.nodes.push(node);
        Ok(())
    }

    fn agent(
        &self,
        place: usize,
        node: &LocalNode,
        directory: &Path,
        worker_key: &Path,
    ) -> anyhow::Result<ServiceSpec> {
        let name = format!("agent{}", place + 1);
        let lines = &self.config.lines;
        let executor = lines.of(&name, &format!("sandrun{}", place + 1), &node.sandrun_url)?;
        let rpc = lines.of(&name, "anvil", &self.rpc)?;
        let store = lines.of(&name, "content", &self.ipfs_api)?;
        let token = self
            .deployment
            .tokens
            .get(TEST_TOKEN)
            .map(|token| format!("{token}=10000"));
        Ok(service(
            &self.config,
            &name,
            ["agent", "--stake", STAKE],
            |arguments| {
                arguments.extend(["--key".into(), node.key.clone().into()]);
                arguments.extend(["--worker-key".into(), worker_key.into()]);
                arguments.extend(["--data-dir".into(), directory.join("agent").into()]);
                arguments.extend(["--sandrun-url".into(), executor.into()]);
                arguments.extend(["--blockchain-rpc".into(), rpc.into()]);
                arguments.extend(["--ipfs-api".into(), store.into()]);
                arguments.extend(["--deployments".into(), self.deployments.clone().into()]);
                arguments.extend(
                    token
                        .into_iter()
                        .flat_map(|token| ["--accept-token".into(), token.into()]),
                );
                arguments.extend(node.role.arguments().iter().map(Into::into));
                arguments.extend(self.config.agent_arguments.iter().map(Into::into));
            },
        ))
    }

    /// A reader of the market.
    ///
    /// # Errors
    /// A chain that does not answer.
    pub async fn reader(&self) -> anyhow::Result<MarketReader> {
        let chain = Chain::connect(&self.rpc, Some(ChainId::LOCAL)).await?;
        Ok(MarketReader::new(chain, self.deployment.clone()))
    }

    /// Sets the chain's clock forward; the next block is that much later.
    ///
    /// # Errors
    /// A chain that does not answer.
    pub async fn advance(&self, seconds: u64) -> anyhow::Result<()> {
        let chain = Chain::connect(&self.rpc, Some(ChainId::LOCAL)).await?;
        Ok(chain.dev_increase_time(seconds).await?)
    }

    /// Replaces the newest `depth` blocks by empty ones.
    ///
    /// # Errors
    /// A chain that does not answer.
    pub async fn reorganise(&self, depth: u64) -> anyhow::Result<()> {
        let chain = Chain::connect(&self.rpc, Some(ChainId::LOCAL)).await?;
        Ok(chain.dev_reorg(depth).await?)
    }

    /// The running service of this name (`anvil`, `content`, `pool`, `sandrun1`, `agent1`, …).
    pub fn service(&mut self, name: &str) -> Option<&mut Service> {
        self.services.iter_mut().find(|it| it.name() == name)
    }

    /// Takes the services out, in the order in which they were started, for whoever kills and restarts them while the
    /// market is looked at.
    pub fn lend_services(&mut self) -> Vec<Service> {
        std::mem::take(&mut self.services)
    }

    /// Takes them back, so that [`LocalMarket::stop`] ends them in order.
    pub fn return_services(&mut self, services: Vec<Service>) {
        self.services = services;
    }

    /// Makes an account with a hundred coins, its key in a new file.
    ///
    /// # Errors
    /// A file that is there already, or a chain that does not answer.
    pub async fn client(&self, key: &Path) -> anyhow::Result<()> {
        let chain = Chain::connect(&self.rpc, Some(ChainId::LOCAL)).await?;
        let deployer = Sender::new(chain, Anvil::key(0)?, None, SenderConfig::default());
        let coins = Amount::from_gwei(FUNDS / 10 * Amount::GWEI);
        deployer
            .send(Call::pay(Key::generate(key)?.address(), coins))
            .await?;
        Ok(())
    }

    /// Names of services that have ended by themselves.
    pub fn ended(&mut self) -> Vec<String> {
        self.services
            .iter_mut()
            .filter_map(|it| it.has_ended().then(|| it.name().to_owned()))
            .collect()
    }

    /// Ends everything, the last started first.
    pub async fn stop(mut self) {
        stop_all(&mut self.services).await;
    }
}

/// What stands before the first node.
struct Ground {
    rpc: String,
    ipfs_api: String,
    pool: Option<String>,
    deployment: Deployment,
    deployments: PathBuf,
    client_key: PathBuf,
    client: Address,
}

impl Ground {
    fn into_market(self, config: TestnetConfig, folder: LockFile) -> LocalMarket {
        LocalMarket {
            config,
            services: Vec::new(),
            _folder: folder,
            rpc: self.rpc,
            ipfs_api: self.ipfs_api,
            pool: self.pool,
            deployment: self.deployment,
            deployments: self.deployments,
            client_key: self.client_key,
            client: self.client,
            nodes: Vec::new(),
        }
    }
}

async fn stop_all(services: &mut Vec<Service>) {
    while let Some(mut service) = services.pop() {
        service.stop().await;
    }
}

fn service<const N: usize>(
    config: &TestnetConfig,
    name: &str,
    arguments: [&str; N],
    more: impl FnOnce(&mut Vec<OsString>),
) -> ServiceSpec {
    let mut command: Vec<OsString> = vec![config.program.clone().into()];
    command.extend(arguments.iter().map(Into::into));
    more(&mut command);
    ServiceSpec {
        name: name.to_owned(),
        tether: config.program.clone(),
        command,
        logs: config.directory.join("logs"),
        // a user's own settings must not leak into the network
        env: vec![("SANDRUN_CONFIG".into(), "/dev/null".into())],
    }
}

async fn start_anvil(config: &TestnetConfig, services: &mut Vec<Service>) -> anyhow::Result<String> {
    let program = sandrun_chain::anvil::find()
        .context("anvil (the local chain) is not installed: run `tools/setup.sh demo`, or set SANDRUN_ANVIL to the program")?;
    // a bare name is looked up on PATH when it starts
    anyhow::ensure!(
        program.is_file() || program.components().count() == 1,
        "SANDRUN_ANVIL names {}, which is no program: correct it, or unset it and run `tools/setup.sh demo`",
        program.display()
    );
    let mut spec = service(config, "anvil", [], |_| ());
    spec.command = vec![program.into()];
    spec.command
        .extend(["--host", "127.0.0.1", "--port"].map(Into::into));
    spec.command.push(config.ports.of(8545).to_string().into());
    spec.command
        .extend(["--chain-id".into(), ChainId::LOCAL.to_string().into()]);
    if let Some(seconds) = config.block_time {
        spec.command
            .extend(["--block-time".into(), seconds.to_string().into()]);
    }
    let address = |line: &str| {
        line.trim()
            .strip_prefix("Listening on ")
            .map(|it| format!("http://{it}"))
    };
    let (anvil, rpc) = Service::start(spec, address).await?;
    services.push(anvil);
    Ok(rpc)
}

async fn start_store(config: &TestnetConfig) -> anyhow::Result<(Service, String)> {
    let port = config.ports.of(5001);
    let directory = config.directory.join("content");
    match &config.store {
        Store::Embedded => {
            let arguments = ["content", "--port", &port.to_string()];
            let spec = service(config, "content", arguments, |arguments| {
                arguments.extend(["--data-dir".into(), directory.into()]);
            });
            Service::start(spec, listening).await
        }
        Store::Kubo(program) => {
            let mut spec = service(config, "content", [], |_| ());
            kubo::prepare(program, &directory, port).await?;
            spec.command = kubo::command(program);
            spec.env.push(kubo::repository(&directory)?);
            Service::start(spec, kubo::Said::default().reader()).await
        }
    }
}

async fn start_manager(
    config: &TestnetConfig,
    ground: &Ground,
    key: &Path,
    services: &mut Vec<Service>,
) -> anyhow::Result<String> {
    let rpc = config.lines.of("pool", "anvil", &ground.rpc)?;
    let spec = service(
        config,
        "pool",
        ["pool", "--port", &config.ports.of(9545).to_string()],
        |arguments| {
            arguments.extend(["--key".into(), key.into()]);
            arguments.extend(["--data-dir".into(), config.directory.join("pool").into()]);
            arguments.extend(["--blockchain-rpc".into(), rpc.into()]);
            arguments.extend(["--deployments".into(), ground.deployments.clone().into()]);
        },
    );
    let (mut manager, url) = Service::start(spec, listening).await?;
    manager.pin(&url);
    services.push(manager);
    Ok(url)
}

/// Deploys contracts and a test token, and gives the client some of it.
async fn deploy(deployer: &Sender, client: Address) -> anyhow::Result<Deployment> {
    let token = sandrun_chain::deploy_test_token(deployer, "Test token", TEST_TOKEN, 6).await?;
    let mut terms = MarketTerms::testnet();
    terms.tokens.push(MarketTerms::token_like_coin(token, 6));
    let mut deployment = sandrun_chain::deploy(deployer, &terms).await?;
    let some = Amount::parse("1000", 6)?;
    deployer.send(Call::mint(token, client, some)).await?;
    deployment.tokens.insert(TEST_TOKEN.to_owned(), token);
    debug_assert_ne!(Token::from(token), Token::Native);
    Ok(deployment)
}

async fn fund(deployer: &Sender, account: Address) -> anyhow::Result<()> {
    let coins = Amount::from_gwei(FUNDS * Amount::GWEI);
    deployer
        .send(Call::pay(account, coins))
        .await
        .with_context(|| format!("funding {account}"))?;
    Ok(())
}

async fn generate_worker_key(program: &Path, file: &Path) -> anyhow::Result<()> {
    let output = tokio::process::Command::new(program)
        .args(["sandrun", "--generate-key"])
        .arg(file)
        .env("SANDRUN_CONFIG", "/dev/null")
        .output()
        .await
        .with_context(|| format!("starting {}", program.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "making a worker key: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Finds the node's index in the line `ready: node N` that an agent prints.
fn ready(line: &str) -> Option<NodeIndex> {
    line.strip_prefix("ready: node ")?
        .trim()
        .parse()
        .ok()
        .map(NodeIndex)
}

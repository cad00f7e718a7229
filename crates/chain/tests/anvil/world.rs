//! A market on a fresh chain, its people, and what tests ask of them.

use std::time::Duration;

use futures::StreamExt as _;
use sandrun_chain::anvil::{Anvil, AnvilOptions, Mining};
use sandrun_chain::{
    Bytes, Chain, ChainUpdate, ConnectOptions, Deployment, Head, Logged, MarketReader, MarketTerms, Sender,
    SenderConfig, TxOutcome, Watch, deploy,
};
use sandrun_core::market::{MarketEvent, Profile};
use sandrun_types::{
    Amount, B256, ChainId, ClassId, ContentDigest, JobId, ManifestDigest, NodeIndex, Order, Redundancy,
    Token, U256, WorkerId, ticket,
};

pub(crate) const CLASS: ClassId = ClassId([0; 32]);
/// Longest wait for something that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A chain with a deployed market.
pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) chain: Chain,
    pub(crate) market: Deployment,
    pub(crate) reader: MarketReader,
    pub(crate) client: Sender,
}

/// A registered node.
pub(crate) struct Node {
    pub(crate) index: NodeIndex,
    pub(crate) sender: Sender,
    pub(crate) stake: Amount,
}

pub(crate) async fn connect(anvil: &Anvil) -> anyhow::Result<Chain> {
    let options = ConnectOptions {
        poll_interval: Some(Duration::from_millis(30)),
        ..ConnectOptions::default()
    };
    Ok(Chain::connect_with(anvil.url(), Some(ChainId(anvil.chain_id())), options).await?)
}

/// A chain that mines with each transaction, and a connection to it.
pub(crate) async fn chain() -> anyhow::Result<(Anvil, Chain)> {
    let anvil = Anvil::start(&AnvilOptions {
        mining: Mining::Auto,
        ..AnvilOptions::default()
    })
    .await?;
    let chain = connect(&anvil).await?;
    Ok((anvil, chain))
}

impl World {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        Self::on(&MarketTerms::testnet()).await
    }

    /// A market with these terms.
    pub(crate) async fn on(terms: &MarketTerms) -> anyhow::Result<Self> {
        let (anvil, chain) = chain().await?;
        let sender = Sender::new(chain.clone(), Anvil::key(0)?, None, SenderConfig::default());
        let market = deploy(&sender, terms).await?;
        let reader = MarketReader::verified(chain.clone(), market.clone()).await?;
        let client = Sender::new(
            chain.clone(),
            Anvil::key(1)?,
            Some(market.clone()),
            SenderConfig::default(),
        );
        Ok(Self {
            anvil,
            chain,
            market,
            reader,
            client,
        })
    }

    pub(crate) fn sender(&self, account: usize) -> anyhow::Result<Sender> {
        let key = Anvil::key(account)?;
        Ok(Sender::new(
            self.chain.clone(),
            key,
            Some(self.market.clone()),
            SenderConfig::default(),
        ))
    }

    /// Registers account `account` as a node with a coin of stake, and opts it in.
    pub(crate) async fn node(&self, account: usize) -> anyhow::Result<Node> {
        let sender = self.sender(account)?;
        let (owner, stake) = (sender.address(), Amount::from_gwei(1_000_000_000));
        let signature =
            Anvil::key(account)?.sign_registration(self.chain.id(), self.market.registry, owner)?;
        let profile = Profile {
            worker_key: WorkerId([7; 32]),
            worker_key_proof: Bytes::from(vec![1; 64]),
            seal_key: B256::ZERO,
            capabilities: Bytes::from_static(b"{}"),
        };
        sender
            .send(self.market.register(owner, signature, owner, &profile, stake))
            .await?;
        let index = self
            .reader
            .node_by_worker(owner)
            .await?
            .ok_or_else(|| anyhow::anyhow!("not registered"))?;
        sender.send(self.market.opt_in(index, stake, &[CLASS])).await?;
        // units count for jobs that are posted later
        self.chain.dev_increase_time(2).await?;
        self.chain.dev_mine(1, 1).await?;
        Ok(Node { index, sender, stake })
    }

    pub(crate) fn order(&self, redundancy: Redundancy, nonce: u64) -> Order {
        Order {
            client: self.client.address(),
            payer: self.client.address(),
            nonce: U256::from(nonce),
            bundle: ContentDigest([2; 32]),
            manifest: ManifestDigest([3; 32]),
            class: CLASS,
            requirements: U256::ZERO,
            token: Token::Native,
            price: Amount::from_gwei(30_000_000),
            redundancy,
            bond: Amount::from_gwei(150_000_000),
            wall_limit: 60,
            min_reputation: 0,
            client_key: B256::ZERO,
        }
    }

    pub(crate) async fn post(&self, order: &Order) -> anyhow::Result<(JobId, TxOutcome)> {
        let call = self
            .market
            .post(order)
            .ok_or_else(|| anyhow::anyhow!("sum overflows"))?;
        Ok((
            order.job_id(self.market.escrow_ref()),
            self.client.send(call).await?,
        ))
    }

    /// Claims a seat as soon as one of the node's tickets wins.
    pub(crate) async fn claim(&self, node: &Node, job: JobId, round: u8) -> anyhow::Result<TxOutcome> {
        let units = (node.stake.0 / Amount::from_gwei(100_000_000).0).to::<u32>();
        loop {
            if let Some(seed) = self.reader.seed(job).await? {
                let block = self.chain.head().await?.block.number + 1;
                let threshold = self.reader.threshold(job, block).await?;
                let wins = |unit: &u32| ticket(seed, job, round, node.index, *unit) < threshold;
                if let Some(unit) = (0..units).find(wins) {
                    return Ok(node.sender.send(self.market.claim(job, node.index, unit)).await?);
                }
            }
            self.chain.dev_mine(1, 1).await?;
        }
    }
}

/// The next update of a watch.
pub(crate) async fn next(watch: &mut Watch) -> anyhow::Result<ChainUpdate> {
    let update = tokio::time::timeout(SOON, watch.next()).await?;
    Ok(update.ok_or_else(|| anyhow::anyhow!("the watch ended"))??)
}

/// The next update that is no head.
pub(crate) async fn next_fact(watch: &mut Watch) -> anyhow::Result<ChainUpdate> {
    loop {
        match next(watch).await? {
            ChainUpdate::Head(_) => {}
            update @ (ChainUpdate::Applied(_) | ChainUpdate::Undone(_)) => return Ok(update),
        }
    }
}

/// Everything applied up to block `number`, and the head there.
pub(crate) async fn applied_until(watch: &mut Watch, number: u64) -> anyhow::Result<(Vec<Logged>, Head)> {
    let mut events = Vec::new();
    loop {
        match next(watch).await? {
            ChainUpdate::Head(head) if head.block.number >= number => return Ok((events, head)),
            ChainUpdate::Head(_) => {}
            ChainUpdate::Applied(logged) => events.push(logged),
            ChainUpdate::Undone(logged) => anyhow::bail!("undone: {logged:?}"),
        }
    }
}

pub(crate) fn is_posted(event: &MarketEvent, id: JobId) -> bool {
    matches!(event, MarketEvent::JobPosted { job, .. } if *job == id)
}

pub(crate) fn is_claimed(event: &MarketEvent, id: JobId) -> bool {
    matches!(event, MarketEvent::SeatClaimed { job, .. } if *job == id)
}

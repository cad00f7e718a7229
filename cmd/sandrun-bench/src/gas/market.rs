//! A market with plain keys in the places of client and agents. Owns the sequence of calls; never judges what they cost.

use std::time::Duration;

use anyhow::Context as _;
use sandrun_chain::anvil::{Anvil, AnvilOptions};
use sandrun_chain::{
    Bytes, Call, Chain, ConnectOptions, Deployment, MarketReader, MarketTerms, Opening, Sender, SenderConfig,
    deploy,
};
use sandrun_core::market::{Outcome, Phase, Profile};
use sandrun_types::{
    Amount, B256, ChainId, ClassId, ContentDigest, ExitStatus, JobId, ManifestDigest, NodeIndex, Order,
    OutputRoot, Redundancy, Requirements, ResultParts, SeatIndex, Token, TraceRoot, U256, WorkerId,
    commitment, ticket,
};

/// A class of the kind `native`. As in all words here no byte is zero but where a real one's is: zeros are cheaper in
/// call data than a hash is.
const CLASS: ClassId = {
    let mut word = [0x11; 32];
    word[0] = 0;
    ClassId(word)
};
const SALT: B256 = B256::repeat_byte(0x77);
/// Units of stake of each node.
const UNITS: u32 = 10;

/// The chain, the contracts, and who acts.
pub(super) struct Market {
    // ends the chain when dropped
    _anvil: Anvil,
    chain: Chain,
    contracts: Deployment,
    reader: MarketReader,
    client: Sender,
    nodes: Vec<Node>,
    redundancy: Redundancy,
    unit: Amount,
}

struct Node {
    index: NodeIndex,
    sender: Sender,
}

impl Market {
    /// A fresh market with as many nodes as there are seats.
    pub(super) async fn open(redundancy: Redundancy) -> anyhow::Result<Self> {
        let anvil = Anvil::start(&AnvilOptions::default()).await?;
        let options = ConnectOptions {
            poll_interval: Some(Duration::from_millis(20)),
            ..ConnectOptions::default()
        };
        let chain = Chain::connect_with(anvil.url(), Some(ChainId(anvil.chain_id())), options).await?;
        let deployer = Sender::new(chain.clone(), Anvil::key(0)?, None, SenderConfig::default());
        let terms = MarketTerms::testnet();
        let contracts = deploy(&deployer, &terms).await?;
        let reader = MarketReader::verified(chain.clone(), contracts.clone()).await?;
        let client = Sender::new(
            chain.clone(),
            Anvil::key(1)?,
            Some(contracts.clone()),
            SenderConfig::default(),
        );
        let mut market = Self {
            _anvil: anvil,
            chain,
            contracts,
            reader,
            client,
            nodes: Vec::new(),
            redundancy,
            unit: terms.parameters.unit,
        };
        for seat in 0..redundancy.replicas() {
            let node = market.register(2 + usize::from(seat)).await?;
            market.nodes.push(node);
        }
        // units of stake count for jobs that are posted later
        market.chain.dev_increase_time(2).await?;
        market.chain.dev_mine(1, 1).await?;
        Ok(market)
    }

    async fn register(&self, account: usize) -> anyhow::Result<Node> {
        let key = Anvil::key(account)?;
        let owner = key.address();
        let signature = key.sign_registration(self.chain.id(), self.contracts.registry, owner)?;
        let sender = Sender::new(
            self.chain.clone(),
            key,
            Some(self.contracts.clone()),
            SenderConfig::default(),
        );
        let profile = Profile {
            worker_key: WorkerId([7; 32]),
            worker_key_proof: Bytes::from(vec![1; 64]),
            seal_key: B256::ZERO,
            capabilities: Bytes::from_static(b"{}"),
        };
        let stake = Amount(self.unit.0 * U256::from(UNITS));
        sender
            .send(self.contracts.register(owner, signature, owner, &profile, stake))
            .await?;
        let index = self
            .reader
            .node_by_worker(owner)
            .await?
            .context("a node that was registered has an index")?;
        sender.send(self.contracts.opt_in(index, stake, &[CLASS])).await?;
        Ok(Node { index, sender })
    }

    /// Posts a job, sees it through to its end, and returns the gas of all its transactions.
    pub(super) async fn settle_a_job(&self, nonce: u64) -> anyhow::Result<u64> {
        let order = self.order(nonce);
        let job = order.job_id(self.contracts.escrow_ref());
        let post = self.contracts.post(&order).context("the locked sum overflows")?;
        let mut gas = send(&self.client, post).await?;
        for node in &self.nodes {
            gas += self.claim(node, job).await?;
        }
        gas += self.answer(job).await?;
        let state = self
            .reader
            .job(job)
            .await?
            .context("a job that was posted has a state")?;
        anyhow::ensure!(
            state.phase == Phase::Closed && state.outcome == Some(Outcome::Digest),
            "job {job} ended in phase {:?} with {:?} instead of a digest that was paid",
            state.phase,
            state.outcome
        );
        if !state.remaining.is_zero() {
            gas += send(&self.client, self.contracts.refund(&order)).await?;
        }
        Ok(gas)
    }

    fn order(&self, nonce: u64) -> Order {
        let requirements = Requirements {
            cpu_cores: 1,
            memory_mib: 512,
            ..Requirements::default()
        };
        Order {
            client: self.client.address(),
            payer: self.client.address(),
            // clients draw theirs
            nonce: U256::MAX - U256::from(nonce),
            bundle: ContentDigest([0x22; 32]),
            manifest: ManifestDigest([0x33; 32]),
            class: CLASS,
            requirements: requirements.to_word(),
            token: Token::Native,
            price: Amount::from_gwei(30_000_000),
            redundancy: self.redundancy,
            bond: Amount::from_gwei(150_000_000),
            wall_limit: 60,
            min_reputation: 0,
            client_key: B256::ZERO,
        }
    }

    /// Claims a seat as soon as one of the node's tickets wins; blocks go by until then.
    async fn claim(&self, node: &Node, job: JobId) -> anyhow::Result<u64> {
        loop {
            if let Some(seed) = self.reader.seed(job).await? {
                let next = self.chain.head().await?.block.number + 1;
                let threshold = self.reader.threshold(job, next).await?;
                let winning = (0..UNITS).find(|unit| ticket(seed, job, 0, node.index, *unit) < threshold);
                if let Some(unit) = winning {
                    return send(&node.sender, self.contracts.claim(job, node.index, unit)).await;
                }
            }
            self.chain.dev_mine(1, 1).await?;
        }
    }

    /// All seats commit to one digest, then reveal it. Seats are numbered by claims, which were made in the nodes' order.
    async fn answer(&self, job: JobId) -> anyhow::Result<u64> {
        let result = ResultParts {
            class: CLASS,
            exit: ExitStatus::Code(0),
            output_root: OutputRoot([0x44; 32]),
            trace_root: TraceRoot([0x55; 32]),
            content: ContentDigest([0x66; 32]),
        };
        let answer: B256 = result.digest(self.contracts.escrow_ref(), job).into();
        let seats = || (0..).map(SeatIndex).zip(&self.nodes);
        let mut gas = 0;
        for (seat, node) in seats() {
            let commitment = commitment(job, 0, node.index, answer, SALT);
            gas += send(&node.sender, self.contracts.commit(job, seat, commitment)).await?;
        }
        for (seat, node) in seats() {
            let call = if seat.0 == 0 {
                self.contracts.reveal_result(job, seat, &result, SALT)
            } else {
                self.contracts.reveal(
                    job,
                    &[Opening {
                        seat,
                        answer,
                        salt: SALT,
                    }],
                )
            };
            gas += send(&node.sender, call).await?;
        }
        Ok(gas)
    }
}

async fn send(sender: &Sender, call: Call) -> anyhow::Result<u64> {
    Ok(sender.send(call).await?.gas_used)
}

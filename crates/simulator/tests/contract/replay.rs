//! A real market on anvil beside a fresh model.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{B256 as Hash, U256};
use alloy::providers::Provider as _;
use anyhow::{Context as _, bail, ensure};
use sandrun_chain::anvil::{Anvil, AnvilOptions, Mining};
use sandrun_chain::{
    Bytes, Call as RealCall, Chain, Deployment, Key, KeyError, MarketReader, MarketTerms,
    Opening as RealOpening, Sender, SenderConfig, decode, deploy,
};
use sandrun_core::market::escrow::{Call, Escrow, Moment, Parameters, Refusal};
use sandrun_core::market::rules::{Stake, seed_block};
use sandrun_core::market::{JobFacts, MarketEvent, Profile};
use sandrun_simulator::{Script, ScriptBlock, terms};
use sandrun_types::{Address, Amount, B256, ClassId, JobId, NodeIndex, Order, Token, WorkerId};
use serde_json::{Value, json};

use super::translate::Translation;

/// What a claim costs, by the contract's constant.
const CLAIM_GAS: u64 = 42_000;

/// The chain begins so many seconds before the script's first block.
const BEFORE: u64 = 10_000;

/// Both, and where they stand.
pub(crate) struct Replay {
    // ends when dropped
    _anvil: Anvil,
    chain: Chain,
    market: Deployment,
    model: Escrow,
    translation: Translation,
    hashes: BTreeMap<u64, B256>,
    facts: BTreeMap<JobId, JobFacts>,
    again: Vec<(Address, Call)>,
    rich: BTreeSet<Address>,
}

impl Replay {
    /// A fresh market with the script's nodes.
    pub(crate) async fn start(script: &Script) -> anyhow::Result<Self> {
        // one script is one history: keys and every block's time, and so its hash, follow from it
        let first = script.blocks.first().map_or(0, |block| block.time.0);
        let start = (first - BEFORE).to_string();
        let extra = [
            "--order",
            "fifo",
            "--gas-limit",
            "1000000000",
            "--timestamp",
            &start,
        ];
        let options = AnvilOptions {
            mining: Mining::Auto,
            extra: extra.map(str::to_owned).into(),
            ..AnvilOptions::default()
        };
        let anvil = Anvil::start(&options).await?;
        let chain = anvil.connect().await?;
        request(&chain, "anvil_setBlockTimestampInterval", json!([1])).await?;
        let (parameters, token) = terms();
        let parameters = Parameters {
            claim_gas: CLAIM_GAS,
            ..parameters
        };
        let sender = Sender::new(chain.clone(), Anvil::key(0)?, None, SenderConfig::default());
        let terms = real_terms(&parameters, &token);
        let market = deploy(&sender, &terms).await?;
        chain.dev_automine(false).await?;
        request(&chain, "anvil_autoImpersonateAccount", json!([true])).await?;
        let keys = script.nodes.iter().map(|(node, _, _)| worker_key(*node));
        let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
        let workers = script.nodes.iter().zip(&keys);
        let workers = workers.map(|((_, _, old), key)| (*old, key.address())).collect();
        let here = market.escrow_ref();
        let mut it = Self {
            _anvil: anvil,
            chain,
            model: Escrow::new(here, parameters, [token]),
            translation: Translation::new(script, here, workers),
            market,
            hashes: BTreeMap::new(),
            facts: BTreeMap::new(),
            again: Vec::new(),
            rich: BTreeSet::new(),
        };
        for (((node, account, _), key), units) in script.nodes.iter().zip(&keys).zip(&script.stakes) {
            it.register(*node, *account, key, *units).await?;
        }
        Ok(it)
    }

    async fn register(
        &mut self,
        node: NodeIndex,
        account: Address,
        key: &Key,
        units: u64,
    ) -> anyhow::Result<()> {
        let stake = Amount::from_gwei(100_000_000 * units);
        let signature = key.sign_registration(self.chain.id(), self.market.registry, account)?;
        let profile = Profile {
            worker_key: WorkerId([7; 32]),
            worker_key_proof: Bytes::from(vec![1; 64]),
            seal_key: B256::ZERO,
            capabilities: Bytes::from_static(b"{}"),
        };
        let classes = [0, 1].map(|kind| {
            let mut bytes = [7; 32];
            bytes[0] = kind;
            ClassId(bytes)
        });
        let register = Call::Register {
            worker: key.address(),
            payout: account,
            stake: Stake(stake),
        };
        let opt_in = Call::OptIn {
            node,
            cap: Stake(stake),
            classes: classes.to_vec(),
        };
        let real = [
            self.market
                .register(key.address(), signature, account, &profile, stake),
            self.market.opt_in(node, stake, &classes),
        ];
        for (real, call) in real.into_iter().zip([register, opt_in]) {
            self.send(account, &real).await?;
            self.chain.dev_mine(1, 1).await?;
            let at = self.moment().await?;
            self.model.apply(at, account, call)?;
        }
        Ok(())
    }

    /// The newest block.
    async fn moment(&mut self) -> anyhow::Result<Moment> {
        let head = self.chain.head().await?;
        self.hashes.insert(head.block.number, head.block.hash.0);
        Ok(Moment {
            now: head.timestamp,
            block: head.block.number,
            base_fee: Amount(U256::from(head.base_fee.unwrap_or_default())),
        })
    }

    async fn send(&mut self, from: Address, call: &RealCall) -> anyhow::Result<Hash> {
        if self.rich.insert(from) {
            let coins = json!([from, "0x3635c9adc5dea00000"]);
            request(&self.chain, "anvil_setBalance", coins).await?;
        }
        let transaction = json!([{
            "from": from,
            "to": call.to,
            "data": call.input,
            "value": call.value.0,
            "gas": "0x1e8480",
            "maxFeePerGas": "0x174876e800",
            "maxPriorityFeePerGas": "0x0",
        }]);
        let hash = request(&self.chain, "eth_sendTransaction", transaction).await?;
        Ok(serde_json::from_value(hash)?)
    }

    /// Executes one block on both; how many calls were accepted and refused.
    pub(crate) async fn block(&mut self, block: &ScriptBlock) -> anyhow::Result<(u32, u32)> {
        let number = self.chain.head().await?.block.number + 1;
        let wei = format!("{:#x}", block.base_fee * 1_000_000_000);
        request(&self.chain, "anvil_setNextBlockBaseFeePerGas", json!([wei])).await?;
        request(&self.chain, "evm_setNextBlockTimestamp", json!([block.time.0])).await?;
        // what a call becomes may depend on those before it in the same block: they run on a copy first
        let mut ahead = self.model.clone();
        let at = Moment {
            now: block.time,
            block: number,
            base_fee: Amount::from_gwei(block.base_fee),
        };
        let mut sent = Vec::new();
        // who draws no ticket tries again, as nodes do
        let again = std::mem::take(&mut self.again);
        for (from, old) in again.iter().chain(&block.calls) {
            let seed = |job: JobId| self.seed(&ahead, job, number);
            let call = self.translation.call(old, &ahead, seed);
            let from = self.translation.caller(*from);
            let expected = ahead.apply(at, from, call.clone());
            let Some(real) = self.real(&call) else { continue };
            if matches!(expected, Err(Refusal::NoTicket { .. })) {
                self.again.push((from, old.clone()));
            }
            let hash = self.send(from, &real).await?;
            sent.push((hash, call, expected));
        }
        request(&self.chain, "evm_mine", json!([])).await?;
        let mined = self.moment().await?;
        ensure!(mined == at, "block {number} is {mined:?}, not {at:?}");
        self.model = ahead;
        let (mut accepted, mut refused) = (0, 0);
        for (hash, call, expected) in sent {
            let receipt = self.chain.provider().get_transaction_receipt(hash).await?;
            let receipt = receipt.with_context(|| format!("{call:?} was not mined"))?;
            let told: Result<Vec<_>, _> = receipt
                .logs()
                .iter()
                .map(|log| decode(&self.market, &log.inner))
                .collect();
            let told: Vec<MarketEvent> = told?.into_iter().flatten().map(as_told).collect();
            self.fold(&told)?;
            let told = without_phases(told);
            match expected {
                Ok(events) if receipt.status() => {
                    let events = without_phases(events.into_iter().map(as_told).collect());
                    ensure!(
                        told == events,
                        "{call:?}: the contract says {told:#?}, the model {events:#?}"
                    );
                    accepted += 1;
                }
                Err(_) if !receipt.status() => refused += 1,
                other => bail!(
                    "{call:?}: accepted by the contract is {}, the model says {other:?}",
                    receipt.status()
                ),
            }
        }
        for (job, facts) in &self.facts {
            let record = self
                .model
                .job(*job)
                .with_context(|| format!("there is no job {job}"))?;
            let (told, is) = (facts.progress(), &record.progress);
            ensure!(
                (told.round, told.phase, told.deadline, told.resolution)
                    == (is.round, is.phase, is.deadline, is.resolution),
                "the contract's events say {told:?}, the model is at {is:?}"
            );
        }
        Ok((accepted, refused))
    }

    /// What anyone makes of the contract's events.
    fn fold(&mut self, told: &[MarketEvent]) -> anyhow::Result<()> {
        let windows = self.model.parameters().windows;
        for event in told {
            let Some(job) = event.job() else { continue };
            match self.facts.get_mut(&job) {
                Some(facts) => facts.apply(event)?,
                None => {
                    self.facts.insert(job, JobFacts::posted(event, windows)?);
                }
            }
        }
        Ok(())
    }

    fn seed(&self, model: &Escrow, job: JobId, number: u64) -> B256 {
        let opened = model.job(job).map_or(0, |record| record.opened_block);
        let wanted = seed_block(opened, number);
        self.hashes.get(&wanted).copied().unwrap_or_default()
    }

    fn order(&self, job: JobId) -> Option<&Order> {
        let here = self.market.escrow_ref();
        self.translation
            .orders
            .values()
            .find(|order| order.job_id(here) == job)
    }

    /// The transaction of a call; none for those that name an order nobody knows.
    fn real(&self, call: &Call) -> Option<RealCall> {
        let market = &self.market;
        Some(match call {
            Call::Post { order, .. } => market.post(order)?,
            Call::Cancel { job } => market.cancel(self.order(*job)?),
            Call::Refund { job } => market.refund(self.order(*job)?),
            Call::Claim { job, node, unit, .. } => market.claim(*job, *node, *unit),
            Call::Commit {
                job,
                seat,
                commitment,
            } => market.commit(*job, *seat, *commitment),
            Call::Reveal { job, openings } => {
                let openings: Vec<RealOpening> = openings
                    .iter()
                    .map(|one| RealOpening {
                        seat: one.seat,
                        answer: one.answer.to_word(),
                        salt: one.salt,
                    })
                    .collect();
                market.reveal(*job, &openings)
            }
            Call::RevealResult {
                job,
                seat,
                result,
                salt,
            } => market.reveal_result(*job, *seat, result, *salt),
            Call::Poke { job } => market.poke(*job),
            Call::Withdraw { token, to } => market.withdraw(*token, *to),
            Call::WithdrawNode { node, token } => market.withdraw_node(*node, *token),
            Call::Leave { node, stake } => market.leave(*node, stake.0),
            Call::Register { .. }
            | Call::AddStake { .. }
            | Call::OptIn { .. }
            | Call::Release { .. }
            | Call::WithdrawStake { .. } => return None,
        })
    }

    /// Holds the end states against each other.
    pub(crate) async fn compare(&self) -> anyhow::Result<()> {
        let reader = MarketReader::new(self.chain.clone(), self.market.clone());
        for (job, record) in self.model.jobs() {
            let real = reader
                .job(job)
                .await?
                .with_context(|| format!("job {job} is not there"))?;
            let progress = &record.progress;
            let outcome = progress.resolution.map(|it| it.outcome());
            ensure!(
                (real.phase, real.outcome, real.round) == (progress.phase, outcome, progress.round),
                "job {job} is {real:?}, in the model {progress:?}"
            );
            ensure!(
                real.remaining == record.remaining.0,
                "job {job} has {:?}",
                real.remaining
            );
            ensure!(
                usize::from(real.seats) == record.holders.len(),
                "job {job} has {} seats",
                real.seats
            );
        }
        for (node, record) in self.model.nodes() {
            let real = reader
                .node(node)
                .await?
                .with_context(|| format!("node {node} is not there"))?;
            let here = (
                record.stake.0,
                record.cap.0,
                record.locked.0,
                record.leaving.0,
                record.reputation,
            );
            let there = (
                real.registry.stake,
                real.escrow.cap,
                real.escrow.locked,
                real.opt_in.leaving,
                real.escrow.reputation,
            );
            ensure!(there == here, "node {node} has {there:?}, in the model {here:?}");
            let earned = self.model.earned(Token::Native, node).0;
            ensure!(
                real.escrow.earned == earned,
                "node {node} has earned {:?}",
                real.escrow.earned
            );
        }
        for owner in &self.rich {
            let (real, here) = (
                reader.credit(*owner, Token::Native).await?,
                self.model.balance_of(Token::Native, *owner).0,
            );
            ensure!(real == here, "{owner} has {real:?} coming, in the model {here:?}");
        }
        Ok(())
    }
}

/// What both have to say in one transaction, in whatever order. The contract leaves changes of phase out where the event
/// before them carries the new deadline; where a job stands is compared by itself.
fn without_phases(mut events: Vec<MarketEvent>) -> Vec<MarketEvent> {
    events.retain(|event| !matches!(event, MarketEvent::PhaseChanged { .. }));
    events.sort_by_cached_key(|event| format!("{event:?}"));
    events
}

/// An event as a log can tell it: of a winner's word the leading bits.
fn as_told(mut event: MarketEvent) -> MarketEvent {
    if let MarketEvent::JobDecided { answer, .. } = &mut event {
        answer.0[27..].fill(0);
    }
    event
}

fn real_terms(parameters: &Parameters, token: &sandrun_core::market::escrow::TokenTerms) -> MarketTerms {
    let mut terms = MarketTerms::testnet();
    terms.parameters.tip = parameters.tip.0;
    terms.parameters.unit = parameters.unit.0;
    terms.exit_delay = parameters.exit_delay;
    for mine in &mut terms.tokens {
        mine.granule = token.granule.0;
        mine.attempt_fee = token.attempt_fee.0;
        mine.min_price = token.min_price.0;
        mine.max_single_price = token.max_single_price.0;
        mine.bond_per_price = token.bond_per_price.0;
    }
    terms
}

fn worker_key(node: NodeIndex) -> Result<Key, KeyError> {
    Key::from_hex(&format!("{:064x}", 0x5a_0000 + node.0), "the test")
}

async fn request(chain: &Chain, method: &'static str, params: Value) -> anyhow::Result<Value> {
    let answer = chain.provider().client().request(method, params).await;
    answer.with_context(|| format!("{method} failed"))
}

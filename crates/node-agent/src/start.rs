//! The start: everything is checked before any coin moves, then the node is registered, staked and opted in as far as
//! it is not already.

mod services;

use std::sync::Arc;

use sandrun_chain::{
    BlockHash, Chain, Key, MarketReader, NodeRecord, Sender, SenderConfig, worker_key_message,
};
use sandrun_core::market::Profile;
use sandrun_core::seat::Gate;
use sandrun_executor::worker_key;
use sandrun_store::{Journal, Note};
use sandrun_types::{
    Address, Amount, B256, Bytes, Capabilities, ClassId, NodeIndex, Sha256Hex, U256, WorkerId,
};
use tracing::info;

use crate::alone::{Alone, Taken};
use crate::config::AgentConfig;
use crate::error::{AgentError, Report as _};
use crate::images::Images;
use crate::node::Node;
use crate::operator::{Operator, OperatorError, Registration, claimed_elsewhere};
use crate::vitals::{AgentVitals, Started};
use services::Services;

/// Gas of registration and opt-in together, rounded up.
const GAS_TO_ENROL: u64 = 1_500_000;
/// Gas of one job, rounded up.
const GAS_PER_JOB: u64 = 400_000;

/// A node that is ready to work.
pub(crate) struct Ready {
    pub(crate) node: Arc<Node>,
    /// No other agent of this machine has the key meanwhile.
    pub(crate) alone: Alone,
    pub(crate) journal: Journal,
    pub(crate) gate: Gate,
    /// The first block to read.
    pub(crate) resume_from: u64,
}

/// Checks, registers, and opens the journal.
pub(crate) async fn start(config: AgentConfig, vitals: Arc<AgentVitals>) -> Result<Ready, AgentError> {
    let services = Services::connect(&config).await?;
    let reader = services.reader.clone();
    let chain = reader.chain().clone();
    let at = reader.deployment().escrow_ref();
    let worker_key = config.worker_key.clone().unwrap_or_else(|| config.key.clone());
    let worker = worker_key.address();
    let mut journal = Journal::open(&config.data_dir, at, worker)?;
    let rpc = chain.endpoint().to_string();
    let alone = Alone::claim(&[
        &rpc,
        &at.chain.to_string(),
        &at.escrow.to_string(),
        &worker.to_string(),
    ])
    .map_err(|Taken| AgentError::Twin { worker })?;
    let (head, noted) = check_chain(&config, &chain, &mut journal).await?;
    vitals.started(Started::new(&config, &chain, head));
    // a former run's, which nobody uses now: what is needed is fetched again
    for folder in [config.bundles_folder(), config.results_folder()] {
        crate::bundle::clear(&folder)
            .await
            .map_err(|error| AgentError::Folder(Box::new(error)))?;
    }

    let (account_sender, hot_sender) = senders(&config, &reader, worker_key);
    let enrol = Enrolment {
        config: &config,
        reader: &reader,
        worker_id: services.worker_id,
        capabilities: &services.capabilities,
        classes: &services.classes,
    };
    let (index, is_new) = enrol.run(account_sender, worker, &mut journal).await?;
    let resume_from = match noted {
        Some(block) => block,
        // nothing that was posted before can be won by a node that is younger
        None if is_new => head,
        None => reader.deployment().deployed_block,
    };
    journal.set_note(Note::ResumeFrom, &resume_from)?;
    let gate = gate(&config, &mut journal, head)?;

    let parameters = reader.parameters().await?;
    let images = Images::new(config.images_folder());
    if let Err(error) = images.forget_others(&journal.open_jobs()?).await {
        tracing::debug!(error = error.report(), "an image of a former run stays pinned");
    }
    let node = Node {
        account: config.key.address(),
        confirmations: config
            .confirmations
            .unwrap_or_else(|| chain.id().default_confirmations()),
        windows: parameters.windows(),
        unit: parameters.unit,
        sender: hot_sender,
        config,
        reader,
        store: services.store,
        images,
        executor: services.executor,
        worker_id: services.worker_id,
        class: services.class,
        classes: services.classes,
        index,
        worker,
        at,
        capabilities: services.capabilities,
        vitals,
    };
    Ok(Ready {
        node: Arc::new(node),
        alone,
        journal,
        gate,
        resume_from,
    })
}

/// Who signs for the account, and who with the hot key: the same where there is one key.
fn senders(config: &AgentConfig, reader: &MarketReader, worker_key: Key) -> (Sender, Sender) {
    let sender = |key| {
        Sender::new(
            reader.chain().clone(),
            key,
            Some(reader.deployment().clone()),
            SenderConfig::default(),
        )
    };
    let account = sender(config.key.clone());
    let hot = if worker_key.address() == config.key.address() {
        account.clone()
    } else {
        sender(worker_key)
    };
    (account, hot)
}

/// Sees that the journal is about this chain and not about one with the same id that is gone; the head, and the block
/// to read from, as the journal has it.
async fn check_chain(
    config: &AgentConfig,
    chain: &Chain,
    journal: &mut Journal,
) -> Result<(u64, Option<u64>), AgentError> {
    let path = || config.data_dir.clone();
    let head = chain.head().await?.block.number;
    let noted: Option<u64> = journal.note(Note::ResumeFrom)?;
    if let Some(noted) = noted.filter(|noted| *noted > head) {
        let path = path();
        return Err(AgentError::OtherChain { path, noted, head });
    }
    // the first block is the only one that no reorganisation touches; a node that has pruned it says nothing
    let Some(first) = chain.block_at(0).await? else {
        return Ok((head, noted));
    };
    let found = first.block.hash;
    match journal.note::<BlockHash>(Note::Genesis)? {
        Some(noted) if noted != found => {
            let path = path();
            return Err(AgentError::OtherGenesis { path, noted, found });
        }
        Some(_) => {}
        None => journal.set_note(Note::Genesis, &found)?,
    }
    Ok((head, noted))
}

/// The gate as the journal left it, opened again where the operator says so: then for all that the chain says up to
/// block `head`, which may be more than the fault that was noted.
fn gate(config: &AgentConfig, journal: &mut Journal, head: u64) -> Result<Gate, AgentError> {
    let mut gate: Gate = journal.note(Note::Gate)?.unwrap_or_default();
    if config.resume_after_fault {
        if let Some(fault) = gate.fault() {
            info!(%fault, "accepting jobs again");
        }
        gate.resume(head);
        journal.set_note(Note::Gate, &gate)?;
    }
    if let Some(fault) = gate.fault() {
        tracing::error!(%fault, "this node accepts no more jobs; start it with --resume-after-fault to go on");
    }
    Ok(gate)
}

struct Enrolment<'a> {
    config: &'a AgentConfig,
    reader: &'a MarketReader,
    worker_id: WorkerId,
    capabilities: &'a Capabilities,
    classes: &'a [ClassId],
}

impl Enrolment<'_> {
    /// Registers, stakes and opts in as far as it is missing; the node, and whether it is new.
    async fn run(
        &self,
        sender: Sender,
        worker: Address,
        journal: &mut Journal,
    ) -> Result<(NodeIndex, bool), AgentError> {
        let account = self.config.key.address();
        let known = self.reader.node_by_account(account).await?;
        let record = match known {
            Some(index) => self.reader.node(index).await?,
            None => None,
        };
        self.check_worker(record.as_ref(), account, worker).await?;
        let missing = self.missing_stake(record.as_ref());
        self.check_coin(account, worker, missing, record.is_none())
            .await?;

        let operator = Operator::new(self.reader.clone(), sender);
        let profile = self.profile(account)?;
        let digest = profile_digest(&profile);
        let is_new = record.is_none();
        let index = match &record {
            Some(record) => record.index,
            None => self.register(&operator, account, &profile, missing).await?,
        };
        if !is_new && journal.note::<Sha256Hex>(Note::Profile)? != Some(digest) {
            operator
                .announce(&profile)
                .await
                .map_err(step("announce the profile"))?;
        }
        journal.set_note(Note::Profile, &digest)?;
        if let (Some(record), Some(payout)) = (&record, self.config.payout)
            && record.registry.payout != payout
        {
            operator
                .set_payout(payout)
                .await
                .map_err(step("change the payout address"))?;
            info!(node = %index, %payout, "earnings go to another address from now on");
        }
        if !is_new && !missing.is_zero() {
            info!(%missing, "adding stake");
            operator.add_stake(missing).await.map_err(step("add stake"))?;
        }
        let cap = record.as_ref().map_or(Amount::ZERO, |record| record.opt_in.cap);
        let served = record.map(|record| record.classes).unwrap_or_default();
        if cap < self.config.stake || served != self.classes {
            let cap = cap.max(self.config.stake);
            operator
                .opt_in(cap, self.classes)
                .await
                .map_err(step("opt in to the escrow"))?;
            info!(node = %index, stake = %cap, "opted in");
        }
        Ok((index, is_new))
    }

    async fn register(
        &self,
        operator: &Operator,
        account: Address,
        profile: &Profile,
        stake: Amount,
    ) -> Result<NodeIndex, AgentError> {
        let registration = Registration {
            worker: self
                .config
                .worker_key
                .clone()
                .unwrap_or_else(|| self.config.key.clone()),
            payout: self.config.payout.unwrap_or(account),
            profile: profile.clone(),
            stake,
        };
        let index = operator
            .register(&registration)
            .await
            .map_err(step("register the node"))?;
        info!(node = %index, %account, %stake, "registered");
        Ok(index)
    }

    async fn check_worker(
        &self,
        record: Option<&NodeRecord>,
        account: Address,
        worker: Address,
    ) -> Result<(), AgentError> {
        match record {
            Some(record) if record.registry.worker != worker => Err(AgentError::OtherWorker {
                account,
                registered: record.registry.worker,
                ours: worker,
            }),
            Some(_) => Ok(()),
            None if self.reader.node_by_worker(worker).await?.is_some() => {
                Err(AgentError::WorkerTaken { worker })
            }
            None => Ok(()),
        }
    }

    /// Stake to deposit so that the wanted cap is covered.
    fn missing_stake(&self, record: Option<&NodeRecord>) -> Amount {
        let Some(record) = record else {
            return self.config.stake;
        };
        let needed = claimed_elsewhere(record).0.saturating_add(self.config.stake.0);
        Amount(needed.saturating_sub(record.registry.stake.0))
    }

    /// Coin for the stake and for the gas of the start and of a job, before anything is sent.
    async fn check_coin(
        &self,
        account: Address,
        worker: Address,
        stake: Amount,
        is_new: bool,
    ) -> Result<(), AgentError> {
        let price = self.reader.chain().fees().await?.max_fee_per_gas;
        let gas = |units: u64| U256::from(units).saturating_mul(U256::from(price));
        let enrol = if is_new || !stake.is_zero() {
            gas(GAS_TO_ENROL)
        } else {
            U256::ZERO
        };
        let mut needs = vec![(
            account,
            stake.0.saturating_add(enrol),
            "stake and gas of the registration",
        )];
        match needs.first_mut() {
            Some(first) if account == worker => first.1 = first.1.saturating_add(gas(GAS_PER_JOB)),
            Some(_) | None => needs.push((worker, gas(GAS_PER_JOB), "gas of claim, commit and reveal")),
        }
        for (account, needed, what) in needs {
            let balance = self.reader.chain().balance(account).await?;
            if balance.0 < needed {
                return Err(AgentError::NotEnoughCoin {
                    account,
                    balance,
                    needed: Amount(needed),
                    what,
                });
            }
        }
        Ok(())
    }

    fn profile(&self, account: Address) -> Result<Profile, AgentError> {
        let deployment = self.reader.deployment();
        let proof = match &self.config.executor_key {
            Some(path) => {
                let key = worker_key::load(path)?;
                if key.worker_id() != self.worker_id {
                    return Err(AgentError::OtherExecutorKey {
                        path: path.clone(),
                        in_file: key.worker_id(),
                        executor: self.worker_id,
                    });
                }
                let message = worker_key_message(deployment.chain, deployment.registry, account);
                Bytes::copy_from_slice(&key.sign(&message))
            }
            None => Bytes::new(),
        };
        Ok(Profile {
            worker_key: self.worker_id,
            worker_key_proof: proof,
            seal_key: B256::ZERO,
            capabilities: Bytes::from(self.capabilities.to_json()?.into_bytes()),
        })
    }
}

/// What tells two profiles apart.
fn profile_digest(profile: &Profile) -> Sha256Hex {
    let mut bytes = profile.worker_key.0.to_vec();
    bytes.extend_from_slice(profile.seal_key.as_slice());
    bytes.extend_from_slice(&Sha256Hex::of(&profile.worker_key_proof).0);
    bytes.extend_from_slice(&profile.capabilities);
    Sha256Hex::of(&bytes)
}

fn step(what: &'static str) -> impl FnOnce(OperatorError) -> AgentError {
    move |source| AgentError::Enrol {
        step: what,
        source: Box::new(source),
    }
}

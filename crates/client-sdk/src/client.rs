//! A client's actions on the market: post, follow, cancel, get money back. Owns their order; what is sent is checked
//! before. Never keeps state: everything is on the chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sandrun_chain::{
    Call, Key, MarketReader, ReadError, RpcError, SendError, Sender, SenderConfig, TxOutcome, UNLIMITED,
};
use sandrun_content::{ContentError, ContentStore};
use sandrun_core::market::rules::Windows;
use sandrun_core::market::{JobFacts, Phase};
use sandrun_environment::IMAGE_LIMITS;
use sandrun_types::{Address, Amount, Capabilities, JobId, NodeIndex, Order, Token};

use crate::fit::announced;
use crate::plan::{PlanError, Terms, plan};
use crate::snapshot::{JobEntry, SnapshotError, read_job};
use crate::{PreparedJob, Wish};

/// How often a posting is sent whose nonce others take.
const NONCE_RACES: u32 = 20;

/// A client of one market.
#[derive(Debug, Clone)]
pub struct Client {
    reader: MarketReader,
    store: Arc<dyn ContentStore>,
}

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The order can't be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Not enough to pay with.
    #[error(
        "{account} has {} of the {token}, and the job locks {}: lower --payment, or send some to {account}",
        balance.display(*decimals), needed.display(*decimals)
    )]
    Balance {
        /// The account.
        account: Address,
        /// What it has.
        balance: Amount,
        /// What is locked.
        needed: Amount,
        /// The token.
        token: Token,
        /// Decimals of the token.
        decimals: u8,
    },
    /// The bundle can't be stored.
    #[error("storing the bundle failed: {0}")]
    Store(#[from] ContentError),
    /// The environment can't be had.
    #[error(
        "the environment {id} is not in the content store ({source}): nodes fetch it from there, so put it in first with \
         `sandrun-pool env build LOCK --store URL`"
    )]
    Environment {
        /// Its content id, as the manifest has it.
        id: String,
        /// What the store says.
        source: Box<ContentError>,
    },
    /// The chain did not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A view did not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The market can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A transaction failed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No such job.
    #[error("job {0} was never posted on this escrow: check the id, the chain and the contract address")]
    UnknownJob(JobId),
    /// The job was there, and its posting is no part of the chain any more.
    #[error(
        "the chain has taken the posting of job {0} back and has not brought it again: nothing is held for it now; post it \
         again, or wait, as its transaction may still be mined"
    )]
    Undone(JobId),
    /// The refund was sent, and the chain does not show it.
    #[error("the rest of job {0} was not credited within a minute; `sandrun-pool job` says how it stands")]
    NotRefunded(JobId),
    /// The sum overflows.
    #[error("the payment is too large to be counted")]
    Overflow,
}

/// A job that was posted.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Its id.
    pub job: JobId,
    /// The order.
    pub order: Order,
    /// What was locked.
    pub locked: Amount,
    /// The transaction.
    pub transaction: TxOutcome,
}

impl Client {
    /// A client that reads through `reader` and stores through `store`.
    pub const fn new(reader: MarketReader, store: Arc<dyn ContentStore>) -> Self {
        Self { reader, store }
    }

    /// The reader.
    pub const fn reader(&self) -> &MarketReader {
        &self.reader
    }

    /// The content store.
    pub fn store(&self) -> &dyn ContentStore {
        self.store.as_ref()
    }

    /// The deployment's windows.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn windows(&self) -> Result<Windows, ClientError> {
        Ok(self.reader.parameters().await?.windows())
    }

    /// Makes the order for a prepared job, and checks it and the balance; nothing is sent.
    ///
    /// # Errors
    /// Terms that the order does not meet, too little money.
    pub async fn order(&self, job: &PreparedJob, wish: &Wish) -> Result<Order, ClientError> {
        let (parameters, tokens, nodes) = tokio::try_join!(
            self.reader.parameters(),
            self.reader.token_terms(),
            self.reader.nodes()
        )?;
        let capabilities = self.capabilities().await?;
        self.has_environment(job).await?;
        let decimals = self.decimals(wish.token, &tokens).await?;
        let terms = Terms {
            parameters: &parameters,
            tokens: &tokens,
            nodes: &nodes,
            capabilities: &capabilities,
            decimals,
        };
        let order = plan(job, wish, terms)?;
        let needed = order.locked_sum().ok_or(ClientError::Overflow)?;
        let balance = self.reader.balance(wish.client, wish.token).await?;
        if balance < needed {
            return Err(ClientError::Balance {
                account: wish.client,
                balance,
                needed,
                token: wish.token,
                decimals,
            });
        }
        Ok(order)
    }

    /// What each node announces.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn capabilities(&self) -> Result<BTreeMap<NodeIndex, Capabilities>, ClientError> {
        let head = self.reader.chain().head().await?;
        let first = self.reader.deployment().deployed_block;
        Ok(announced(&self.reader.events(first, head.block.number).await?))
    }

    /// What no node could fetch is said before anything is paid.
    async fn has_environment(&self, job: &PreparedJob) -> Result<(), ClientError> {
        // a name that was not resolved is refused by the nodes' own words
        let Some(id) = job
            .manifest
            .environment
            .as_deref()
            .and_then(|text| text.parse().ok())
        else {
            return Ok(());
        };
        match self.store.list(id, "", &IMAGE_LIMITS).await {
            Ok(_) => Ok(()),
            Err(source) if source.is_unavailable() => Err(ClientError::Environment {
                id: id.to_string(),
                source: Box::new(source),
            }),
            Err(error) => Err(error.into()),
        }
    }

    async fn decimals(&self, token: Token, allowed: &[sandrun_chain::TokenTerms]) -> Result<u8, ClientError> {
        // a token that the escrow does not take may be no contract at all: the plan refuses it by name
        if allowed.iter().all(|it| it.token != token) {
            return Ok(Amount::COIN_DECIMALS);
        }
        Ok(self.reader.decimals(token).await?)
    }

    /// Stores the bundle, then posts the order and locks the payment.
    ///
    /// # Errors
    /// A store that can't be reached, a transaction that fails; the bundle may lie in the store then.
    pub async fn post(&self, key: &Key, job: &PreparedJob, order: Order) -> Result<Posted, ClientError> {
        // a service that is silent is found out sooner than by an upload
        self.store.health().await?;
        self.store.add(&job.bundle).await?;
        let sender = self.sender(key);
        let deployment = self.reader.deployment();
        let locked = order.locked_sum().ok_or(ClientError::Overflow)?;
        if let Token::Erc20(token) = order.token
            && self.reader.allowance(sender.address(), token).await? < locked
        {
            sender.send(deployment.approve(token, UNLIMITED)).await?;
        }
        let call = deployment.post(&order).ok_or(ClientError::Overflow)?;
        let transaction = self.post_once(&sender, &call).await?;
        Ok(Posted {
            job: order.job_id(deployment.escrow_ref()),
            order,
            locked,
            transaction,
        })
    }

    /// Sends a posting until one of its transactions is mined. Other programs may post with the same key at this moment and take
    /// its nonce; a second posting of one order is refused by the escrow, so that nothing is ever paid twice.
    async fn post_once(&self, sender: &Sender, call: &Call) -> Result<TxOutcome, SendError> {
        for _ in 1..NONCE_RACES {
            match sender.send(call.clone()).await {
                Err(SendError::Replaced { .. }) => {
                    tokio::time::sleep(self.reader.chain().poll_interval()).await;
                }
                ended => return ended,
            }
        }
        sender.send(call.clone()).await
    }

    /// One job as it stands.
    ///
    /// # Errors
    /// A job that was never posted, no usable answer.
    pub async fn job(&self, job: JobId, windows: Windows) -> Result<JobEntry, ClientError> {
        read_job(&self.reader, job, windows)
            .await?
            .ok_or(ClientError::UnknownJob(job))
    }

    /// Follows a job until it is closed, calling `seen` whenever its facts have changed. Returns the final facts.
    ///
    /// # Errors
    /// A job that was never posted, or is no longer. An RPC that fails for a while is asked again, and so is one that has
    /// no such job.
    pub async fn follow(
        &self,
        job: JobId,
        windows: Windows,
        mut seen: impl FnMut(&JobFacts),
    ) -> Result<JobEntry, ClientError> {
        let pause = self
            .reader
            .chain()
            .poll_interval()
            .max(Duration::from_millis(100));
        let mut last: Option<JobFacts> = None;
        let mut failures = 0u32;
        loop {
            match self.job(job, windows).await {
                Ok(entry) => {
                    failures = 0;
                    if last.as_ref() != Some(&entry.facts) {
                        seen(&entry.facts);
                        last = Some(entry.facts.clone());
                    }
                    if entry.facts.phase == Phase::Closed {
                        return Ok(entry);
                    }
                }
                // a posting can be undone and come back; an RPC can stumble: three minutes of either are too much
                Err(ClientError::UnknownJob(job)) if failures >= 60 && last.is_some() => {
                    return Err(ClientError::Undone(job));
                }
                Err(error) if failures >= 60 => return Err(error),
                Err(_) => failures += 1,
            }
            tokio::time::sleep(pause.max(Duration::from_millis(u64::from(failures) * 100))).await;
        }
    }

    /// Takes a job back.
    ///
    /// # Errors
    /// A job that can't be taken back any more, a transaction that fails.
    pub async fn cancel(&self, key: &Key, order: &Order) -> Result<TxOutcome, ClientError> {
        Ok(self
            .sender(key)
            .send(self.reader.deployment().cancel(order))
            .await?)
    }

    /// Credits what is left of a closed job to its payer.
    ///
    /// # Errors
    /// A job that is not closed, a transaction that fails.
    pub async fn refund(&self, key: &Key, order: &Order) -> Result<TxOutcome, ClientError> {
        Ok(self
            .sender(key)
            .send(self.reader.deployment().refund(order))
            .await?)
    }

    /// Sees to it that the rest of a closed job is credited to its payer, and returns the job as it is then. A keeper may
    /// be quicker; it is the chain that says when it is done.
    ///
    /// # Errors
    /// No usable answer, or nothing credited within a minute.
    pub async fn refunded(&self, key: &Key, entry: JobEntry) -> Result<JobEntry, ClientError> {
        if entry.facts.remaining().is_zero() {
            return Ok(entry);
        }
        let windows = entry.facts.windows;
        let refused = self.refund(key, &entry.facts.order).await.err();
        let pause = self.reader.chain().poll_interval();
        let looks = 60_000 / pause.as_millis().max(1);
        for _ in 0..looks {
            let entry = self.job(entry.facts.job, windows).await?;
            if entry.facts.remaining().is_zero() {
                return Ok(entry);
            }
            tokio::time::sleep(pause).await;
        }
        Err(refused.unwrap_or(ClientError::NotRefunded(entry.facts.job)))
    }

    /// Pays out the key's own balance in the escrow.
    ///
    /// # Errors
    /// Nothing there, a transaction that fails.
    pub async fn withdraw(&self, key: &Key, token: Token, to: Address) -> Result<TxOutcome, ClientError> {
        Ok(self
            .sender(key)
            .send(self.reader.deployment().withdraw(token, to))
            .await?)
    }

    /// Gas that a job's transactions have taken so far.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn gas_of(&self, entry: &JobEntry) -> Result<u64, ClientError> {
        let mut gas = 0u64;
        for transaction in &entry.transactions {
            gas = gas.saturating_add(self.reader.chain().gas_used(*transaction).await?);
        }
        Ok(gas)
    }

    fn sender(&self, key: &Key) -> Sender {
        let chain = self.reader.chain().clone();
        Sender::new(
            chain,
            key.clone(),
            Some(self.reader.deployment().clone()),
            SenderConfig::default(),
        )
    }
}

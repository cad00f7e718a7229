//! What a node's owner does with stake and earnings, as calls for the command line and for the agent's start.
//!
//! Owns the order of steps and what is asked before money moves; never keeps a key longer than a call and never prints.

use sandrun_chain::{Key, MarketReader, NodeRecord, ReadError, Refusal, SendError, Sender, TxOutcome};
use sandrun_core::market::{MarketEvent, Profile};
use sandrun_types::{Address, Amount, ClassId, NodeIndex, Token, UnixSeconds};
use thiserror::Error;

/// A node's owner: the account's key, and a reader of the market.
#[derive(Debug, Clone)]
pub struct Operator {
    reader: MarketReader,
    sender: Sender,
}

/// What registers a node.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The hot key that will sign claims, commits and reveals; may be the account's own.
    pub worker: Key,
    /// Where earnings go.
    pub payout: Address,
    /// Keys and capabilities.
    pub profile: Profile,
    /// Stake to deposit, wei.
    pub stake: Amount,
}

/// What the escrow owes a node in one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earning {
    /// The token.
    pub token: Token,
    /// Base units.
    pub amount: Amount,
}

/// Why an owner's call was not carried out.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// No node.
    #[error("account {account} has no node; register one first (`sandrun-pool agent` does that)")]
    NotRegistered {
        /// The account.
        account: Address,
    },
    /// It has a node.
    #[error("account {account} has node {node} already; an account has one")]
    AlreadyRegistered {
        /// The account.
        account: Address,
        /// Its node.
        node: NodeIndex,
    },
    /// More than there is.
    #[error("cannot {what}: {asked} was asked for, {there} is there")]
    NotEnough {
        /// What was to be done.
        what: &'static str,
        /// Asked for, wei.
        asked: Amount,
        /// There, wei.
        there: Amount,
    },
    /// An exit is under way.
    #[error("stake is leaving already and can be released from {} on (Unix seconds); release it first", .leave_at.0)]
    ExitPending {
        /// From when on.
        leave_at: UnixSeconds,
    },
    /// Nothing leaves.
    #[error("no stake is on its way out; `sandrun-pool stake leave` starts that")]
    NothingLeaving,
    /// Too early.
    #[error("the stake can be released from {} on, it is {} (Unix seconds); try again then", .leave_at.0, .now.0)]
    NotYet {
        /// From when on.
        leave_at: UnixSeconds,
        /// The chain's time.
        now: UnixSeconds,
    },
    /// Nothing to pay out.
    #[error("node {node} has no earnings to withdraw")]
    NoEarnings {
        /// The node.
        node: NodeIndex,
    },
    /// The payout address takes nothing.
    #[error(
        "the payout address {payout} of node {node} does not take what it has earned in {token}; the earnings stay in the \
         escrow: start the agent once with --payout and an address that takes them, then withdraw again"
    )]
    PayoutRefuses {
        /// The node.
        node: NodeIndex,
        /// Where its earnings go.
        payout: Address,
        /// In what.
        token: Token,
    },
    /// The key cannot sign.
    #[error(transparent)]
    Key(#[from] sandrun_chain::KeyError),
    /// A view failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The transaction failed.
    #[error(transparent)]
    Send(#[from] Box<SendError>),
}

impl Operator {
    /// The owner whose key `sender` has. For earnings the hot key's will do as well.
    pub const fn new(reader: MarketReader, sender: Sender) -> Self {
        Self { reader, sender }
    }

    /// The account.
    pub fn account(&self) -> Address {
        self.sender.address()
    }

    /// The account's node, or the node whose hot key this is.
    ///
    /// # Errors
    /// [`OperatorError::NotRegistered`], or no usable answer.
    pub async fn node(&self) -> Result<NodeRecord, OperatorError> {
        let account = self.account();
        let index = match self.reader.node_by_account(account).await? {
            Some(index) => Some(index),
            None => self.reader.node_by_worker(account).await?,
        };
        let record = match index {
            Some(index) => self.reader.node(index).await?,
            None => None,
        };
        record.ok_or(OperatorError::NotRegistered { account })
    }

    /// Registers the account as a node and deposits its first stake.
    ///
    /// # Errors
    /// The account has one, or the transaction failed.
    pub async fn register(&self, registration: &Registration) -> Result<NodeIndex, OperatorError> {
        let account = self.account();
        if let Some(node) = self.reader.node_by_account(account).await? {
            return Err(OperatorError::AlreadyRegistered { account, node });
        }
        let deployment = self.reader.deployment();
        let Registration {
            worker,
            payout,
            profile,
            stake,
        } = registration;
        let signature = worker.sign_registration(deployment.chain, deployment.registry, account)?;
        let call = deployment.register(worker.address(), signature, *payout, profile, *stake);
        let outcome = self.send(call).await?;
        let registered = outcome.events.iter().find_map(|logged| {
            if let MarketEvent::NodeRegistered { node, .. } = &logged.event {
                Some(*node)
            } else {
                None
            }
        });
        match registered {
            Some(node) => Ok(node),
            None => Ok(self.node().await?.index),
        }
    }

    /// Announces keys and capabilities anew.
    ///
    /// # Errors
    /// No node, or the transaction failed.
    pub async fn announce(&self, profile: &Profile) -> Result<TxOutcome, OperatorError> {
        let node = self.node().await?.index;
        self.send(self.reader.deployment().set_profile(node, profile))
            .await
    }

    /// Has earnings go to another address from now on, those included that the escrow owes already.
    ///
    /// # Errors
    /// No node, or the transaction failed.
    pub async fn set_payout(&self, payout: Address) -> Result<TxOutcome, OperatorError> {
        let node = self.node().await?.index;
        self.send(self.reader.deployment().set_payout(node, payout)).await
    }

    /// Deposits more stake. It wins no seats before [`Operator::opt_in`] raises the cap.
    ///
    /// # Errors
    /// No node, or the transaction failed.
    pub async fn add_stake(&self, amount: Amount) -> Result<TxOutcome, OperatorError> {
        let node = self.node().await?.index;
        self.send(self.reader.deployment().add_stake(node, amount)).await
    }

    /// Lets the escrow lock up to `cap` of the stake, and serves `classes` there.
    ///
    /// # Errors
    /// No node, a cap above the free stake, or the transaction failed.
    pub async fn opt_in(&self, cap: Amount, classes: &[ClassId]) -> Result<TxOutcome, OperatorError> {
        let record = self.node().await?;
        let there = Amount(
            record
                .registry
                .stake
                .0
                .saturating_sub(claimed_elsewhere(&record).0),
        );
        if cap > there {
            return Err(OperatorError::NotEnough {
                what: "opt in",
                asked: cap,
                there,
            });
        }
        self.send(self.reader.deployment().opt_in(record.index, cap, classes))
            .await
    }

    /// Starts the exit of `amount` (of everything for `None`) from the escrow; returns when it can be released.
    ///
    /// # Errors
    /// No node, too much, an exit under way, or the transaction failed.
    pub async fn leave(&self, amount: Option<Amount>) -> Result<UnixSeconds, OperatorError> {
        let record = self.node().await?;
        if let Some(leave_at) = record
            .opt_in
            .leave_at
            .filter(|_| !record.opt_in.leaving.is_zero())
        {
            return Err(OperatorError::ExitPending { leave_at });
        }
        let there = record.opt_in.cap;
        let amount = amount.unwrap_or(there);
        if amount > there || amount.is_zero() {
            return Err(OperatorError::NotEnough {
                what: "leave",
                asked: amount,
                there,
            });
        }
        self.send(self.reader.deployment().leave(record.index, amount))
            .await?;
        Ok(self.node().await?.opt_in.leave_at.unwrap_or_default())
    }

    /// Releases what has left, once the exit delay is over.
    ///
    /// # Errors
    /// No node, nothing leaving, too early, bonds in the way, or the transaction failed.
    pub async fn release(&self) -> Result<TxOutcome, OperatorError> {
        let record = self.node().await?;
        let leave_at = record
            .opt_in
            .leave_at
            .filter(|_| !record.opt_in.leaving.is_zero());
        let leave_at = leave_at.ok_or(OperatorError::NothingLeaving)?;
        let sent = self.send(self.reader.deployment().release(record.index)).await;
        match sent {
            Err(OperatorError::Send(error))
                if error.revert().and_then(sandrun_chain::Revert::refusal) == Some(Refusal::ExitNotDue) =>
            {
                let now = self
                    .reader
                    .chain()
                    .head()
                    .await
                    .map_err(ReadError::from)?
                    .timestamp;
                Err(OperatorError::NotYet { leave_at, now })
            }
            other => other,
        }
    }

    /// Pays out free stake to `to`: `amount`, or all of it for `None`.
    ///
    /// # Errors
    /// No node, too much, or the transaction failed.
    pub async fn withdraw_stake(&self, amount: Option<Amount>, to: Address) -> Result<Amount, OperatorError> {
        let record = self.node().await?;
        let there = Amount(record.registry.stake.0.saturating_sub(record.registry.reserved.0));
        let amount = amount.unwrap_or(there);
        if amount > there || amount.is_zero() {
            return Err(OperatorError::NotEnough {
                what: "withdraw stake",
                asked: amount,
                there,
            });
        }
        self.send(self.reader.deployment().withdraw_stake(record.index, amount, to))
            .await?;
        Ok(amount)
    }

    /// What the escrow owes the node, in every token that may pay, zeros included.
    ///
    /// # Errors
    /// No node, or no usable answer.
    pub async fn earnings(&self) -> Result<Vec<Earning>, OperatorError> {
        let node = self.node().await?.index;
        let mut earnings = Vec::new();
        for terms in self.reader.token_terms().await? {
            let amount = self.reader.earnings(node, terms.token).await?;
            earnings.push(Earning {
                token: terms.token,
                amount,
            });
        }
        Ok(earnings)
    }

    /// Pays earnings out to the node's payout address: those in `token`, or in every token for `None`.
    ///
    /// # Errors
    /// No node, nothing owed, or a transaction failed (what was paid out before stays so).
    pub async fn withdraw_earnings(&self, token: Option<Token>) -> Result<Vec<Earning>, OperatorError> {
        let record = self.node().await?;
        let node = record.index;
        let wanted =
            |earning: &Earning| !earning.amount.is_zero() && token.is_none_or(|it| it == earning.token);
        let due: Vec<Earning> = self.earnings().await?.into_iter().filter(wanted).collect();
        if due.is_empty() {
            return Err(OperatorError::NoEarnings { node });
        }
        for earning in &due {
            let call = self.reader.deployment().withdraw_node(node, earning.token);
            let sent = self.send(call).await;
            if let Err(OperatorError::Send(error)) = &sent
                && is_payouts(error)
            {
                return Err(OperatorError::PayoutRefuses {
                    node,
                    payout: record.registry.payout,
                    token: earning.token,
                });
            }
            sent?;
        }
        Ok(due)
    }

    async fn send(&self, call: sandrun_chain::Call) -> Result<TxOutcome, OperatorError> {
        self.sender
            .send(call)
            .await
            .map_err(|error| OperatorError::Send(Box::new(error)))
    }
}

/// Whether a withdrawal of earnings failed at the address that they go to.
pub(crate) fn is_payouts(error: &SendError) -> bool {
    error.revert().and_then(sandrun_chain::Revert::refusal) == Some(Refusal::TransferFailed)
}

/// Stake that other escrows and exits have a claim on, wei.
pub(crate) fn claimed_elsewhere(record: &NodeRecord) -> Amount {
    Amount(record.registry.reserved.0.saturating_sub(record.opt_in.cap.0))
}

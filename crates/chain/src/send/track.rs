//! What becomes of a transaction on its way: mined, sent again, replaced with higher fees, overtaken, given up.

use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionReceipt;
use sandrun_types::{Amount, Attempt, U256};
use tokio::time::sleep;

use crate::calls::Call;
use crate::connect::Fees;
use crate::event::decode_all;
use crate::position::{BlockHash, BlockRef, TxHash};
use crate::revert::Revert;
use crate::rpc::RpcError;

use super::nonces::NonceGuard;
use super::sender::Record;
use super::{SendError, Sender, SignedTx, TxOutcome, fees};

/// Gas of a plain payment.
const PLAIN_GAS: u64 = 21_000;

/// Looks in a row that must agree before another transaction counts as mined in our place: a node behind a balancer may
/// know of the count before it knows the receipt.
const OVERTAKEN_LOOKS: u32 = 3;

/// Errors of the RPC in a row that are waited out, whatever they say: the transaction is on its way, and a portal's page or
/// a limit on requests is over sooner or later.
const PATIENCE: u32 = 20;

/// A transaction on its way: all its versions, oldest first, one nonce.
struct Flight<'a, 'r> {
    sender: &'a Sender,
    versions: Vec<SignedTx>,
    record: &'a mut Record<'r>,
    /// Block at which the flight began, and the newest version was sent.
    began: u64,
    sent: u64,
    overtaken: u32,
}

impl Sender {
    /// Waits for one of the versions to be mined; `_guard` keeps the nonce until then.
    pub(super) async fn track(
        &self,
        versions: Vec<SignedTx>,
        _guard: NonceGuard,
        record: &mut Record<'_>,
    ) -> Result<TxOutcome, SendError> {
        let mut flight = Flight {
            sender: self,
            versions,
            record,
            began: 0,
            sent: 0,
            overtaken: 0,
        };
        let mut errors = 0;
        loop {
            match flight.step().await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => errors = 0,
                Err(SendError::Rpc { source, .. }) if errors < PATIENCE => {
                    errors += 1;
                    tracing::warn!(error = %source, "waiting for a transaction");
                }
                Err(SendError::Rpc { what, source }) => {
                    return Err(SendError::Unsure {
                        what,
                        hash: flight.last().hash,
                        source: Box::new(source),
                    });
                }
                Err(error) => return Err(error),
            }
            sleep(self.chain.poll_interval()).await;
        }
    }
}

impl Flight<'_, '_> {
    /// Looks once and does what is due.
    async fn step(&mut self) -> Result<Option<TxOutcome>, SendError> {
        let call = self.last().call.clone();
        let fail = SendError::rpc(&call);
        let head = self.sender.chain.head().await.map_err(&fail)?.block.number;
        if let Some((receipt, attempt)) = self.receipt().await.map_err(&fail)? {
            let mined = receipt.block_number.unwrap_or(head);
            let deep = head >= mined.saturating_add(self.sender.config.confirmations);
            return if deep {
                self.finish(&receipt, attempt).await.map(Some)
            } else {
                Ok(None)
            };
        }
        let (nonce, mined) = (self.last().nonce, self.sender.mined_count().await.map_err(&fail)?);
        if mined > nonce {
            self.overtaken += 1;
            if self.overtaken >= OVERTAKEN_LOOKS {
                return Err(SendError::Replaced {
                    what: call.what.clone(),
                    from: self.sender.address(),
                    nonce,
                });
            }
            return Ok(None);
        }
        self.overtaken = 0;
        if self.began == 0 {
            (self.began, self.sent) = (head, head);
        }
        let blocks = head.saturating_sub(self.began);
        if blocks >= self.sender.config.give_up_after {
            return Err(SendError::Dropped {
                what: call.what.clone(),
                hash: self.last().hash,
                nonce,
                blocks,
            });
        }
        if head.saturating_sub(self.sent) >= self.sender.config.bump_after {
            self.sent = head;
            return self.push_on(mined).await.map(|()| None);
        }
        if !self.sender.is_known(self.last().hash).await.map_err(&fail)? {
            self.sender.send_again(self.last()).await;
        }
        Ok(None)
    }

    fn last(&self) -> &SignedTx {
        // a flight begins with one version and never loses any
        &self.versions[self.versions.len() - 1]
    }

    async fn receipt(&self) -> Result<Option<(TransactionReceipt, Attempt)>, RpcError> {
        let chain = &self.sender.chain;
        for version in self.versions.iter().rev() {
            let receipt = chain.provider().get_transaction_receipt(version.hash.0).await;
            let receipt = receipt.map_err(|error| chain.rpc_error("eth_getTransactionReceipt", error))?;
            if let Some(receipt) = receipt {
                return Ok(Some((receipt, version.attempt)));
            }
        }
        Ok(None)
    }

    /// It has waited long: replaces it when it is its turn, else fills the gap that it may wait for.
    async fn push_on(&mut self, mined: u64) -> Result<(), SendError> {
        let (sender, last) = (self.sender, self.last().clone());
        let fail = SendError::rpc(&last.call);
        let market = sender.chain.fees().await.map_err(&fail)?;
        if mined < last.nonce {
            let waiting = sender.pending_count().await.map_err(&fail)?;
            if waiting == mined && !sender.nonces.is_used(mined) {
                return self.fill_gap(mined, market).await;
            }
            sender.send_again(&last).await;
            return Ok(());
        }
        let config = &sender.config;
        let Some(raised) = fees::bump(last.fees, market, config.bump_percent, config.max_fee_cap) else {
            tracing::warn!(hash = %last.hash, "waits for cheaper gas: the fee cap allows no higher fees");
            sender.send_again(&last).await;
            return Ok(());
        };
        let next = sender.sign(
            &last.call,
            last.nonce,
            last.gas_limit,
            raised,
            last.attempt.next(),
        )?;
        sender.recorded(&next, self.record)?;
        tracing::info!(old = %last.hash, new = %next.hash, nonce = last.nonce, "replaced with higher fees");
        sender.chain.meters().bumped();
        sender.send_again(&next).await;
        self.versions.push(next);
        Ok(())
    }

    /// A nonce below ours belongs to nobody: its transaction got lost. A payment of nothing to ourselves takes it.
    async fn fill_gap(&self, nonce: u64, market: Fees) -> Result<(), SendError> {
        let sender = self.sender;
        let call = Call::pay(sender.address(), Amount::ZERO);
        let filler = sender.sign(&call, nonce, PLAIN_GAS, market, Attempt::FIRST)?;
        tracing::warn!(nonce, hash = %filler.hash, "filled a gap in the account's nonces");
        sender.send_again(&filler).await;
        Ok(())
    }

    async fn finish(&self, receipt: &TransactionReceipt, attempt: Attempt) -> Result<TxOutcome, SendError> {
        let (call, hash) = (&self.last().call, TxHash(receipt.transaction_hash));
        let fee = U256::from(receipt.gas_used).saturating_mul(U256::from(receipt.effective_gas_price));
        self.sender.chain.meters().paid(receipt.gas_used, Amount(fee));
        if !receipt.status() {
            let revert = self.why(call, receipt).await;
            return Err(SendError::Reverted {
                what: call.what.clone(),
                hash,
                revert,
            });
        }
        let chain = &self.sender.chain;
        let block = BlockRef {
            number: receipt.block_number.unwrap_or_default(),
            hash: BlockHash(receipt.block_hash.unwrap_or_default()),
        };
        let events = match &self.sender.deployment {
            Some(deployment) if !receipt.logs().is_empty() => {
                let head = chain.block_at(block.number).await.map_err(SendError::rpc(call))?;
                let time = head.map_or_else(Default::default, |head| head.timestamp);
                // it is mined, whatever is made up about it
                decode_all(deployment, receipt.logs(), time).unwrap_or_else(|error| {
                    tracing::error!(%error, %hash, "left out the logs of a transaction");
                    Vec::new()
                })
            }
            Some(_) | None => Vec::new(),
        };
        Ok(TxOutcome {
            hash,
            block,
            gas_used: receipt.gas_used,
            fee: Amount(fee),
            events,
            created: receipt.contract_address,
            attempt,
        })
    }

    /// Asks the same call once more at the block that refused it: receipts hold no reason.
    async fn why(&self, call: &Call, receipt: &TransactionReceipt) -> Revert {
        let at = receipt.block_number.unwrap_or_default();
        let again = self
            .sender
            .chain
            .provider()
            .call(self.sender.request(call))
            .block(at.into())
            .await;
        let Err(error) = again else {
            return Revert::NoReason;
        };
        let data = error.as_error_resp().and_then(|it| it.as_revert_data());
        data.map_or(Revert::NoReason, |data| Revert::decode(&data))
    }
}

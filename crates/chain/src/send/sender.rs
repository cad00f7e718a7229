//! The sender: dry run, nonce, fees, signature. What happens afterwards is in `track`.

use std::sync::Arc;

use alloy::consensus::TxEip1559;
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::TransactionBuilder as _;
use alloy::primitives::TxKind;
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionRequest;
use alloy::transports::TransportError;
use sandrun_types::{Address, Attempt, U256};
use tokio::sync::Mutex;

use crate::calls::Call;
use crate::connect::{Chain, Fees};
use crate::deployment::Deployment;
use crate::key::Key;
use crate::position::TxHash;
use crate::revert::Revert;

use super::nonces::{NonceGuard, Nonces};
use super::{CREATE_GAS_CAP, RecordError, SendError, SenderConfig, SignedTx, TxOutcome};

/// Refusals of a nonce in a row after which sending is given up.
const NONCE_ATTEMPTS: u32 = 5;

/// Sends calls of one key on one chain; cheap to clone, and clones share the nonces. Use one sender for a key.
#[derive(Debug, Clone)]
pub struct Sender {
    pub(super) chain: Chain,
    pub(super) config: SenderConfig,
    /// To decode the events of receipts.
    pub(super) deployment: Option<Deployment>,
    pub(super) nonces: Nonces,
    key: Arc<Key>,
    /// Held from the choice of a nonce until its transaction is on its way.
    order: Arc<Mutex<()>>,
}

/// Told of every version of a transaction before it is sent, and so before anybody else can know it.
pub(super) type Record<'a> = dyn FnMut(&SignedTx) -> Result<(), RecordError> + Send + Sync + 'a;

impl Sender {
    /// A sender for `key`. With the deployment, outcomes hold the decoded events of their transaction.
    pub fn new(chain: Chain, key: Key, deployment: Option<Deployment>, config: SenderConfig) -> Self {
        let (key, order) = (Arc::new(key), Arc::default());
        Self {
            chain,
            config,
            deployment,
            nonces: Nonces::default(),
            key,
            order,
        }
    }

    /// The same sender, for calls on which more hangs than on others: it pays up to `wei_per_gas` where that is above its own
    /// cap.
    #[must_use]
    pub fn paying_up_to(&self, wei_per_gas: u128) -> Self {
        let mut same = self.clone();
        same.config.max_fee_cap = same.config.max_fee_cap.max(wei_per_gas);
        same
    }

    /// The account that pays.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// The connection.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Carries out a call: returns when it is mined (and confirmed, if the configuration asks for that).
    ///
    /// Dropping the future stops watching: the transaction may still be mined.
    ///
    /// # Errors
    /// See [`SendError`]: refused before it was sent, reverted, replaced, dropped, too dear, no usable answer.
    pub async fn send(&self, call: Call) -> Result<TxOutcome, SendError> {
        self.send_recorded(call, |_| Ok(())).await
    }

    /// As [`Sender::send`]; `record` is given every version before it is sent, and nothing is sent that it refuses. It
    /// may write to a disk. After a crash the last version goes to [`Sender::resume`].
    ///
    /// # Errors
    /// As [`Sender::send`], and a record that failed.
    pub async fn send_recorded(
        &self,
        call: Call,
        mut record: impl FnMut(&SignedTx) -> Result<(), RecordError> + Send + Sync,
    ) -> Result<TxOutcome, SendError> {
        let carried_out = async {
            let gas_limit = self.estimate(&call).await?;
            let (signed, guard) = self.launch(call, gas_limit, &mut record).await?;
            self.chain.meters().sent();
            self.track(vec![signed], guard, &mut record).await
        };
        let end = carried_out.await;
        self.chain.meters().ended(&end);
        end
    }

    /// Goes on with a transaction that was signed before a crash: sends it again and waits as [`Sender::send`] does.
    /// Versions that are not known any more count as [`SendError::Replaced`] when one of them was mined.
    ///
    /// # Errors
    /// As [`Sender::send`], and a transaction of another key.
    pub async fn resume(
        &self,
        signed: SignedTx,
        mut record: impl FnMut(&SignedTx) -> Result<(), RecordError> + Send + Sync,
    ) -> Result<TxOutcome, SendError> {
        if signed.from != self.address() {
            return Err(SendError::OtherKey {
                found: signed.from,
                expected: self.address(),
            });
        }
        let guard = self.nonces.take_exactly(signed.nonce);
        self.send_again(&signed).await;
        let end = self.track(vec![signed], guard, &mut record).await;
        self.chain.meters().ended(&end);
        end
    }

    /// Gas that a call takes, with a reserve for what changes until it is mined. A dry run: what the contract would
    /// refuse is refused here, for nothing.
    ///
    /// # Errors
    /// A refusal, gas above the cap, no usable answer.
    pub async fn estimate(&self, call: &Call) -> Result<u64, SendError> {
        let estimate = self
            .chain
            .provider()
            .estimate_gas(self.request(call))
            .pending()
            .await;
        let estimate = match estimate {
            Ok(estimate) => estimate,
            Err(error) => return Err(self.estimate_error(call, error).await),
        };
        let needed = estimate.saturating_add(estimate / 4).saturating_add(10_000);
        let cap = if call.to.is_some() {
            self.config.gas_cap
        } else {
            CREATE_GAS_CAP
        };
        if estimate > cap {
            return Err(SendError::GasAboveCap {
                what: call.what.clone(),
                needed: estimate,
                cap,
            });
        }
        Ok(needed.min(cap))
    }

    async fn estimate_error(&self, call: &Call, error: TransportError) -> SendError {
        let what = call.what.clone();
        if let Some(payload) = error.as_error_resp() {
            if let Some(data) = payload.as_revert_data() {
                return SendError::Refused {
                    what,
                    revert: Revert::decode(&data),
                };
            }
            let message = payload.message.to_lowercase();
            if message.contains("insufficient funds") || message.contains("outoffund") {
                return self.too_poor(call).await;
            }
            if message.contains("revert") {
                return SendError::Refused {
                    what,
                    revert: Revert::NoReason,
                };
            }
        }
        SendError::Rpc {
            what,
            source: self.chain.rpc_error("eth_estimateGas", error),
        }
    }

    pub(super) async fn too_poor(&self, call: &Call) -> SendError {
        let from = self.address();
        match self.chain.balance(from).await {
            Ok(balance) => SendError::NotEnoughCoin {
                what: call.what.clone(),
                from,
                balance,
                value: call.value,
            },
            Err(source) => SendError::Rpc {
                what: call.what.clone(),
                source,
            },
        }
    }

    pub(super) fn request(&self, call: &Call) -> TransactionRequest {
        let mut request = TransactionRequest::default()
            .with_from(self.address())
            .with_value(call.value.0);
        request.to = Some(call.to.map_or(TxKind::Create, TxKind::Call));
        request.with_input(call.input.clone())
    }

    /// Gives a call a nonce and sends its first version.
    async fn launch(
        &self,
        call: Call,
        gas_limit: u64,
        record: &mut Record<'_>,
    ) -> Result<(SignedTx, NonceGuard), SendError> {
        let fees = self.chain.fees().await.map_err(SendError::rpc(&call))?;
        if fees.max_fee_per_gas > self.config.max_fee_cap {
            let (needed, cap) = (fees.max_fee_per_gas, self.config.max_fee_cap);
            return Err(SendError::FeeAboveCap {
                what: call.what,
                needed,
                cap,
            });
        }
        let _turn = self.order.lock().await;
        let mut floor = 0;
        let mut attempts = 0;
        loop {
            let count = self.pending_count().await.map_err(SendError::rpc(&call))?;
            let guard = self.nonces.take(count.max(floor));
            let signed = self.sign(&call, guard.nonce(), gas_limit, fees, Attempt::FIRST)?;
            self.recorded(&signed, record)?;
            match self.broadcast(&signed).await? {
                super::broadcast::Sent::Accepted => return Ok((signed, guard)),
                super::broadcast::Sent::NonceTaken if attempts < NONCE_ATTEMPTS => {
                    // the node counts on, or somebody else uses the key
                    attempts += 1;
                    floor = guard.nonce().saturating_add(1);
                }
                super::broadcast::Sent::NonceTaken => {
                    return Err(SendError::Replaced {
                        what: call.what,
                        from: self.address(),
                        nonce: guard.nonce(),
                    });
                }
            }
        }
    }

    pub(super) fn recorded(&self, signed: &SignedTx, record: &mut Record<'_>) -> Result<(), SendError> {
        record(signed).map_err(|error| SendError::Record {
            what: signed.call.what.clone(),
            detail: error.to_string(),
        })
    }

    /// Signs a version of a call.
    pub(super) fn sign(
        &self,
        call: &Call,
        nonce: u64,
        gas_limit: u64,
        fees: Fees,
        attempt: Attempt,
    ) -> Result<SignedTx, SendError> {
        let tx = TxEip1559 {
            chain_id: self.chain.id().0,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: call.to.map_or(TxKind::Create, TxKind::Call),
            value: U256::from(call.value.0),
            access_list: alloy::eips::eip2930::AccessList::default(),
            input: call.input.clone(),
        };
        let envelope = self.key.sign_transaction(tx)?;
        Ok(SignedTx {
            hash: TxHash(*envelope.tx_hash()),
            from: self.address(),
            nonce,
            attempt,
            gas_limit,
            fees,
            call: call.clone(),
            raw: envelope.encoded_2718().into(),
        })
    }
}

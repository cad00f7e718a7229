//! Handing a signed transaction to the node. Owns the reading of the node's many ways to say no.

use alloy::providers::Provider as _;
use alloy::transports::TransportError;

use crate::position::TxHash;
use crate::rpc::RpcError;

use super::{SendError, Sender, SignedTx};

/// What became of a transaction that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The node has it, or may have it: the answer got lost.
    Accepted,
    /// Its nonce is used already, by a mined transaction or a dearer one that waits.
    NonceTaken,
}

impl Sender {
    /// Hands a transaction over.
    pub(super) async fn broadcast(&self, signed: &SignedTx) -> Result<Sent, SendError> {
        let Err(error) = self.hand_over(signed).await else {
            return Ok(Sent::Accepted);
        };
        if let Some(payload) = error.as_error_resp() {
            let message = payload.message.to_lowercase();
            let says = |words: &[&str]| words.iter().any(|it| message.contains(it));
            if says(&["already known", "already imported", "known transaction"]) {
                return Ok(Sent::Accepted);
            }
            if says(&[
                "nonce too low",
                "nonce is too low",
                "replacement transaction underpriced",
                "already been used",
            ]) {
                // by itself, where something on the way has sent it twice
                let is_ours = matches!(self.is_known(signed.hash).await, Ok(true));
                return Ok(if is_ours { Sent::Accepted } else { Sent::NonceTaken });
            }
            if says(&["insufficient funds"]) {
                return Err(self.too_poor(&signed.call).await);
            }
        }
        let source = self.chain.rpc_error("eth_sendRawTransaction", error);
        let what = signed.call.what.clone();
        let is_lost = source.is_transient() && !matches!(source, RpcError::RateLimited { .. });
        // whatever else it says, the node may have taken it first
        match (is_lost, self.is_known(signed.hash).await) {
            (true, _) | (false, Ok(true)) => {
                tracing::warn!(error = %source, hash = %signed.hash, "sent, but the answer got lost");
                Ok(Sent::Accepted)
            }
            (false, Ok(false)) => Err(SendError::Rpc { what, source }),
            (false, Err(_)) => Err(SendError::Unsure {
                what,
                hash: signed.hash,
                source: Box::new(source),
            }),
        }
    }

    /// Hands a transaction over once more; whatever the node says to that, the tracking finds out.
    pub(super) async fn send_again(&self, signed: &SignedTx) {
        if let Err(error) = self.hand_over(signed).await {
            tracing::debug!(%error, hash = %signed.hash, "sent again");
        }
    }

    async fn hand_over(&self, signed: &SignedTx) -> Result<(), TransportError> {
        self.chain
            .provider()
            .send_raw_transaction(&signed.raw)
            .await
            .map(|_| ())
    }

    /// Transactions of the account, those that wait included.
    pub(super) async fn pending_count(&self) -> Result<u64, RpcError> {
        let count = self
            .chain
            .provider()
            .get_transaction_count(self.address())
            .pending()
            .await;
        count.map_err(|error| self.chain.rpc_error("eth_getTransactionCount", error))
    }

    /// Mined transactions of the account.
    pub(super) async fn mined_count(&self) -> Result<u64, RpcError> {
        let count = self
            .chain
            .provider()
            .get_transaction_count(self.address())
            .latest()
            .await;
        count.map_err(|error| self.chain.rpc_error("eth_getTransactionCount", error))
    }

    /// Whether the node knows the transaction.
    pub(super) async fn is_known(&self, hash: TxHash) -> Result<bool, RpcError> {
        let found = self.chain.provider().get_transaction_by_hash(hash.0).await;
        let found = found.map_err(|error| self.chain.rpc_error("eth_getTransactionByHash", error))?;
        Ok(found.is_some())
    }
}

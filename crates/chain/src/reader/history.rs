//! Past events by range. Owns the splitting of ranges that a node finds too large; never follows the chain.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use sandrun_core::market::MarketEvent;
use sandrun_types::{JobId, Order, UnixSeconds};

use crate::connect::Chain;
use crate::deployment::Deployment;
use crate::event::decode_all;
use crate::position::Logged;
use crate::rpc::RpcError;

use super::{MarketReader, ReadError};

/// Blocks asked for at once; halved when the node finds that too much.
const CHUNK: u64 = 5_000;

impl MarketReader {
    /// All events of blocks `from` to `to`, both included, in the chain's order.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn events(&self, from: u64, to: u64) -> Result<Vec<Logged>, RpcError> {
        self.filtered(Filter::new(), from, to).await
    }

    /// All events of one job so far, in the chain's order; empty when it was never posted.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn job_events(&self, job: JobId) -> Result<Vec<Logged>, RpcError> {
        let head = self.chain().head().await?;
        self.filtered(
            Filter::new().topic1(B256::from(job)),
            self.deployment().deployed_block,
            head.block.number,
        )
        .await
    }

    /// The order of a job; `None` when it was never posted.
    ///
    /// # Errors
    /// No usable answer.
    pub async fn order(&self, job: JobId) -> Result<Option<Order>, ReadError> {
        let events = self.job_events(job).await?;
        Ok(events.into_iter().find_map(|it| {
            if let MarketEvent::JobPosted { order, .. } = it.event {
                Some(*order)
            } else {
                None
            }
        }))
    }

    async fn filtered(&self, filter: Filter, from: u64, to: u64) -> Result<Vec<Logged>, RpcError> {
        let mut range = Ranges::new(from);
        let mut events = Vec::new();
        while let Some(logs) = range.next(self.chain(), self.deployment(), &filter, to).await? {
            events.extend(logs);
        }
        Ok(events)
    }
}

/// Walks a range in pieces that the node accepts.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    next: u64,
    chunk: u64,
}

impl Ranges {
    pub(crate) const fn new(from: u64) -> Self {
        Self {
            next: from,
            chunk: CHUNK,
        }
    }

    /// First block that was not read yet.
    pub(crate) const fn next_block(&self) -> u64 {
        self.next
    }

    /// Events of the next piece up to block `to`; `None` when all was read.
    pub(crate) async fn next(
        &mut self,
        chain: &Chain,
        deployment: &Deployment,
        filter: &Filter,
        to: u64,
    ) -> Result<Option<Vec<Logged>>, RpcError> {
        let filter = filter
            .clone()
            .address(vec![deployment.registry, deployment.escrow]);
        while self.next <= to {
            let end = to.min(self.next.saturating_add(self.chunk - 1));
            let logs = chain
                .provider()
                .get_logs(&filter.clone().from_block(self.next).to_block(end))
                .await;
            match logs.map_err(|error| chain.rpc_error("eth_getLogs", error)) {
                Ok(logs) => {
                    let events = place(chain, deployment, logs).await?;
                    self.next = end.saturating_add(1);
                    return Ok(Some(events));
                }
                // nodes say in many ways that a range or its answer is too large
                Err(RpcError::Refused { .. } | RpcError::Timeout { .. } | RpcError::TooLarge { .. })
                    if self.chunk > 1 =>
                {
                    self.chunk /= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Decodes logs; asks for the times of their blocks where the node left them out.
async fn place(chain: &Chain, deployment: &Deployment, logs: Vec<Log>) -> Result<Vec<Logged>, RpcError> {
    let mut blocks: BTreeMap<u64, Vec<Log>> = BTreeMap::new();
    for log in logs {
        blocks
            .entry(log.block_number.unwrap_or_default())
            .or_default()
            .push(log);
    }
    let mut events = Vec::new();
    for (number, logs) in blocks {
        let told = logs.first().and_then(|log| log.block_timestamp).map(UnixSeconds);
        let timestamp = match told {
            Some(timestamp) => timestamp,
            None => {
                chain
                    .block_at(number)
                    .await?
                    .ok_or_else(|| chain.missing(&format!("block {number}")))?
                    .timestamp
            }
        };
        let decoded = decode_all(deployment, &logs, timestamp);
        events.extend(decoded.map_err(|error| chain.nonsense(&error))?);
    }
    Ok(events)
}

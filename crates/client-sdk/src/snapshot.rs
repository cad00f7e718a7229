//! The market as it stands on chain: every job and node, folded from the contract's events. Owns the fold; needs nothing
//! but an RPC. Never keeps anything between two calls.

use std::collections::BTreeMap;

use sandrun_chain::{Head, LogPosition, Logged, MarketReader, ReadError, RpcError};
use sandrun_core::market::rules::Windows;
use sandrun_core::market::{FactsError, JobFacts, MarketEvent};
use sandrun_types::JobId;
use serde::{Deserialize, Serialize};

/// A job with where it was posted and what last happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEntry {
    /// What its events say.
    pub facts: JobFacts,
    /// Where it was posted.
    pub posted: LogPosition,
    /// Its last event.
    pub last: LogPosition,
    /// Gas is counted by transaction: those that concern it, in order, without repetition.
    pub transactions: Vec<sandrun_chain::TxHash>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The chain did not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A view did not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Events that contradict each other: the RPC left some out.
    #[error("the RPC's events make no sense ({0}); ask another RPC")]
    Facts(#[from] FactsError),
}

/// All jobs of a market at one head, oldest first.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The newest block.
    pub head: Head,
    /// The jobs, in the order of their postings.
    pub jobs: Vec<JobEntry>,
}

impl Snapshot {
    /// Reads and folds every event of the market.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub async fn read(reader: &MarketReader) -> Result<Self, SnapshotError> {
        let parameters = reader.parameters().await?;
        let head = reader.chain().head().await?;
        let events = reader
            .events(reader.deployment().deployed_block, head.block.number)
            .await?;
        Ok(Self {
            head,
            jobs: fold(&events, parameters.windows())?,
        })
    }
}

/// One job from the chain; `None` when it was never posted.
///
/// # Errors
/// [`SnapshotError`].
pub async fn read_job(
    reader: &MarketReader,
    job: JobId,
    windows: Windows,
) -> Result<Option<JobEntry>, SnapshotError> {
    let events = reader.job_events(job).await?;
    Ok(fold(&events, windows)?.pop())
}

fn fold(events: &[Logged], windows: Windows) -> Result<Vec<JobEntry>, FactsError> {
    let mut places: BTreeMap<JobId, usize> = BTreeMap::new();
    let mut jobs: Vec<JobEntry> = Vec::new();
    for Logged { event, at } in events {
        let Some(job) = event.job() else { continue };
        if let MarketEvent::JobPosted { .. } = event {
            places.insert(job, jobs.len());
            let facts = JobFacts::posted(event, windows)?;
            jobs.push(JobEntry {
                facts,
                posted: *at,
                last: *at,
                transactions: vec![at.tx],
            });
            continue;
        }
        let entry = places
            .get(&job)
            .and_then(|place| jobs.get_mut(*place))
            .ok_or(FactsError::NotPosted)?;
        entry.facts.apply(event)?;
        entry.last = *at;
        if entry.transactions.last() != Some(&at.tx) && !entry.transactions.contains(&at.tx) {
            entry.transactions.push(at.tx);
        }
    }
    Ok(jobs)
}

//! Where the answer to a query is from: the manager, where one is named and answers, else the chain. Both give the same
//! answer. Owns the choice; a manager that serves another market is an error, one that is silent a remark.

use std::collections::BTreeMap;

use clap::Args;
use client_sdk::{
    JobEntry, JobsQuery, JobsView, ManagerClient, ManagerClientError, PhaseCounts, Snapshot, read_job,
};
use sandrun_chain::MarketReader;
use sandrun_core::market::MarketEvent;
use sandrun_types::{Capabilities, JobId, NodeIndex};

use crate::args::ChainArgs;
use crate::exit::{Failure, Status, WithStatus as _};
use crate::output::Output;

/// The manager.
#[derive(Debug, Clone, Args)]
pub(crate) struct PoolArgs {
    /// Manager to ask, so that not all events have to be read from the chain; not needed
    #[arg(long, value_name = "URL", env = "SANDRUN_POOL")]
    pub(crate) pool: Option<String>,
}

/// A market that can be asked.
#[derive(Debug)]
pub(crate) struct View {
    reader: MarketReader,
    manager: Option<ManagerClient>,
    output: Output,
}

impl View {
    /// Connects to the chain, and to the manager where one is named.
    pub(crate) async fn open(chain: &ChainArgs, pool: &PoolArgs, output: &Output) -> anyhow::Result<Self> {
        let market = chain.market().await?;
        let mut view = Self::of_chain(MarketReader::new(market.chain, market.deployment), output);
        if let Some(url) = &pool.pool {
            let head = view.reader.chain().head().await.status(Status::Unreachable)?;
            let at = view.reader.deployment().escrow_ref();
            view.manager = view.or_chain(ManagerClient::connect(url, at, &head).await)?;
        }
        Ok(view)
    }

    /// A market that is read from the chain alone.
    pub(crate) const fn of_chain(reader: MarketReader, output: &Output) -> Self {
        Self {
            reader,
            manager: None,
            output: *output,
        }
    }

    /// The market's contracts.
    pub(crate) const fn reader(&self) -> &MarketReader {
        &self.reader
    }

    /// The manager's answer; `None` when it is silent, so that the chain is asked.
    fn or_chain<T>(&self, answer: Result<T, ManagerClientError>) -> anyhow::Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_silence() => {
                self.output.note(&format!("{error}; reading the chain instead"));
                Ok(None)
            }
            Err(error @ ManagerClientError::BadUrl { .. }) => Err(error).status(Status::BadInput),
            Err(error) => Err(error).status(Status::Unreachable),
        }
    }

    /// Jobs by phase, and the block at which that was so.
    pub(crate) async fn counts(&self) -> anyhow::Result<(PhaseCounts, u64)> {
        if let Some(manager) = &self.manager
            && let Some(status) = self.or_chain(manager.status().await)?
            && let Some(head) = status.head
        {
            return Ok((status.jobs, head.block.number));
        }
        let snapshot = self.snapshot().await?;
        let counts = PhaseCounts::of(snapshot.jobs.iter().map(|job| job.facts.phase));
        Ok((counts, snapshot.head.block.number))
    }

    /// The jobs that are asked for, newest first.
    pub(crate) async fn jobs(&self, query: &JobsQuery) -> anyhow::Result<JobsView> {
        if let Some(manager) = &self.manager
            && let Some(view) = self.or_chain(manager.jobs(query).await)?
        {
            return Ok(view);
        }
        let snapshot = self.snapshot().await?;
        let limit = query
            .limit
            .map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
        let total = snapshot.jobs.len() as u64;
        let newest_first = snapshot.jobs.into_iter().rev();
        Ok(JobsView {
            jobs: newest_first.filter(|it| query.wants(it)).take(limit).collect(),
            total,
        })
    }

    /// A job by its whole id.
    pub(crate) async fn job(&self, job: JobId) -> anyhow::Result<Option<JobEntry>> {
        if let Some(manager) = &self.manager
            && let Some(found @ Some(_)) = self.or_chain(manager.job(job).await)?
        {
            return Ok(found);
        }
        // what a manager does not know may be younger than its index
        let parameters = self.reader.parameters().await.status(Status::Unreachable)?;
        read_job(&self.reader, job, parameters.windows())
            .await
            .status(Status::Unreachable)
    }

    /// A job by its whole id or by first digits that only one has.
    pub(crate) async fn resolve(&self, text: &str) -> anyhow::Result<JobId> {
        if let Ok(job) = text.parse() {
            return Ok(job);
        }
        let digits = text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase();
        if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let text = format!("`{text}` is not a job id: give 64 hex digits, or at least the first four");
            return Err(Failure::new(Status::BadInput, text));
        }
        let query = JobsQuery {
            prefix: Some(format!("0x{digits}")),
            limit: Some(2),
            ..JobsQuery::default()
        };
        let found: Vec<JobId> = self
            .jobs(&query)
            .await?
            .jobs
            .iter()
            .map(|it| it.facts.job)
            .collect();
        match found.as_slice() {
            [job] => Ok(*job),
            [] => Err(unknown(text)),
            _ => {
                let text = format!("several jobs begin with {text}: give more digits");
                Err(Failure::new(Status::BadInput, text))
            }
        }
    }

    /// What each node says it has; a node whose words make no sense is left out.
    pub(crate) async fn capabilities(&self) -> anyhow::Result<BTreeMap<NodeIndex, Capabilities>> {
        if let Some(manager) = &self.manager
            && let Some(nodes) = self.or_chain(manager.nodes().await)?
        {
            return Ok(nodes
                .into_iter()
                .filter_map(|it| Some((it.node, it.capabilities?)))
                .collect());
        }
        let head = self.reader.chain().head().await.status(Status::Unreachable)?;
        let first = self.reader.deployment().deployed_block;
        let events = self
            .reader
            .events(first, head.block.number)
            .await
            .status(Status::Unreachable)?;
        let mut capabilities = BTreeMap::new();
        for logged in events {
            if let MarketEvent::ProfileChanged { node, profile } = logged.event {
                match serde_json::from_slice(&profile.capabilities) {
                    Ok(said) => capabilities.insert(node, said),
                    Err(_) => capabilities.remove(&node),
                };
            }
        }
        Ok(capabilities)
    }

    async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        Snapshot::read(&self.reader).await.status(Status::Unreachable)
    }
}

/// There is no such job.
pub(crate) fn unknown(text: &str) -> anyhow::Error {
    Failure::new(
        Status::BadInput,
        format!(
            "job {text} was never posted on this escrow: check the id, the chain and the contract address"
        ),
    )
}

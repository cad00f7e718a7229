//! The index and what the loop keeps of it in memory. Owns the one way into SQLite: every access runs on a thread that
//! may block, because a write waits for the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use client_sdk::{JobEntry, JobsQuery, JobsView, NodeEntry, NodesView, PhaseCounts};
use sandrun_chain::{ChainUpdate, Cursor, Logged};
use sandrun_core::market::rules::Windows;
use sandrun_core::market::{Due, MarketEvent, Phase, SeatEnd, due};
use sandrun_store::{Index, JobFilter};
use sandrun_types::{Address, Amount, JobId, NodeIndex, Token, UnixSeconds};
use serde::de::DeserializeOwned;

use crate::block::{Held, changes, is_open};
use crate::error::ManagerError;

/// Most jobs in one answer.
const MAX_LIMIT: u32 = 1_000;
/// Jobs in an answer when the query does not say how many.
const LIMIT: u32 = 50;

/// Reads JSON that the index holds.
fn parse<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, ManagerError> {
    serde_json::from_str(text).map_err(|source| ManagerError::Format { what, source })
}

fn parse_all<T: DeserializeOwned>(what: &'static str, texts: &[String]) -> Result<Vec<T>, ManagerError> {
    texts.iter().map(|text| parse(what, text)).collect()
}

impl Held for Index {
    fn job(&self, job: JobId) -> Result<Option<JobEntry>, ManagerError> {
        self.job(job)?.map(|text| parse("a job", &text)).transpose()
    }

    fn events_of(&self, job: JobId) -> Result<Vec<Logged>, ManagerError> {
        parse_all("events", &self.events_of(job)?)
    }

    fn events_of_no_job(&self) -> Result<Vec<Logged>, ManagerError> {
        parse_all("events", &self.events_of_no_job()?)
    }
}

/// How a seat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FinishedSeat {
    pub(crate) end: SeatEnd,
    /// Credited to its node in the base coin.
    pub(crate) coins: Amount,
    /// Taken from its bond.
    pub(crate) slashed: Amount,
}

/// The index of one market, the nodes and the open jobs in memory.
#[derive(Debug)]
pub(crate) struct Book {
    index: Index,
    nodes: BTreeMap<NodeIndex, NodeEntry>,
    open: BTreeMap<JobId, JobEntry>,
    escrow: Address,
    windows: Windows,
}

impl Book {
    /// Opens the index at `path` for `market`, and says up to where it was read.
    pub(crate) fn open(
        path: &Path,
        market: &str,
        escrow: Address,
        windows: Windows,
    ) -> Result<(Self, Option<Cursor>), ManagerError> {
        let index = Index::open(path, market)?;
        let cursor = index.cursor()?.map(|text| parse("a cursor", &text)).transpose()?;
        let open: Vec<JobEntry> = parse_all("jobs", &index.open_jobs()?)?;
        let nodes: Vec<NodeEntry> = parse_all("nodes", &index.nodes()?)?;
        let book = Self {
            nodes: nodes.into_iter().map(|entry| (entry.node, entry)).collect(),
            open: open.into_iter().map(|entry| (entry.facts.job, entry)).collect(),
            index,
            escrow,
            windows,
        };
        Ok((book, cursor))
    }

    /// The events from `block` on, so that they can be undone.
    pub(crate) fn events_from(&self, block: u64) -> Result<Vec<Logged>, ManagerError> {
        parse_all("events", &self.index.events_from(block)?)
    }

    /// Writes one block to the index, then brings the memory up to date.
    pub(crate) fn take_in(&mut self, block: &[ChainUpdate], cursor: &Cursor) -> Result<(), ManagerError> {
        let mut changes = changes(block, &self.index, &mut self.nodes, self.escrow, self.windows)?;
        changes.batch.cursor = serde_json::to_string(cursor).map_err(|source| ManagerError::Format {
            what: "a cursor",
            source,
        })?;
        self.index.commit(&changes.batch)?;
        if changes.undone > 0 {
            tracing::warn!(
                events = changes.undone,
                "the chain was reorganised; what followed from them was undone"
            );
        }
        for (job, entry) in changes.jobs {
            match entry.filter(is_open) {
                Some(entry) => self.open.insert(job, entry),
                None => self.open.remove(&job),
            };
        }
        Ok(())
    }

    /// The seats that a block finished, which was taken in.
    pub(crate) fn finished(&self, block: &[ChainUpdate]) -> Result<Vec<FinishedSeat>, ManagerError> {
        let mut finished = Vec::new();
        for update in block {
            let ChainUpdate::Applied(logged) = update else {
                continue;
            };
            let MarketEvent::SeatFinished {
                job,
                end,
                paid,
                slashed,
                ..
            } = &logged.event
            else {
                continue;
            };
            let token = match self.open.get(job) {
                Some(entry) => Some(entry.facts.order.token),
                None => self.job(*job)?.map(|it| it.facts.order.token),
            };
            finished.push(FinishedSeat {
                end: *end,
                coins: if token == Some(Token::Native) {
                    *paid
                } else {
                    Amount::ZERO
                },
                slashed: *slashed,
            });
        }
        Ok(finished)
    }

    /// What is due at `now`.
    pub(crate) fn due(&self, now: UnixSeconds) -> Vec<(JobEntry, Due)> {
        let due = |entry: &JobEntry| due(&entry.facts, now).map(|what| (entry.clone(), what));
        self.open.values().filter_map(due).collect()
    }

    /// How many jobs and nodes there are.
    pub(crate) fn counts(&self) -> Result<(PhaseCounts, u64), ManagerError> {
        let phases = self.open.values().map(|entry| entry.facts.phase);
        let mut counts = PhaseCounts::of(phases.filter(|phase| *phase != Phase::Closed));
        counts.closed = self.index.job_count()?.saturating_sub(counts.open());
        Ok((counts, self.nodes.len() as u64))
    }

    /// The jobs that are asked for.
    pub(crate) fn jobs(&self, query: &JobsQuery) -> Result<JobsView, ManagerError> {
        let filter = JobFilter {
            not_closed: query.open,
            client: query.client,
            prefix: query.prefix.clone(),
        };
        let texts = self
            .index
            .jobs(&filter, query.limit.unwrap_or(LIMIT).min(MAX_LIMIT))?;
        Ok(JobsView {
            jobs: parse_all("a job", &texts)?,
            total: self.index.job_count()?,
        })
    }

    /// A job.
    pub(crate) fn job(&self, job: JobId) -> Result<Option<JobEntry>, ManagerError> {
        Held::job(&self.index, job)
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> NodesView {
        NodesView {
            nodes: self.nodes.values().cloned().collect(),
        }
    }
}

/// The book, shared by the loop and the queries; every access is short.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Arc<Mutex<Book>>);

impl Shared {
    pub(crate) fn new(book: Book) -> Self {
        Self(Arc::new(Mutex::new(book)))
    }

    /// Does something with the book, off the threads that must not block.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Book) -> Result<T, ManagerError> + Send + 'static,
    ) -> Result<T, ManagerError> {
        let book = Arc::clone(&self.0);
        let work = move || what(&mut book.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(work).await?
    }
}

#[cfg(test)]
mod tests;

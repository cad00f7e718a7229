//! What follows from one block: pure, so that a reorganisation can be replayed in a test. Takes the updates up to a head
//! and what the index holds, and gives the batch that the index is to write.

use std::collections::{BTreeMap, BTreeSet};

use client_sdk::{JobEntry, NodeEntry};
use sandrun_chain::{ChainUpdate, LogPosition, Logged};
use sandrun_core::market::rules::Windows;
use sandrun_core::market::{FactsError, JobFacts, MarketEvent, Phase};
use sandrun_store::{EventChange, EventKey, IndexBatch, JobChange};
use sandrun_types::{Address, JobId, NodeIndex};

use crate::error::ManagerError;
use crate::nodes;

/// What the index holds, as far as a block needs it.
pub(crate) trait Held {
    /// A job as it is.
    fn job(&self, job: JobId) -> Result<Option<JobEntry>, ManagerError>;
    /// All events of a job.
    fn events_of(&self, job: JobId) -> Result<Vec<Logged>, ManagerError>;
    /// All events that are about no job.
    fn events_of_no_job(&self) -> Result<Vec<Logged>, ManagerError>;
}

/// What a block changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// For the index; the cursor is the caller's.
    pub(crate) batch: IndexBatch,
    /// The jobs that changed; `None` for one whose posting was undone.
    pub(crate) jobs: BTreeMap<JobId, Option<JobEntry>>,
    /// Events that a reorganisation took away.
    pub(crate) undone: usize,
}

fn key(at: &LogPosition) -> EventKey {
    EventKey {
        block: at.block.number,
        log_index: at.log_index,
        block_hash: at.block.hash.0,
    }
}

/// Whether anything can still happen to a job: the refund of one that is over, too.
pub(crate) fn is_open(entry: &JobEntry) -> bool {
    entry.facts.phase != Phase::Closed || !entry.facts.remaining().is_zero()
}

fn json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, ManagerError> {
    serde_json::to_string(value).map_err(|source| ManagerError::Format { what, source })
}

/// Works out what `updates` change. `nodes` is brought up to date on the way.
pub(crate) fn changes(
    updates: &[ChainUpdate],
    held: &impl Held,
    known: &mut BTreeMap<NodeIndex, NodeEntry>,
    escrow: Address,
    windows: Windows,
) -> Result<Changes, ManagerError> {
    let mut changes = Changes::default();
    let mut applied: Vec<&Logged> = Vec::new();
    let mut gone: BTreeSet<EventKey> = BTreeSet::new();
    for update in updates {
        match update {
            ChainUpdate::Applied(logged) => {
                let (key, job) = (key(&logged.at), logged.event.job());
                changes.batch.events.push(EventChange::Applied {
                    key,
                    job,
                    body: json("an event", logged)?,
                });
                applied.push(logged);
            }
            ChainUpdate::Undone(logged) => {
                changes.undone += 1;
                changes.batch.events.push(EventChange::Undone(key(&logged.at)));
                gone.insert(key(&logged.at));
                applied.retain(|it| it.at != logged.at);
            }
            ChainUpdate::Head(_) => {}
        }
    }
    let undone = updates.iter().filter_map(|update| match update {
        ChainUpdate::Undone(logged) => Some(logged.event.job()),
        ChainUpdate::Applied(_) | ChainUpdate::Head(_) => None,
    });
    let undone: BTreeSet<Option<JobId>> = undone.collect();
    jobs(&mut changes, &applied, &undone, &gone, held, windows)?;
    registry(
        &mut changes,
        &applied,
        undone.contains(&None),
        &gone,
        held,
        known,
        escrow,
    )?;
    Ok(changes)
}

/// Jobs: taken further where events came, folded anew where any was undone.
fn jobs(
    changes: &mut Changes,
    applied: &[&Logged],
    undone: &BTreeSet<Option<JobId>>,
    gone: &BTreeSet<EventKey>,
    held: &impl Held,
    windows: Windows,
) -> Result<(), ManagerError> {
    let touched: BTreeSet<JobId> = applied
        .iter()
        .filter_map(|it| it.event.job())
        .chain(undone.iter().copied().flatten())
        .collect();
    for job in touched {
        let new = applied.iter().copied().filter(|it| it.event.job() == Some(job));
        let entry = if undone.contains(&Some(job)) {
            let mut events = held.events_of(job)?;
            events.retain(|it| !gone.contains(&key(&it.at)));
            events.extend(new.cloned());
            advance(None, &events, windows)?
        } else {
            let new: Vec<Logged> = new.cloned().collect();
            advance(held.job(job)?, &new, windows)?
        };
        changes.batch.jobs.push(match &entry {
            Some(entry) => JobChange::Set {
                job,
                posted: order(&entry.posted),
                client: entry.facts.order.client,
                closed: entry.facts.phase == Phase::Closed,
                open: is_open(entry),
                body: json("a job", entry)?,
            },
            None => JobChange::Gone(job),
        });
        changes.jobs.insert(job, entry);
    }
    Ok(())
}

/// Order of postings.
fn order(at: &LogPosition) -> i64 {
    i64::try_from((at.block.number << 20) | (at.log_index & 0xf_ffff)).unwrap_or(i64::MAX)
}

/// Takes a job further by its next events, from its posting where there is none yet.
fn advance(
    mut entry: Option<JobEntry>,
    events: &[Logged],
    windows: Windows,
) -> Result<Option<JobEntry>, FactsError> {
    for Logged { event, at } in events {
        match &mut entry {
            None => {
                let facts = JobFacts::posted(event, windows)?;
                entry = Some(JobEntry {
                    facts,
                    posted: *at,
                    last: *at,
                    transactions: vec![at.tx],
                });
            }
            Some(entry) => {
                entry.facts.apply(event)?;
                entry.last = *at;
                if !entry.transactions.contains(&at.tx) {
                    entry.transactions.push(at.tx);
                }
            }
        }
    }
    Ok(entry)
}

/// Nodes: taken further, or folded anew where any of their events was undone.
fn registry(
    changes: &mut Changes,
    applied: &[&Logged],
    anew: bool,
    gone: &BTreeSet<EventKey>,
    held: &impl Held,
    known: &mut BTreeMap<NodeIndex, NodeEntry>,
    escrow: Address,
) -> Result<(), ManagerError> {
    let before = known.clone();
    if anew {
        let mut events = held.events_of_no_job()?;
        events.retain(|it| !gone.contains(&key(&it.at)));
        *known = nodes::fold(&events, escrow);
    }
    let concerns_none = |event: &MarketEvent| event.job().is_none();
    for logged in applied.iter().filter(|it| concerns_none(&it.event)) {
        nodes::apply(known, &logged.event, escrow);
    }
    let indexes: BTreeSet<NodeIndex> = before.keys().chain(known.keys()).copied().collect();
    for node in indexes {
        let (old, new) = (before.get(&node), known.get(&node));
        if old != new {
            let body = new.map(|entry| json("a node", entry)).transpose()?;
            changes.batch.nodes.push((node, body));
        }
    }
    Ok(())
}

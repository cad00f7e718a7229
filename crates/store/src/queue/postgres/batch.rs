//! A batch as one row of the journal: what other replicas take in (`news`), and what only the tables need (`rest`).
//!
//! Requests of new jobs are in neither: they go to their table at once, where whoever leases a job finds them.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{ClientNumber, JobNumber};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::rows::get;
use crate::queue::codec::{clean, narrow, signed, unsigned};
use crate::queue::{
    Answer, BlobHash, ClientRow, Doing, Foreign, JobState, KeyRow, LogPiece, NewJob, NodeRow,
    QueueStoreError, UnixMillis, Writes,
};

/// First byte of both columns: postcard of the types below follows.
const FORMAT: u8 = 1;

/// A client's own key of a new job.
type Key = (ClientNumber, String, JobNumber);
/// The fixed part of a new job without its request: number, client, created, priority, bodies, parents, key.
type Fixed<'a> = (
    JobNumber,
    ClientNumber,
    UnixMillis,
    u8,
    &'a [BlobHash],
    &'a [JobNumber],
    Option<&'a str>,
);
/// As [`Fixed`], read back.
type Read = (
    JobNumber,
    ClientNumber,
    UnixMillis,
    u8,
    Vec<BlobHash>,
    Vec<JobNumber>,
    Option<String>,
);

#[derive(Serialize)]
struct News<'a>(&'a [ClientRow], &'a [JobState], &'a [NodeRow], Vec<Key>);
#[derive(Deserialize)]
struct NewsRead(Vec<ClientRow>, Vec<JobState>, Vec<NodeRow>, Vec<Key>);
#[derive(Serialize)]
struct Rest<'a>(Vec<Fixed<'a>>, &'a [Answer], &'a [LogPiece]);
#[derive(Deserialize)]
struct RestRead(Vec<Read>, Vec<Answer>, Vec<LogPiece>);

/// Highest numbers given out so far: of jobs, nodes, clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Last {
    pub(super) job: i64,
    pub(super) node: i64,
    pub(super) client: i64,
}

impl Last {
    /// After a batch.
    pub(super) fn and(self, writes: &Writes) -> Self {
        let jobs = writes.new_jobs.iter().map(|new| signed(new.number.0));
        let nodes = writes.nodes.iter().map(|node| i64::from(node.number.0));
        let clients = writes.clients.iter().map(|client| i64::from(client.number.0));
        Self {
            job: jobs.fold(self.job, i64::max),
            node: nodes.fold(self.node, i64::max),
            client: clients.fold(self.client, i64::max),
        }
    }

    /// The higher of both.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            job: self.job.max(other.job),
            node: self.node.max(other.node),
            client: self.client.max(other.client),
        }
    }

    /// From three columns.
    pub(super) fn of(row: &Row, at: usize, doing: Doing) -> Result<Self, QueueStoreError> {
        Ok(Self {
            job: get(row, at, doing)?,
            node: get(row, at + 1, doing)?,
            client: get(row, at + 2, doing)?,
        })
    }
}

/// A batch's place in the journal: its number, and its writer's mark, by which it is told from another one that took the
/// number after a crash had taken this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) seq: i64,
    pub(super) writer: i64,
}

/// Both columns of a batch.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) news: Vec<u8>,
    pub(super) rest: Vec<u8>,
}

impl Record {
    /// # Errors
    /// [`QueueStoreError::Stateless`], [`QueueStoreError::Repeated`].
    pub(super) fn of(writes: &Writes, last: Last, doing: Doing) -> Result<Self, QueueStoreError> {
        let states: BTreeSet<JobNumber> = writes.jobs.iter().map(|state| state.number).collect();
        for new in &writes.new_jobs {
            if signed(new.number.0) <= last.job {
                return Err(QueueStoreError::Repeated(new.number));
            }
            if !states.contains(&new.number) {
                return Err(QueueStoreError::Stateless(new.number));
            }
        }
        let keys = writes.new_jobs.iter().filter_map(|new| {
            let key = clean(new.idempotency.as_deref()?).into_owned();
            Some((new.client, key, new.number))
        });
        let news = News(&writes.clients, &writes.jobs, &writes.nodes, keys.collect());
        let fixed = writes.new_jobs.iter().map(|new| {
            let NewJob {
                number,
                client,
                created,
                priority,
                request: _,
                blobs,
                parents,
                idempotency,
            } = new;
            let key = idempotency.as_deref();
            (
                *number,
                *client,
                *created,
                *priority,
                blobs.as_slice(),
                parents.as_slice(),
                key,
            )
        });
        let rest = Rest(fixed.collect(), &writes.answers, &writes.logs);
        Ok(Self {
            news: pack(&news, doing)?,
            rest: pack(&rest, doing)?,
        })
    }
}

fn pack(value: &impl Serialize, doing: Doing) -> Result<Vec<u8>, QueueStoreError> {
    postcard::to_extend(value, vec![FORMAT]).map_err(|_| unreadable(doing))
}

fn unpack<'a, T: Deserialize<'a>>(bytes: &'a [u8], doing: Doing) -> Result<T, QueueStoreError> {
    match bytes.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|_| unreadable(doing)),
        Some(_) | None => Err(unreadable(doing)),
    }
}

const fn unreadable(doing: Doing) -> QueueStoreError {
    QueueStoreError::Unreadable {
        doing,
        what: "a batch",
    }
}

fn tidy(text: &mut String) {
    if text.contains('\0') {
        *text = clean(text).into_owned();
    }
}

/// News of batches, each row as the latest of them has it.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    clients: BTreeMap<u32, ClientRow>,
    jobs: BTreeMap<u64, JobState>,
    nodes: BTreeMap<u32, NodeRow>,
    keys: BTreeMap<u64, KeyRow>,
}

impl Gathered {
    /// Adds the news of the next batch.
    pub(super) fn add(&mut self, news: &[u8], doing: Doing) -> Result<(), QueueStoreError> {
        let NewsRead(clients, jobs, nodes, keys) = unpack(news, doing)?;
        for mut row in clients {
            tidy(&mut row.name);
            // a number keeps its name
            self.clients.entry(row.number.0).or_insert(row);
        }
        for mut row in jobs {
            if let Some(reason) = &mut row.reason {
                tidy(reason);
            }
            self.jobs.insert(row.number.0, row);
        }
        for mut row in nodes {
            tidy(&mut row.id);
            tidy(&mut row.endpoint);
            self.nodes.insert(row.number.0, row);
        }
        for (client, key, job) in keys {
            self.keys.insert(job.0, KeyRow { client, key, job });
        }
        Ok(())
    }

    /// All of it, upon what the tables have.
    pub(super) fn upon(self, tables: Foreign, last: Last) -> Foreign {
        let mut all = Foreign {
            last_job: unsigned(last.job),
            last_node: narrow(last.node),
            last_client: narrow(last.client),
            ..tables
        };
        overlay(&mut all.clients, self.clients, |row| row.number.0);
        overlay(&mut all.jobs, self.jobs, |row| row.number.0);
        overlay(&mut all.nodes, self.nodes, |row| row.number.0);
        overlay(&mut all.keys, self.keys, |row| row.job.0);
        all
    }
}

/// Puts newer rows over older ones, in the order of numbers.
fn overlay<K: Ord + Copy, T>(rows: &mut Vec<T>, newer: BTreeMap<K, T>, key: impl Fn(&T) -> K) {
    if newer.is_empty() {
        return;
    }
    rows.retain(|row| !newer.contains_key(&key(row)));
    rows.extend(newer.into_values());
    rows.sort_unstable_by_key(key);
}

/// Adds a batch to what is to be written to the tables, all but the requests. What it says of a job that came only with a
/// later one, behind `last`, counts for nothing.
pub(super) fn append(
    writes: &mut Writes,
    news: &[u8],
    rest: &[u8],
    last: Last,
    doing: Doing,
) -> Result<(), QueueStoreError> {
    let NewsRead(clients, jobs, nodes, _) = unpack(news, doing)?;
    let RestRead(new_jobs, answers, logs) = unpack(rest, doing)?;
    writes.clients.extend(clients);
    let is_there = |job: JobNumber| signed(job.0) <= last.job;
    writes
        .jobs
        .extend(jobs.into_iter().filter(|row| is_there(row.number)));
    writes.nodes.extend(nodes);
    let answers = answers.into_iter().filter(|row| is_there(row.job));
    writes.answers.extend(answers);
    writes
        .logs
        .extend(logs.into_iter().filter(|row| is_there(row.job)));
    let whole = |(number, client, created, priority, blobs, parents, idempotency): Read| NewJob {
        number,
        client,
        created,
        priority,
        request: Vec::new(),
        blobs,
        parents,
        idempotency,
    };
    writes.new_jobs.extend(new_jobs.into_iter().map(whole));
    Ok(())
}

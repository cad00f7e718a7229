//! The queue as plain maps: what every store has to be indistinguishable from.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_store::queue::{
    Answer, BLOB_TTL, BlobHash, ClientRow, Foreign, JobFilter, JobRow, JobState, KeyRow, LogStream, NodeRow,
    UnixMillis, Writes,
};

/// One attempt's log: which offsets are known.
type Coverage = BTreeSet<u64>;
type LogKey = (JobNumber, bool, u32);

#[derive(Debug, Default)]
pub(crate) struct Model {
    seq: u64,
    last: (u64, u32, u32),
    clients: BTreeMap<ClientNumber, (String, u64)>,
    pub(crate) jobs: BTreeMap<JobNumber, (JobRow, u64)>,
    /// The batch that each job came with.
    born: BTreeMap<JobNumber, u64>,
    pub(crate) nodes: BTreeMap<NodeNumber, (NodeRow, u64)>,
    answers: BTreeMap<(JobNumber, u32), Answer>,
    pub(crate) logs: BTreeMap<LogKey, Coverage>,
    pub(crate) blobs: BTreeMap<BlobHash, (Vec<u8>, UnixMillis)>,
    uses: BTreeSet<(JobNumber, BlobHash)>,
}

fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn clean_state(state: &JobState) -> JobState {
    JobState {
        reason: state.reason.as_deref().map(clean),
        ..state.clone()
    }
}

/// The byte that stands at an offset of a log, whoever sends it.
pub(crate) fn log_byte((job, stderr, attempt): LogKey, at: u64) -> u8 {
    (at * 31 + u64::from(attempt) * 7 + job.0 * 3 + u64::from(stderr)).to_le_bytes()[0]
}

impl Model {
    pub(crate) fn last(&self) -> (u64, u32, u32) {
        self.last
    }

    /// What a store gives that has seen everything up to `seen`; `seen` is then up to date.
    pub(crate) fn foreign(&self, seen: &mut u64) -> Foreign {
        let since = std::mem::replace(seen, self.seq);
        let fresh = |changed: u64| changed > since;
        let jobs = self.jobs.values().filter(|(_, changed)| fresh(*changed));
        Foreign {
            clients: self.client_rows(&fresh),
            jobs: jobs.clone().map(|(row, _)| row.state.clone()).collect(),
            nodes: self.node_rows(&fresh),
            keys: jobs
                .filter(|(row, _)| fresh(self.born[&row.new.number]))
                .filter_map(|(row, _)| {
                    Some(KeyRow {
                        client: row.new.client,
                        key: row.new.idempotency.clone()?,
                        job: row.new.number,
                    })
                })
                .collect(),
            standing: None,
            last_job: self.last.0,
            last_node: self.last.1,
            last_client: self.last.2,
        }
    }

    fn client_rows(&self, pick: &dyn Fn(u64) -> bool) -> Vec<ClientRow> {
        let picked = self.clients.iter().filter(|(_, (_, changed))| pick(*changed));
        picked
            .map(|(number, (name, _))| ClientRow {
                number: *number,
                name: name.clone(),
            })
            .collect()
    }

    pub(crate) fn node_rows(&self, pick: &dyn Fn(u64) -> bool) -> Vec<NodeRow> {
        let picked = self.nodes.values().filter(|(_, changed)| pick(*changed));
        picked.map(|(row, _)| row.clone()).collect()
    }

    pub(crate) fn load(&self, seen: &mut u64) -> Foreign {
        *seen = self.seq;
        let jobs = self.jobs.values().filter(|(row, _)| row.state.open);
        Foreign {
            clients: self.client_rows(&|_| true),
            jobs: jobs.map(|(row, _)| row.state.clone()).collect(),
            nodes: self.node_rows(&|_| true),
            keys: Vec::new(),
            standing: None,
            last_job: self.last.0,
            last_node: self.last.1,
            last_client: self.last.2,
        }
    }

    pub(crate) fn write(&mut self, writes: &Writes, seen: &mut u64) {
        if writes.is_empty() {
            return;
        }
        self.seq += 1;
        *seen = self.seq;
        let seq = self.seq;
        for body in &writes.bodies {
            self.put(body.blob, body.data.to_vec(), body.put);
        }
        for client in &writes.clients {
            self.clients.insert(client.number, (clean(&client.name), seq));
            self.last.2 = self.last.2.max(client.number.0);
        }
        for new in &writes.new_jobs {
            let state = writes
                .jobs
                .iter()
                .find(|state| state.number == new.number)
                .unwrap();
            let mut row = JobRow {
                new: new.clone(),
                client_name: self.clients[&new.client].0.clone(),
                state: clean_state(state),
                exit_code: None,
            };
            row.new.idempotency = new.idempotency.as_deref().map(clean);
            self.jobs.insert(new.number, (row, seq));
            self.born.insert(new.number, seq);
            self.last.0 = self.last.0.max(new.number.0);
            self.refer(new.number, new.blobs.iter().copied());
        }
        for state in &writes.jobs {
            if let Some((row, changed)) = self.jobs.get_mut(&state.number) {
                row.state = clean_state(state);
                *changed = seq;
            }
        }
        for node in &writes.nodes {
            let row = NodeRow {
                id: clean(&node.id),
                endpoint: clean(&node.endpoint),
                ..node.clone()
            };
            self.nodes.insert(node.number, (row, seq));
            self.last.1 = self.last.1.max(node.number.0);
        }
        self.write_results(writes);
    }

    fn write_results(&mut self, writes: &Writes) {
        for answer in &writes.answers {
            let key = (answer.job, answer.attempt.0);
            if self.jobs.contains_key(&answer.job) && !self.answers.contains_key(&key) {
                self.answers.insert(key, answer.clone());
                self.refer(answer.job, answer.outputs.iter().map(|output| output.blob));
            }
        }
        for piece in &writes.logs {
            if self.jobs.contains_key(&piece.job) && !piece.bytes.is_empty() {
                let key = (piece.job, piece.stream == LogStream::Stderr, piece.attempt.0);
                let end = piece.from + piece.bytes.len() as u64;
                self.logs.entry(key).or_default().extend(piece.from..end);
            }
        }
    }

    fn refer(&mut self, job: JobNumber, blobs: impl Iterator<Item = BlobHash>) {
        for blob in blobs {
            if self.blobs.contains_key(&blob) {
                self.uses.insert((job, blob));
            }
        }
    }

    pub(crate) fn job(&self, number: JobNumber) -> Option<JobRow> {
        self.jobs.get(&number).map(|(row, _)| self.whole(row))
    }

    /// With its exit code.
    fn whole(&self, row: &JobRow) -> JobRow {
        let attempt = row.state.attempt.filter(|_| !row.state.open);
        let answer = attempt.and_then(|attempt| self.answers.get(&(row.new.number, attempt.0)));
        JobRow {
            exit_code: answer.and_then(|it| it.exit_code),
            ..row.clone()
        }
    }

    pub(crate) fn list(&self, filter: &JobFilter) -> Vec<JobRow> {
        let rows = self.jobs.values().rev().map(|(row, _)| row);
        rows.filter(|row| filter.word.is_none_or(|word| row.state.word == word))
            .filter(|row| filter.below.is_none_or(|below| row.new.number < below))
            .filter(|row| {
                filter
                    .client
                    .as_deref()
                    .map(clean)
                    .is_none_or(|name| row.client_name == name)
            })
            .take(filter.limit as usize)
            .map(|row| self.whole(row))
            .collect()
    }

    pub(crate) fn by_key(&self, client: &str, key: &str) -> Option<JobNumber> {
        let mut rows = self.jobs.values().map(|(row, _)| row);
        rows.find(|row| row.client_name == clean(client) && row.new.idempotency.as_ref() == Some(&clean(key)))
            .map(|row| row.new.number)
    }

    pub(crate) fn answers(&self, job: JobNumber) -> Vec<Answer> {
        let range = self.answers.range((job, 0)..=(job, u32::MAX));
        range.map(|(_, answer)| answer.clone()).collect()
    }

    /// Attempt, beginning and bytes of the whole run that a reader at `from` gets.
    pub(crate) fn log(&self, job: JobNumber, stderr: bool, from: u64) -> Option<(u32, u64, Vec<u8>)> {
        let latest = |stderr| {
            let mut logs = self.logs.range((job, stderr, 0)..=(job, stderr, u32::MAX));
            logs.next_back().map(|(key, _)| key.2)
        };
        let key = &(job, stderr, latest(false).max(latest(true))?);
        let none = BTreeSet::new();
        let known = self.logs.get(key).unwrap_or(&none);
        let start = known.range(from..).next().copied().unwrap_or(from);
        let run = (start..).take_while(|at| known.contains(at));
        Some((key.2, start, run.map(|at| log_byte(*key, at)).collect()))
    }

    pub(crate) fn put(&mut self, hash: BlobHash, body: Vec<u8>, now: UnixMillis) {
        self.blobs.entry(hash).or_insert((body, 0)).1 = now;
    }

    pub(crate) fn sweep_jobs(&mut self, now: UnixMillis, ttl: UnixMillis) -> u64 {
        let needed: BTreeSet<JobNumber> = self
            .jobs
            .values()
            .filter(|(row, _)| row.state.open)
            .flat_map(|(row, _)| row.new.parents.iter().copied())
            .collect();
        let before = now.saturating_sub(ttl);
        let gone: BTreeSet<JobNumber> = self
            .jobs
            .values()
            .map(|(row, _)| &row.state)
            .filter(|state| !state.open && state.ended.is_some_and(|ended| ended < before))
            .map(|state| state.number)
            .filter(|number| !needed.contains(number))
            .collect();
        self.jobs.retain(|number, _| !gone.contains(number));
        self.answers.retain(|(number, _), _| !gone.contains(number));
        self.logs.retain(|(number, _, _), _| !gone.contains(number));
        for (job, blob) in std::mem::take(&mut self.uses) {
            if gone.contains(&job) {
                self.blobs.get_mut(&blob).unwrap().1 = now;
            } else {
                self.uses.insert((job, blob));
            }
        }
        gone.len() as u64
    }

    pub(crate) fn sweep_blobs(&mut self, now: UnixMillis) -> u64 {
        let used: BTreeSet<BlobHash> = self.uses.iter().map(|(_, blob)| *blob).collect();
        let before = self.blobs.len();
        self.blobs
            .retain(|hash, (_, touched)| used.contains(hash) || *touched >= now.saturating_sub(BLOB_TTL));
        (before - self.blobs.len()) as u64
    }
}

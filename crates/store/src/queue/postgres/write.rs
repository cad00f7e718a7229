//! What batches come to in the tables: one statement for each table, its rows as arrays, all in one round trip.

use std::borrow::Cow;
use std::collections::BTreeMap;

use futures::try_join;
use sandrun_core::pool::JobNumber;

use super::rows::get;
use super::session::{Session, Value};
use super::sql::{
    ANSWERS, BARE_ANSWERS, CLIENTS, LOGS, NEW_JOBS, NODES, PARENTS, REQUESTS, REQUESTS_OF, STATES, USES,
};
use crate::queue::codec::{
    clean, pack_blobs, pack_outputs, pack_parents, signed, stream_code, unsigned, word_code,
};
use crate::queue::{Answer, Doing, JobState, JobWord, LogPiece, NewJob, NodeRow, QueueStoreError, Writes};

type Text<'a> = Option<Cow<'a, str>>;

/// Columns of jobs' changing parts.
#[derive(Default)]
struct States<'a> {
    number: Vec<i64>,
    open: Vec<bool>,
    word: Vec<i64>,
    reason: Vec<Text<'a>>,
    node: Vec<Option<i64>>,
    attempt: Vec<Option<i64>>,
    started: Vec<Option<i64>>,
    ended: Vec<Option<i64>>,
    snapshot: Vec<&'a [u8]>,
}

impl<'a> States<'a> {
    fn push(&mut self, state: &'a JobState) {
        self.number.push(signed(state.number.0));
        self.open.push(state.open);
        self.word.push(word_code(state.word));
        self.reason.push(state.reason.as_deref().map(clean));
        self.node.push(state.node.map(|node| i64::from(node.0)));
        self.attempt
            .push(state.attempt.map(|attempt| i64::from(attempt.0)));
        self.started.push(state.started.map(signed));
        self.ended.push(state.ended.map(signed));
        self.snapshot.push(&state.snapshot);
    }

    /// All but the number.
    fn values(&self) -> [Value<'_>; 8] {
        [
            &self.open,
            &self.word,
            &self.reason,
            &self.node,
            &self.attempt,
            &self.started,
            &self.ended,
            &self.snapshot,
        ]
    }
}

/// Columns of new jobs, and of what belongs to them.
#[derive(Default)]
struct News<'a> {
    client: Vec<i64>,
    created: Vec<i64>,
    priority: Vec<i64>,
    blobs: Vec<Vec<u8>>,
    parents: Vec<Vec<u8>>,
    key: Vec<Text<'a>>,
    state: States<'a>,
    /// Parent, child.
    edges: (Vec<i64>, Vec<i64>),
    /// Job, hash.
    uses: (Vec<i64>, Vec<&'a [u8]>),
}

impl<'a> News<'a> {
    fn push(&mut self, new: &'a NewJob, state: &'a JobState) {
        let number = signed(new.number.0);
        self.client.push(i64::from(new.client.0));
        self.created.push(signed(new.created));
        self.priority.push(i64::from(new.priority));
        self.blobs.push(pack_blobs(&new.blobs));
        self.parents.push(pack_parents(&new.parents));
        self.key.push(new.idempotency.as_deref().map(clean));
        self.state.push(state);
        for parent in &new.parents {
            self.edges.0.push(signed(parent.0));
            self.edges.1.push(number);
        }
        for blob in &new.blobs {
            self.uses.0.push(number);
            self.uses.1.push(&blob.0);
        }
    }
}

/// Columns of nodes.
#[derive(Default)]
struct Nodes<'a> {
    number: Vec<i64>,
    id: Vec<Cow<'a, str>>,
    endpoint: Vec<Cow<'a, str>>,
    announced: Vec<&'a [u8]>,
    heard: Vec<i64>,
    completed: Vec<i64>,
    failed: Vec<i64>,
    snapshot: Vec<&'a [u8]>,
}

impl<'a> Nodes<'a> {
    fn push(&mut self, node: &'a NodeRow) {
        self.number.push(i64::from(node.number.0));
        self.id.push(clean(&node.id));
        self.endpoint.push(clean(&node.endpoint));
        self.announced.push(&node.announced);
        self.heard.push(signed(node.heard));
        self.completed.push(signed(node.completed));
        self.failed.push(signed(node.failed));
        self.snapshot.push(&node.snapshot);
    }

    fn values(&self) -> Vec<Value<'_>> {
        vec![
            &self.number,
            &self.id,
            &self.endpoint,
            &self.announced,
            &self.heard,
            &self.completed,
            &self.failed,
            &self.snapshot,
        ]
    }
}

/// Columns of answers, and of the bodies that they refer to.
#[derive(Default)]
struct Answers<'a> {
    job: Vec<i64>,
    attempt: Vec<i64>,
    node: Vec<i64>,
    exit_code: Vec<Option<i32>>,
    stdout: Vec<&'a [u8]>,
    stderr: Vec<&'a [u8]>,
    outputs: Vec<Vec<u8>>,
    receipt: Vec<Option<&'a [u8]>>,
    signature: Vec<Option<&'a [u8]>>,
    details: Vec<&'a [u8]>,
    /// Only answers with files have one.
    output_root: Vec<Option<&'a [u8]>>,
    /// Job, attempt, hash.
    uses: (Vec<i64>, Vec<i64>, Vec<&'a [u8]>),
}

impl<'a> Answers<'a> {
    fn push(&mut self, answer: &'a Answer, doing: Doing) -> Result<(), QueueStoreError> {
        let (job, attempt) = (signed(answer.job.0), i64::from(answer.attempt.0));
        self.job.push(job);
        self.attempt.push(attempt);
        self.node.push(i64::from(answer.node.0));
        self.exit_code.push(answer.exit_code);
        self.stdout.push(&answer.stdout);
        self.stderr.push(&answer.stderr);
        self.outputs.push(pack_outputs(&answer.outputs, doing)?);
        self.receipt.push(answer.receipt.as_deref());
        self.signature.push(answer.signature.as_deref());
        self.details.push(&answer.details);
        let root = answer.output_root.as_ref();
        self.output_root.push(root.map(|root| root.0.as_slice()));
        for output in &answer.outputs {
            self.uses.0.push(job);
            self.uses.1.push(attempt);
            self.uses.2.push(&output.blob.0);
        }
        Ok(())
    }

    /// All that a bare answer has.
    fn values(&self) -> Vec<Value<'_>> {
        vec![
            &self.job,
            &self.attempt,
            &self.node,
            &self.exit_code,
            &self.stdout,
            &self.stderr,
            &self.outputs,
            &self.receipt,
            &self.signature,
            &self.details,
        ]
    }

    /// The statement that writes them, and its values.
    fn statement(&self) -> (&'static str, Vec<Value<'_>>) {
        let mut values = self.values();
        if self.uses.0.is_empty() {
            return (BARE_ANSWERS, values);
        }
        values.extend([
            &self.uses.0 as Value<'_>,
            &self.uses.1,
            &self.uses.2,
            &self.output_root,
        ]);
        (ANSWERS, values)
    }
}

/// Columns of pieces of logs.
#[derive(Default)]
struct Logs<'a> {
    job: Vec<i64>,
    stream: Vec<i64>,
    attempt: Vec<i64>,
    start: Vec<i64>,
    bytes: Vec<&'a [u8]>,
}

impl<'a> Logs<'a> {
    fn push(&mut self, piece: &'a LogPiece) {
        self.job.push(signed(piece.job.0));
        self.stream.push(stream_code(piece.stream));
        self.attempt.push(i64::from(piece.attempt.0));
        self.start.push(signed(piece.from));
        self.bytes.push(&piece.bytes);
    }

    fn values(&self) -> Vec<Value<'_>> {
        vec![&self.job, &self.stream, &self.attempt, &self.start, &self.bytes]
    }
}

/// Batches in columns; each key once, as one statement may touch a row only once.
#[derive(Default)]
struct Columns<'a> {
    clients: (Vec<i64>, Vec<Cow<'a, str>>),
    news: News<'a>,
    states: States<'a>,
    nodes: Nodes<'a>,
    answers: Answers<'a>,
    logs: Logs<'a>,
}

impl<'a> Columns<'a> {
    fn of(writes: &'a Writes, doing: Doing) -> Result<Self, QueueStoreError> {
        let mut all = Self::default();
        for client in &writes.clients {
            all.clients.0.push(i64::from(client.number.0));
            all.clients.1.push(clean(&client.name));
        }
        let mut states: BTreeMap<JobNumber, &JobState> =
            writes.jobs.iter().map(|state| (state.number, state)).collect();
        for new in &writes.new_jobs {
            let state = states
                .remove(&new.number)
                .ok_or(QueueStoreError::Stateless(new.number))?;
            all.news.push(new, state);
        }
        states.into_values().for_each(|state| all.states.push(state));
        let nodes: BTreeMap<_, _> = writes.nodes.iter().map(|node| (node.number, node)).collect();
        nodes.into_values().for_each(|node| all.nodes.push(node));
        // the first answer of an attempt stays
        let answers: BTreeMap<_, _> = writes
            .answers
            .iter()
            .rev()
            .map(|answer| ((answer.job, answer.attempt), answer))
            .collect();
        for answer in answers.into_values() {
            all.answers.push(answer, doing)?;
        }
        let mut logs: BTreeMap<_, &LogPiece> = BTreeMap::new();
        for piece in writes.logs.iter().filter(|piece| !piece.bytes.is_empty()) {
            let key = (piece.job, stream_code(piece.stream), piece.attempt, piece.from);
            let kept = logs.entry(key).or_insert(piece);
            if piece.bytes.len() > kept.bytes.len() {
                *kept = piece;
            }
        }
        logs.into_values().for_each(|piece| all.logs.push(piece));
        Ok(all)
    }
}

/// Writes rows of batches into the open transaction, marked as of the batch `seq`.
pub(super) async fn write(
    session: &Session,
    writes: &Writes,
    seq: i64,
    doing: Doing,
) -> Result<(), QueueStoreError> {
    let Columns {
        clients,
        news,
        states,
        nodes,
        answers,
        logs,
    } = &Columns::of(writes, doing)?;
    let seq: Value<'_> = &seq;
    let send = |text, rows, values| send(session, text, rows, values, doing);
    let mut new_values: Vec<Value<'_>> = vec![
        &news.state.number,
        &news.client,
        &news.created,
        &news.priority,
        &news.blobs,
        &news.parents,
        &news.key,
    ];
    new_values.extend(news.state.values());
    new_values.push(seq);
    let mut state_values: Vec<Value<'_>> = vec![&states.number];
    state_values.extend(states.values());
    state_values.push(seq);
    let (answer_text, answer_values) = answers.statement();
    let mut node_values = nodes.values();
    node_values.push(seq);
    try_join!(
        send(CLIENTS, clients.0.len(), vec![&clients.0, &clients.1, seq]),
        send(NEW_JOBS, news.client.len(), new_values),
        send(PARENTS, news.edges.0.len(), vec![&news.edges.0, &news.edges.1]),
        send(USES, news.uses.0.len(), vec![&news.uses.0, &news.uses.1]),
        send(STATES, states.number.len(), state_values),
        send(NODES, nodes.number.len(), node_values),
        send(answer_text, answers.job.len(), answer_values),
        send(LOGS, logs.job.len(), logs.values()),
    )?;
    Ok(())
}

/// Writes requests of new jobs.
pub(super) async fn new_requests(
    session: &Session,
    writes: &Writes,
    doing: Doing,
) -> Result<(), QueueStoreError> {
    let (mut jobs, mut bodies): (Vec<i64>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for new in &writes.new_jobs {
        jobs.push(signed(new.number.0));
        bodies.push(&new.request);
    }
    send(session, REQUESTS, jobs.len(), vec![&jobs, &bodies], doing).await?;
    Ok(())
}

/// Jobs that nodes have got and not begun.
pub(super) fn leased(writes: &Writes) -> Vec<i64> {
    let states = writes.jobs.iter();
    let given = states.filter(|state| state.open && state.word == JobWord::Assigned);
    given.map(|state| signed(state.number.0)).collect()
}

/// Requests of these jobs, in the order of numbers; asks nothing for none.
pub(super) async fn requests(
    session: &Session,
    jobs: &[i64],
    doing: Doing,
) -> Result<Vec<(JobNumber, Vec<u8>)>, QueueStoreError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.query(REQUESTS_OF, &[&jobs], doing).await?;
    let found = rows
        .iter()
        .map(|row| Ok((JobNumber(unsigned(get(row, 0, doing)?)), get(row, 1, doing)?)));
    let mut found: Vec<(JobNumber, Vec<u8>)> = found.collect::<Result<_, QueueStoreError>>()?;
    found.sort_unstable_by_key(|(job, _)| *job);
    Ok(found)
}

/// Sends a statement, but for one without rows.
async fn send(
    session: &Session,
    text: &'static str,
    rows: usize,
    values: Vec<Value<'_>>,
    doing: Doing,
) -> Result<u64, QueueStoreError> {
    match rows {
        0 => Ok(0),
        _ => session.execute(text, &values, doing).await,
    }
}

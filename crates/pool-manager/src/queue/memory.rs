//! What the engine has in memory: the machine, and what its rows need beside it. All of it can be loaded anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sandrun_core::pool::{
    ClientNumber, Event, JobEnd, JobLife, JobNumber, JobStatus, LeaseStep, NodeNumber, Pool, Touched,
};
use sandrun_store::queue::{ClientRow, Foreign, JobState, JobWord, ReplicaId, UnixMillis};
use sandrun_types::{Attempt, UnixSeconds};

use super::batch::Batch;
use super::clients::Clients;
use super::command::Command;
use super::digest::is_success;
use super::error::QueueError;
use super::ids::IdKey;
use super::nodes::Nodes;
use super::push::News;
use super::runs::{Replicas, Runs};
use super::settings::QueueSettings;

/// Bytes of most snapshots, at most.
const SNAPSHOT: usize = 256;

/// The state of one service.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) pool: Pool,
    pub(super) nodes: Nodes,
    pub(super) ids: IdKey,
    pub(super) settings: QueueSettings,
    pub(super) last_job: u64,
    pub(super) last_node: u32,
    clients: Clients,
    last_client: u32,
    /// When the latest attempt of each running job began.
    pub(super) started: HashMap<JobNumber, UnixMillis>,
    /// Ended jobs that are here for one batch.
    borrowed: BTreeSet<JobNumber>,
    /// Runs of leases that are carried to their nodes.
    pub(super) runs: Runs,
    /// Jobs whose rows have changed beside the machine's part.
    pub(super) changed: BTreeSet<JobNumber>,
    /// What the carrier is to be told after the batch.
    pub(super) news: Vec<News>,
    /// This service among its replicas.
    pub(super) replicas: Replicas,
    /// Owners of runs that were never seen alive, and the latest look when their rows were read.
    pub(super) strangers: BTreeMap<ReplicaId, u64>,
    /// Whether no batch has been written since it was loaded.
    pub(super) is_fresh: bool,
    /// Before this nothing times out: after a restart nobody could be heard for a while.
    patient_until: UnixSeconds,
}

impl Memory {
    /// A memory of all that is open.
    pub(super) fn load(
        settings: QueueSettings,
        ids: IdKey,
        all: &Foreign,
        patient_until: UnixSeconds,
    ) -> Result<Self, QueueError> {
        let mut memory = Self {
            pool: Pool::new(settings.machine()),
            nodes: Nodes::default(),
            ids,
            settings,
            last_job: 0,
            last_node: 0,
            clients: Clients::default(),
            last_client: 0,
            started: HashMap::new(),
            borrowed: BTreeSet::new(),
            runs: Runs::new(),
            changed: BTreeSet::new(),
            news: Vec::new(),
            replicas: Replicas::default(),
            strangers: BTreeMap::new(),
            is_fresh: true,
            patient_until,
        };
        memory.take_in(all)?;
        Ok(memory)
    }

    /// Lets time out at once what is silent.
    pub(super) const fn be_impatient(&mut self) {
        self.patient_until = UnixSeconds(0);
    }

    /// Takes in what others have written.
    pub(super) fn take_in(&mut self, foreign: &Foreign) -> Result<(), QueueError> {
        for client in &foreign.clients {
            self.clients.put(client.name.clone(), client.number);
        }
        for row in &foreign.nodes {
            let is_as_it_stands = self.nodes.stands_as(row);
            let is_doubted = self.nodes.take_in(row);
            if is_doubted && !self.is_fresh {
                self.doubt(row.number);
            }
            if !is_as_it_stands {
                self.pool.put_node(row.number, read("a node", &row.snapshot)?);
            }
        }
        if let Some(standing) = &foreign.standing {
            self.let_go_of_gone(standing);
        }
        for row in &foreign.jobs {
            self.put(row)?;
        }
        self.last_job = self.last_job.max(foreign.last_job);
        self.last_node = self.last_node.max(foreign.last_node);
        self.last_client = self.last_client.max(foreign.last_client);
        Ok(())
    }

    /// Lets go of open jobs that others have ended and removed. Those that have ended only here are of this batch.
    fn let_go_of_gone(&mut self, standing: &[JobNumber]) {
        let pool = &self.pool;
        let is_gone = |job: &JobNumber| {
            let has_ended = matches!(pool.job(*job), Some(JobStatus::Ended(_)));
            !has_ended && standing.binary_search(job).is_err()
        };
        let gone: Vec<JobNumber> = pool.jobs().filter(is_gone).collect();
        for job in gone {
            self.pool.take_away(job);
            self.read_runs(job, &[]);
            self.started.remove(&job);
        }
    }

    /// Puts a job in; an ended one until the end of the batch.
    pub(super) fn put(&mut self, row: &JobState) -> Result<(), QueueError> {
        self.pool.put_job(row.number, read("a job", &row.snapshot)?);
        self.read_runs(row.number, &row.snapshot);
        match row.started.filter(|_| row.open) {
            Some(started) => self.started.insert(row.number, started),
            None => self.started.remove(&row.number),
        };
        if !row.open {
            self.borrowed.insert(row.number);
        }
        Ok(())
    }

    /// The number of a client, a new one if nobody has heard of it. Its name is written with each batch that has a job of
    /// it: the store may have swept it.
    pub(super) fn client(&mut self, name: &str, batch: &mut Batch) -> ClientNumber {
        let known = self.clients.get(name);
        let number = known.or_else(|| batch.clients.get(name).copied());
        let number = number.unwrap_or_else(|| {
            self.last_client += 1;
            ClientNumber(self.last_client)
        });
        if known.is_none() {
            self.clients.put(name.to_owned(), number);
        }
        self.clients.note_use(name, batch.now);
        if batch.named.insert(number) {
            let name = name.to_owned();
            batch.writes.clients.push(ClientRow { number, name });
        }
        number
    }

    /// The number of a client that was heard of.
    pub(super) fn known_client(&self, name: &str) -> Option<ClientNumber> {
        self.clients.get(name)
    }

    /// The attempt that a node holds at a job now, and how far it is.
    pub(super) fn held(&self, job: JobNumber, node: NodeNumber) -> Option<(Attempt, LeaseStep)> {
        match self.pool.job(job)? {
            JobStatus::Running(leases) => leases
                .iter()
                .find(|lease| lease.node == node)
                .map(|lease| (lease.attempt, lease.step)),
            JobStatus::Blocked | JobStatus::Queued | JobStatus::Ended(_) => None,
        }
    }

    /// The attempt under which a node has answered a job.
    pub(super) fn answered(&self, job: JobNumber, node: NodeNumber) -> Option<Attempt> {
        let snapshot = self.pool.job_snapshot(job)?;
        let answers = match &snapshot.life {
            JobLife::Open(open) => &open.answers,
            JobLife::Ended { accepted, .. } => accepted,
        };
        answers.iter().find(|it| it.node == node).map(|it| it.attempt)
    }

    /// Whether a command can be done with what is in memory now; one of a kind that is rare waits for its turn.
    pub(super) fn knows_all_of(&self, command: &Command) -> bool {
        match command {
            Command::Submit(jobs, _) => jobs.iter().all(|it| {
                it.idempotency.is_none() && it.parents.is_empty() && self.known_client(&it.client).is_some()
            }),
            Command::Claim(..) | Command::Heartbeat { .. } => true,
            Command::Complete(..) | Command::Print(..) | Command::Begin(..) => {
                let mut jobs = command.jobs().into_iter();
                jobs.all(|job| self.pool.job(job).is_some())
            }
            Command::Register(..)
            | Command::Fail(..)
            | Command::Cancel(..)
            | Command::SetDraining { .. }
            | Command::Lose(..)
            | Command::Nodes(_)
            | Command::Living(_)
            | Command::Look
            | Command::Stop => false,
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, batch: &mut Batch) {
        let now = batch.seconds();
        // after a clock was set back it would be patience without an end
        let longest = now.plus(u64::from(self.settings.node_timeout));
        if now >= self.patient_until || self.patient_until > longest {
            self.patient_until = UnixSeconds(0);
        }
        if now >= self.patient_until
            && let Ok(actions) = self.pool.apply(batch.seconds(), Event::Tick)
        {
            self.perform(actions, batch);
        }
        for node in self.nodes.silent(batch.now, self.settings.node_ttl()) {
            if self.pool.drop_node(node) {
                self.nodes.remove(node);
            }
        }
    }

    /// When time has to pass again.
    pub(super) fn next_timeout(&self) -> Option<UnixSeconds> {
        self.pool.next_timeout().map(|at| at.max(self.patient_until))
    }

    /// Puts what has changed into the batch's writes, and lets go of what has ended.
    pub(super) fn write(&mut self, batch: &mut Batch) {
        let Touched { jobs, nodes } = self.pool.take_touched();
        let jobs = std::mem::take(&mut self.changed).into_iter().chain(jobs);
        for job in jobs.collect::<BTreeSet<_>>() {
            if let Some(mut state) = self.job_state(job, batch) {
                self.add_runs(&mut state);
                if !state.open {
                    self.borrowed.insert(job);
                }
                batch.told.insert(job);
                batch.writes.jobs.push(state);
            }
        }
        for number in nodes.union(&self.nodes.take_dirty()).copied() {
            let has_changed = nodes.contains(&number) || self.nodes.is_unwritten(number);
            let snapshot = has_changed.then(|| self.pool.node_snapshot(number));
            if let Some(None) = snapshot {
                continue;
            }
            let snapshot = snapshot.flatten().map(|it| bytes(&it));
            batch.writes.nodes.extend(self.nodes.row(number, snapshot));
        }
        batch.leased.extend(self.given());
        for job in std::mem::take(&mut self.borrowed) {
            self.started.remove(&job);
            self.pool.drop_job(job);
        }
        self.clients.forget(batch.now);
    }

    /// A job's row.
    fn job_state(&self, number: JobNumber, batch: &Batch) -> Option<JobState> {
        let snapshot = self.pool.job_snapshot(number)?;
        let mut state = JobState {
            number,
            open: true,
            word: JobWord::Pending,
            reason: None,
            node: None,
            attempt: None,
            started: None,
            ended: None,
            snapshot: bytes(&snapshot),
        };
        match self.pool.job(number)? {
            JobStatus::Blocked | JobStatus::Queued => {}
            JobStatus::Running(leases) => {
                state.word = JobWord::Running;
                state.started = self.started.get(&number).copied();
                if let Some(latest) = leases.iter().max_by_key(|lease| lease.attempt) {
                    (state.node, state.attempt) = (Some(latest.node), Some(latest.attempt));
                    let is_begun = matches!(&snapshot.life, JobLife::Open(open) if !open.answers.is_empty());
                    if !is_begun && leases.iter().all(|lease| lease.step == LeaseStep::Given) {
                        state.word = JobWord::Assigned;
                    }
                }
            }
            JobStatus::Ended(end) => {
                state.open = false;
                state.ended = Some(batch.now);
                state.started = self.started.get(&number).copied();
                state.word = match end {
                    JobEnd::Agreed(digest) if is_success(digest) => JobWord::Completed,
                    JobEnd::Agreed(_) | JobEnd::Failed(_) | JobEnd::Cancelled => JobWord::Failed,
                };
                state.reason = self.reason(number, end, batch);
                if let JobLife::Ended { accepted, .. } = &snapshot.life
                    && let Some(answer) = accepted.iter().find(|it| end == JobEnd::Agreed(it.digest))
                {
                    (state.node, state.attempt) = (Some(answer.node), Some(answer.attempt));
                }
            }
        }
        Some(state)
    }

    /// Why a job has no result, for people.
    fn reason(&self, job: JobNumber, end: JobEnd, batch: &Batch) -> Option<String> {
        use sandrun_core::pool::FailReason;
        match end {
            JobEnd::Agreed(digest) if is_success(digest) => None,
            JobEnd::Agreed(_) => Some(match batch.words.get(&job) {
                Some(words) => format!("its program failed: {words}"),
                None => "its program failed: exit code and error output say how".to_owned(),
            }),
            JobEnd::Cancelled => Some("cancelled by its client".to_owned()),
            JobEnd::Failed(FailReason::Parent(parent)) => {
                let parent = self.ids.job_id(parent);
                Some(format!("job {parent}, which it waited for, did not end well"))
            }
            JobEnd::Failed(reason) => Some(match batch.words.get(&job) {
                Some(words) => format!("{reason}: {words}"),
                None => reason.to_string(),
            }),
        }
    }
}

/// A snapshot's bytes.
fn bytes(snapshot: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SNAPSHOT);
    // plain data with texts as keys: there is always a JSON form
    match serde_json::to_writer(&mut bytes, snapshot) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// Reads a snapshot.
fn read<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, QueueError> {
    serde_json::from_slice(bytes)
        .map_err(|error| QueueError::Store(format!("{what} in the store is not readable: {error}")))
}

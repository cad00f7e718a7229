//! The machine: the state, the indexes over it, and which handler takes which event.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_types::{Attempt, UnixSeconds};

use super::dag::Dag;
use super::job::{Class, Job, Life, Open};
use super::node::Node;
use super::queue::Queue;
use super::table::JobTable;
use super::{
    Action, Assignment, ClientNumber, Counts, Event, FailReason, Illegal, JobEnd, JobNumber, JobSpec, Level,
    NodeNumber, NodeStatus, Policy, Touched,
};

/// What a service sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The trust model.
    pub policy: Policy,
    /// Seconds of waiting that are worth one step of priority.
    pub ageing_step: u32,
    /// Seconds without a word after which a node is lost; `None` where nodes send no heartbeats. A word counts when the
    /// one that counted last is older than a quarter of this: nodes that speak often change little, and who speaks
    /// more often than that is lost up to a quarter sooner.
    pub node_timeout: Option<u32>,
    /// How many attempts of a job may come to nothing before it fails, where the job does not ask for fewer.
    pub max_retries: u8,
}

/// Jobs, nodes and leases of one service. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(super) settings: Settings,
    pub(super) jobs: JobTable,
    pub(super) nodes: BTreeMap<NodeNumber, Node>,
    pub(super) queue: Queue,
    pub(super) dag: Dag,
    /// Leases by node; nodes without any are not here.
    pub(super) held: BTreeMap<NodeNumber, BTreeSet<(JobNumber, Attempt)>>,
    /// When leases end.
    pub(super) expiries: BTreeSet<(UnixSeconds, JobNumber, Attempt, NodeNumber)>,
    /// Nodes with a free slot, by how many leases they have.
    pub(super) free: BTreeSet<(u32, NodeNumber)>,
    /// Nodes that are not lost, by when they were heard of.
    pub(super) heard: BTreeSet<(UnixSeconds, NodeNumber)>,
    pub(super) touched: Touched,
    /// Jobs alone: nodes are counted when asked for.
    pub(super) job_counts: Counts,
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            jobs: JobTable::default(),
            nodes: BTreeMap::new(),
            queue: Queue::default(),
            dag: Dag::default(),
            held: BTreeMap::new(),
            expiries: BTreeSet::new(),
            free: BTreeSet::new(),
            heard: BTreeSet::new(),
            touched: Touched::default(),
            job_counts: Counts::default(),
        }
    }

    /// Takes in one event and returns what is to be done, in order.
    ///
    /// # Errors
    /// [`Illegal`]: the event has no place here, and nothing was changed.
    pub fn apply(&mut self, now: UnixSeconds, event: Event) -> Result<Vec<Action>, Illegal> {
        let mut out = Vec::new();
        match event {
            Event::Submit { job, spec } => self.submit(now, job, spec, &mut out)?,
            Event::Register { node, spec } => self.register(now, node, spec)?,
            Event::Heartbeat { node } => self.heartbeat(now, node)?,
            Event::Claim { node, job } => self.claim(now, node, job, &mut out)?,
            Event::Handed {
                job,
                node,
                attempt,
                claim,
            } => self.handed(job, node, attempt, claim)?,
            Event::Holds { node, settled, held } => self.holds(node, settled, &held, &mut out)?,
            Event::Started { job, node, attempt } => self.started(now, job, node, attempt)?,
            Event::Committed { job, node, attempt } => self.committed(now, job, node, attempt)?,
            Event::Answered {
                job,
                node,
                attempt,
                report,
            } => {
                self.answered(now, job, node, attempt, report, &mut out)?;
            }
            Event::Failed {
                job,
                node,
                attempt,
                retry,
            } => self.failed(job, node, attempt, retry, &mut out)?,
            Event::Lost { node } => self.lose_node(node, &mut out)?,
            Event::Drain { node } => self.set_status(node, NodeStatus::Draining)?,
            Event::Resume { node } => self.set_status(node, NodeStatus::Up)?,
            Event::Cancel { job } => {
                self.open(job)?;
                self.end(job, JobEnd::Cancelled, &mut out);
            }
            Event::Forget { job } => self.forget(job)?,
            Event::Tick => self.tick(now, &mut out),
        }
        if let Assignment::Pushed(tie) = self.settings.policy.assignment {
            self.push(now, tie, &mut out);
        }
        Ok(out)
    }

    fn submit(
        &mut self,
        now: UnixSeconds,
        job: JobNumber,
        spec: JobSpec,
        out: &mut Vec<Action>,
    ) -> Result<(), Illegal> {
        let (replicas, quorum) = (spec.replicas, spec.quorum);
        if self.jobs.contains(job) {
            return Err(Illegal::JobExists(job));
        }
        if quorum == 0 || quorum > replicas || u16::from(quorum) * 2 <= u16::from(replicas) {
            return Err(Illegal::BadQuorum {
                job,
                replicas,
                quorum,
            });
        }
        let (awaited, failed) = self.look_at_parents(job, &spec.parents)?;
        let client = spec.client;
        if let Some(parent) = failed {
            let end = JobEnd::Failed(FailReason::Parent(parent));
            let accepted = Vec::new();
            self.add(job, client, Life::Ended { end, accepted });
            self.touch(job);
            out.push(Action::End { job, end });
            return Ok(());
        }
        let open = self.new_open(now, spec);
        if awaited.is_empty() {
            self.queue.insert(open.entry(client, job), open.involved());
        }
        self.dag.join(job, awaited);
        self.add(job, client, Life::Open(open));
        self.touch(job);
        Ok(())
    }

    fn new_open(&mut self, now: UnixSeconds, spec: JobSpec) -> Open {
        let policy = self.settings.policy;
        Open {
            needs: self.queue.join_set(spec.needs),
            level: Level::of(now, spec.priority, self.settings.ageing_step),
            priority: spec.priority,
            quorum: spec.quorum,
            lease_seconds: spec.lease_seconds,
            last_attempt: None,
            waiting: spec.replicas,
            leases: Vec::new(),
            answers: Vec::new(),
            retries_left: if policy.retries {
                let most = self.settings.max_retries;
                spec.retries.map_or(most, |retries| retries.min(most))
            } else {
                0
            },
            // with one replica there is nothing to disagree with
            extra_places: if spec.replicas > 1 { policy.extra_places } else { 0 },
            last_failure: None,
            given_back: Vec::new(),
        }
    }

    /// Puts a job in and counts it.
    pub(super) fn add(&mut self, job: JobNumber, client: ClientNumber, life: Life) {
        let mut known = Job {
            client,
            counted: Class::Queued,
            life,
        };
        known.counted = known.class(self.dag.is_blocked(job));
        *self.job_counts.of_class(known.counted) += 1;
        self.jobs.insert(job, known);
    }

    /// Takes a job out; nothing is left but what its children keep.
    pub(super) fn take_out(&mut self, job: JobNumber) -> Option<Job> {
        let known = self.jobs.remove(job)?;
        *self.job_counts.of_class(known.counted) -= 1;
        Some(known)
    }

    fn forget(&mut self, job: JobNumber) -> Result<(), Illegal> {
        match &self.jobs.get(job).ok_or(Illegal::UnknownJob(job))?.life {
            Life::Open(_) => Err(Illegal::StillOpen(job)),
            Life::Ended { .. } => {
                self.drop_job(job);
                Ok(())
            }
        }
    }
}

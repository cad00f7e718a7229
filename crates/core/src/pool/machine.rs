//! The machine: the state, the indexes over it, and which handler takes which event.

use std::collections::{BTreeMap, BTreeSet};

use sandrun_types::{Attempt, UnixSeconds};

use super::job::{Job, Life, Open};
use super::node::Node;
use super::queue::{Level, Queue};
use super::{
    Action, Assignment, Event, Illegal, JobEnd, JobNumber, JobSpec, JobStatus, NodeNumber, NodeSpec,
    NodeStatus, Policy,
};

/// What a service sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The trust model.
    pub policy: Policy,
    /// Seconds of waiting that are worth one step of priority.
    pub ageing_step: u32,
    /// Seconds without a word after which a node is lost; `None` where nodes send no heartbeats.
    pub node_timeout: Option<u32>,
    /// How many attempts of a job may come to nothing before it fails.
    pub max_retries: u8,
}

/// Jobs, nodes and leases of one service. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(super) settings: Settings,
    pub(super) jobs: BTreeMap<JobNumber, Job>,
    pub(super) nodes: BTreeMap<NodeNumber, Node>,
    pub(super) queue: Queue,
    /// When leases end.
    pub(super) expiries: BTreeSet<(UnixSeconds, JobNumber, Attempt, NodeNumber)>,
    /// Nodes with a free slot, by how many leases they have.
    pub(super) free: BTreeSet<(u32, NodeNumber)>,
    /// Nodes that are not lost, by when they were heard of.
    pub(super) heard: BTreeSet<(UnixSeconds, NodeNumber)>,
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            jobs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            queue: Queue::default(),
            expiries: BTreeSet::new(),
            free: BTreeSet::new(),
            heard: BTreeSet::new(),
        }
    }

    /// Takes in one event and returns what is to be done, in order.
    ///
    /// # Errors
    /// [`Illegal`]: the event has no place here, and nothing was changed.
    pub fn apply(&mut self, now: UnixSeconds, event: Event) -> Result<Vec<Action>, Illegal> {
        let mut out = Vec::new();
        match event {
            Event::Submit { job, spec } => self.submit(now, job, spec)?,
            Event::Register { node, spec } => self.register(now, node, spec)?,
            Event::Heartbeat { node } => self.heartbeat(now, node)?,
            Event::Claim { node, job } => self.claim(now, node, job, &mut out)?,
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

    /// Where a job stands; `None` when there is none.
    pub fn job(&self, job: JobNumber) -> Option<JobStatus<'_>> {
        self.jobs.get(&job).map(Job::status)
    }

    /// How a node stands and how many leases it has; `None` when there is none.
    pub fn node(&self, node: NodeNumber) -> Option<(NodeStatus, u32)> {
        self.nodes.get(&node).map(|it| (it.status, it.active()))
    }

    /// Jobs with a place that waits for a node.
    pub const fn waiting(&self) -> usize {
        self.queue.len
    }

    /// When the next lease or node times out: a service ticks by then.
    pub fn next_timeout(&self) -> Option<UnixSeconds> {
        let lease = self.expiries.first().map(|(until, ..)| *until);
        let silence = self.settings.node_timeout.zip(self.heard.first());
        let node = silence.map(|(timeout, (heard, _))| heard.plus(u64::from(timeout)));
        // valid up to the moment itself, over after it
        lease.into_iter().chain(node).min().map(|at| at.plus(1))
    }

    fn submit(&mut self, now: UnixSeconds, job: JobNumber, spec: JobSpec) -> Result<(), Illegal> {
        let JobSpec {
            client,
            priority,
            needs,
            replicas,
            quorum,
            lease_seconds,
        } = spec;
        if self.jobs.contains_key(&job) {
            return Err(Illegal::JobExists(job));
        }
        if quorum == 0 || quorum > replicas || u16::from(quorum) * 2 <= u16::from(replicas) {
            return Err(Illegal::BadQuorum {
                job,
                replicas,
                quorum,
            });
        }
        let policy = self.settings.policy;
        let level = Level::of(now, priority, self.settings.ageing_step);
        let needs = self.queue.join_set(needs);
        let open = Open {
            waiting: replicas,
            leases: Vec::new(),
            answers: Vec::new(),
            retries_left: if policy.retries {
                self.settings.max_retries
            } else {
                0
            },
            // with one replica there is nothing to disagree with
            extra_places: if replicas > 1 { policy.extra_places } else { 0 },
            last_failure: None,
        };
        let life = Life::Open(open);
        self.jobs.insert(
            job,
            Job {
                client,
                needs,
                level,
                quorum,
                lease_seconds,
                last_attempt: None,
                life,
            },
        );
        self.queue.insert(needs, level, client, job);
        Ok(())
    }

    fn register(&mut self, now: UnixSeconds, node: NodeNumber, spec: NodeSpec) -> Result<(), Illegal> {
        if !spec.admitted {
            return Err(Illegal::NotAdmitted(node));
        }
        match self.nodes.get_mut(&node) {
            Some(known) => {
                known.spec = spec;
                // a drained node that restarts is still drained
                if known.status == NodeStatus::Lost {
                    known.status = NodeStatus::Up;
                }
            }
            None => {
                let leases = BTreeSet::new();
                self.nodes.insert(
                    node,
                    Node {
                        spec,
                        status: NodeStatus::Up,
                        heard: now,
                        listed: None,
                        leases,
                    },
                );
            }
        }
        self.hear(now, node);
        self.list(node);
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, now: UnixSeconds, node: NodeNumber) -> Result<(), Illegal> {
        let known = self.nodes.get_mut(&node).ok_or(Illegal::UnknownNode(node))?;
        if known.status == NodeStatus::Lost {
            known.status = NodeStatus::Up;
        }
        self.hear(now, node);
        self.list(node);
        Ok(())
    }

    fn set_status(&mut self, node: NodeNumber, status: NodeStatus) -> Result<(), Illegal> {
        let known = self.nodes.get_mut(&node).ok_or(Illegal::UnknownNode(node))?;
        // a lost node comes back by being heard of, not by being told
        if known.status != NodeStatus::Lost {
            known.status = status;
        }
        self.list(node);
        Ok(())
    }

    fn forget(&mut self, job: JobNumber) -> Result<(), Illegal> {
        match &self.jobs.get(&job).ok_or(Illegal::UnknownJob(job))?.life {
            Life::Open(_) => Err(Illegal::StillOpen(job)),
            Life::Ended { .. } => {
                self.jobs.remove(&job);
                Ok(())
            }
        }
    }

    /// The job, open.
    pub(super) fn open(&self, job: JobNumber) -> Result<(&Job, &Open), Illegal> {
        let known = self.jobs.get(&job).ok_or(Illegal::UnknownJob(job))?;
        known.open().map(|open| (known, open)).ok_or(Illegal::Ended(job))
    }

    /// A node was heard of.
    pub(super) fn hear(&mut self, now: UnixSeconds, node: NodeNumber) {
        if let Some(known) = self.nodes.get_mut(&node) {
            self.heard.remove(&(known.heard, node));
            known.heard = now.max(known.heard);
            if known.status != NodeStatus::Lost {
                self.heard.insert((known.heard, node));
            }
        }
    }

    /// Brings the index of free nodes up to date with a node.
    pub(super) fn list(&mut self, node: NodeNumber) {
        if let Some(known) = self.nodes.get_mut(&node) {
            if let Some(active) = known.listed.take() {
                self.free.remove(&(active, node));
            }
            if known.is_free() {
                known.listed = Some(known.active());
                self.free.insert((known.active(), node));
            }
        }
    }
}

//! Runs: leases that are carried to their nodes, each by one replica.
//!
//! A run's owner is written with the lease, in the job's row, and so is the executor's own id of the run as soon as there
//! is one: a restart, or another replica, goes on following it. What anybody says about a run counts only as long as it
//! is its own. All of that is decided behind the writer's lock, on rows; that a replica seems to be dead only moves
//! others to take its runs over.
//!
//! A replica that can't reach a node leaves its runs there to one that can. A node is lost when no living replica
//! reaches it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sandrun_core::pool::{
    Assignment as Mode, Event, Illegal, JobNumber, JobSnapshot, JobStatus, NodeNumber, NodeStatus,
};
use sandrun_store::queue::{JobState, Living, ReplicaId};
use sandrun_types::{Attempt, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::command::Requests;
use super::error::QueueError;
use super::memory::Memory;
use super::push::{Assignment, Begun, News};

/// A lease that is carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    attempt: Attempt,
    node: NodeNumber,
    until: UnixSeconds,
    /// Who carries it; nobody's where there is only one service.
    owner: Option<ReplicaId>,
    /// The executor's id of it.
    id: Option<String>,
}

/// The runs of jobs that are carried.
pub(super) type Runs = HashMap<JobNumber, Vec<Run>>;

/// This service among its replicas.
#[derive(Debug, Clone, Default)]
pub(super) struct Replicas {
    /// This one; `None` where there can be no other.
    me: Option<ReplicaId>,
    /// Who lives; empty as long as it is not known.
    living: BTreeSet<ReplicaId>,
    /// Number of the look that said so.
    look: u64,
    /// Who was seen alive before and is not any more.
    dead: BTreeSet<ReplicaId>,
    /// Whether the next look is awaited, also if it shows nothing new.
    awaits_look: Arc<AtomicBool>,
}

impl Replicas {
    pub(super) fn new(me: Option<ReplicaId>, awaits_look: Arc<AtomicBool>) -> Self {
        Self {
            me,
            awaits_look,
            ..Self::default()
        }
    }

    /// Takes a look in.
    pub(super) fn hear(&mut self, living: Living) {
        let Living { replicas, look } = living;
        self.dead.extend(self.living.difference(&replicas));
        self.dead.retain(|it| !replicas.contains(it));
        (self.living, self.look) = (replicas, look);
    }

    /// Whether a run's owner is dead. One that was never seen may just have come: two more looks decide, of which the
    /// second began after its row was read.
    fn is_dead(&self, owner: ReplicaId, strangers: &mut BTreeMap<ReplicaId, u64>) -> bool {
        if self.me == Some(owner) || self.living.contains(&owner) {
            return false;
        }
        self.dead.contains(&owner) || self.look >= *strangers.entry(owner).or_insert(self.look) + 2
    }
}

/// What a job's row holds beside the machine's part.
#[derive(Default, Deserialize)]
struct RowRuns {
    #[serde(default)]
    runs: Vec<(Attempt, String)>,
    #[serde(default)]
    owners: Vec<(Attempt, ReplicaId)>,
}

/// A job's row: the machine's part, and the runs where there are any.
#[derive(Serialize)]
struct RowWithRuns<'a> {
    #[serde(flatten)]
    machine: &'a JobSnapshot,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<(Attempt, &'a str)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owners: Vec<(Attempt, ReplicaId)>,
}

/// The executor's id of an attempt's run, from the job's row.
pub(crate) fn run_in_row(row: &[u8], attempt: Attempt) -> Option<String> {
    let RowRuns { runs, .. } = serde_json::from_slice(row).ok()?;
    runs.into_iter()
        .find(|(of, _)| *of == attempt)
        .map(|(_, run)| run)
}

impl Memory {
    /// Whether leases go to nodes without being asked for.
    pub(super) const fn pushes(&self) -> bool {
        matches!(self.settings.policy.assignment, Mode::Pushed(_))
    }

    /// A lease that nobody has claimed goes to a carrier.
    pub(super) fn push(&mut self, job: JobNumber, attempt: Attempt, node: NodeNumber, until: UnixSeconds) {
        if !self.pushes() {
            return;
        }
        let owner = self.carrier_of(node);
        self.runs.entry(job).or_default().push(Run {
            attempt,
            node,
            until,
            owner,
            id: None,
        });
        if owner == self.replicas.me {
            self.news.push(News::Give { job, attempt });
        }
    }

    /// Who carries what goes to a node: this replica if it reaches it, else one that does.
    fn carrier_of(&self, node: NodeNumber) -> Option<ReplicaId> {
        let Replicas { me, living, .. } = &self.replicas;
        let me = (*me)?;
        let Some(away) = self.nodes.away(node).filter(|it| it.contains(&me)) else {
            return Some(me);
        };
        let other = living.iter().find(|it| !away.contains(it));
        Some(other.copied().unwrap_or(me))
    }

    fn run(&self, job: JobNumber, attempt: Attempt) -> Option<&Run> {
        self.runs.get(&job)?.iter().find(|it| it.attempt == attempt)
    }

    /// Whether what the carrier here says about an attempt counts: no other replica has taken it over.
    pub(super) fn may_tell(
        &self,
        job: JobNumber,
        node: NodeNumber,
        attempt: Attempt,
    ) -> Result<(), QueueError> {
        match self.run(job, attempt) {
            Some(run) if run.owner != self.replicas.me => {
                Err(Illegal::StaleAttempt { job, node, attempt }.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The carrier here has said what came of an attempt: it needs no word about its end.
    pub(super) fn forget_run(&mut self, job: JobNumber, attempt: Attempt) {
        if let Some(runs) = self.runs.get_mut(&job) {
            runs.retain(|it| it.attempt != attempt);
            if runs.is_empty() {
                self.runs.remove(&job);
            }
        }
    }

    /// A run for its carrier, if it is still to be carried.
    pub(super) fn assignment(
        &self,
        job: JobNumber,
        attempt: Attempt,
        requests: &Requests,
    ) -> Option<Assignment> {
        let run = self.run(job, attempt)?;
        Some(Assignment {
            job,
            attempt,
            node: self.node_id(run.node).to_owned(),
            until: run.until,
            run: run.id.clone(),
            request: requests.get(&job)?.clone()?,
        })
    }

    /// Reads the runs of a row that was put in, and notes what that changes for the carrier here.
    pub(super) fn read_runs(&mut self, job: JobNumber, row: &[u8]) {
        if !self.pushes() {
            return;
        }
        let leases = match self.pool.job(job) {
            Some(JobStatus::Running(leases)) => leases,
            Some(JobStatus::Blocked | JobStatus::Queued | JobStatus::Ended(_)) | None => &[],
        };
        let RowRuns { runs, owners } = if leases.is_empty() {
            RowRuns::default()
        } else {
            serde_json::from_slice(row).unwrap_or_default()
        };
        let read = |lease: &sandrun_core::pool::Lease| {
            let owner = owners.iter().find(|(of, _)| *of == lease.attempt);
            let id = runs.iter().find(|(of, _)| *of == lease.attempt);
            Run {
                attempt: lease.attempt,
                node: lease.node,
                until: lease.until,
                owner: owner.map(|(_, owner)| *owner),
                id: id.map(|(_, id)| id.clone()),
            }
        };
        let now: Vec<Run> = leases.iter().map(read).collect();
        let before = self.runs.remove(&job).unwrap_or_default();
        if !self.is_fresh {
            self.note_change(job, &before, &now);
        }
        if !now.is_empty() {
            self.runs.insert(job, now);
        }
    }

    /// What another replica's row means for the carrier here.
    fn note_change(&mut self, job: JobNumber, before: &[Run], now: &[Run]) {
        let me = self.replicas.me;
        for run in before.iter().filter(|it| it.owner == me) {
            let attempt = run.attempt;
            match now.iter().find(|it| it.attempt == attempt) {
                None => self.news.push(News::Stop { job, attempt }),
                Some(now) if now.owner != me => self.news.push(News::Leave { job, attempt }),
                Some(_) => {}
            }
        }
        for run in now.iter().filter(|it| it.owner == me) {
            let attempt = run.attempt;
            if !before.iter().any(|it| it.attempt == attempt && it.owner == me) {
                self.news.push(News::Give { job, attempt });
            }
        }
    }

    /// Everything that this replica carries goes to the carrier once more, in the first batch after a load.
    pub(super) fn push_all(&mut self) {
        if !std::mem::take(&mut self.is_fresh) || !self.pushes() {
            return;
        }
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (job, runs) in &self.runs {
            for run in runs {
                let is_own = run.owner == self.replicas.me;
                let list = if is_own { &mut own } else { &mut others };
                list.insert((*job, run.attempt));
            }
        }
        let give = own.iter().map(|(job, attempt)| News::Give {
            job: *job,
            attempt: *attempt,
        });
        let give: Vec<News> = give.collect();
        self.news.clear();
        self.news.push(News::Anew { own, others });
        self.news.extend(give);
    }

    /// Puts the runs of a job's attempts into its row; those of attempts that are over are forgotten, and the carrier
    /// here is told to end them.
    pub(super) fn add_runs(&mut self, row: &mut JobState) {
        let job = row.number;
        let Some(mut runs) = self.runs.remove(&job) else {
            return;
        };
        let leases = match self.pool.job(job) {
            Some(JobStatus::Running(leases)) => leases,
            Some(JobStatus::Blocked | JobStatus::Queued | JobStatus::Ended(_)) | None => &[],
        };
        let (me, news) = (self.replicas.me, &mut self.news);
        runs.retain(|run| {
            let attempt = run.attempt;
            let is_held = leases.iter().any(|lease| lease.attempt == attempt);
            if !is_held && run.owner == me {
                news.push(News::Stop { job, attempt });
            }
            is_held
        });
        if runs.iter().any(|it| it.owner.is_some() || it.id.is_some())
            && let Some(machine) = &self.pool.job_snapshot(job)
        {
            let ids = runs.iter().filter_map(|it| Some((it.attempt, it.id.as_deref()?)));
            let owners = runs.iter().filter_map(|it| Some((it.attempt, it.owner?)));
            let with_runs = RowWithRuns {
                machine,
                runs: ids.collect(),
                owners: owners.collect(),
            };
            if let Ok(bytes) = serde_json::to_vec(&with_runs) {
                row.snapshot = bytes;
            }
        }
        if !runs.is_empty() {
            self.runs.insert(job, runs);
        }
    }

    /// A node's executor has taken an attempt.
    pub(super) fn begin(&mut self, begun: Begun, batch: &mut Batch) -> Result<(), QueueError> {
        let node = self.nodes.number(&begun.node)?;
        let (job, attempt) = (begun.job, begun.attempt);
        if self.held(job, node).map(|(held, _)| held) != Some(attempt) {
            return Err(Illegal::StaleAttempt { job, node, attempt }.into());
        }
        self.may_tell(job, node, attempt)?;
        let runs = self.runs.entry(job).or_default();
        if let Some(run) = runs.iter_mut().find(|it| it.attempt == attempt) {
            run.id = Some(begun.run);
            self.changed.insert(job);
        }
        self.apply(Event::Started { job, node, attempt }, batch)
    }

    /// This replica can't reach a node, or is not to: others carry what it has, or it is lost.
    pub(super) fn lose(&mut self, node: &str, batch: &mut Batch) -> Result<(), QueueError> {
        let node = self.nodes.number(node)?;
        let Some(me) = self.replicas.me else {
            return self.lose_now(node, batch);
        };
        self.nodes.set_away(node, me, &self.replicas.living);
        let carrier = self.carrier_of(node);
        if carrier == Some(me) {
            // nobody reaches it: it is lost with this batch
            return Ok(());
        }
        for (job, runs) in &mut self.runs {
            for run in runs
                .iter_mut()
                .filter(|it| it.node == node && it.owner == Some(me))
            {
                run.owner = carrier;
                self.changed.insert(*job);
                self.news.push(News::Leave {
                    job: *job,
                    attempt: run.attempt,
                });
            }
        }
        Ok(())
    }

    /// Another replica can't reach a node: the carrier here looks at it, if this one could.
    pub(super) fn doubt(&mut self, node: NodeNumber) {
        let away = self.nodes.away(node);
        let could = |me| away.is_some_and(|it| !it.contains(&me));
        if self.pushes() && self.replicas.me.is_some_and(could) {
            self.news.push(News::Check(node));
        }
    }

    /// This replica reaches a node.
    pub(super) fn reach(&mut self, node: NodeNumber) {
        if let Some(me) = self.replicas.me {
            self.nodes.set_near(node, me);
        }
    }

    fn lose_now(&mut self, node: NodeNumber, batch: &mut Batch) -> Result<(), QueueError> {
        let status = self.pool.node(node).map(|(status, _)| status);
        if status == Some(NodeStatus::Lost) {
            return Ok(());
        }
        batch.tally.nodes_lost += 1;
        self.apply(Event::Lost { node }, batch)
    }

    /// Takes the runs of dead replicas over, and loses the nodes that no living one reaches.
    pub(super) fn heed_replicas(&mut self, batch: &mut Batch) {
        let replicas = &self.replicas;
        // as long as nobody has said who lives, nobody is dead
        let is_known = self.pushes() && !replicas.living.is_empty();
        let Some(me) = replicas.me.filter(|_| is_known) else {
            return;
        };
        let mut orphans = Vec::new();
        let mut strangers = BTreeMap::new();
        for (job, runs) in &self.runs {
            for run in runs {
                let is_dead = run.owner.is_none_or(|it| {
                    if let Some(since) = self.strangers.get(&it) {
                        strangers.insert(it, *since);
                    }
                    replicas.is_dead(it, &mut strangers)
                });
                if is_dead {
                    orphans.push((*job, run.attempt, run.node));
                }
            }
        }
        replicas
            .awaits_look
            .store(!strangers.is_empty(), Ordering::Relaxed);
        self.strangers = strangers;
        if !orphans.is_empty() {
            tracing::info!(runs = orphans.len(), replica = %me, "takes over what a dead replica carried");
        }
        for (job, attempt, node) in orphans {
            let owner = self.carrier_of(node);
            let runs = self.runs.get_mut(&job).into_iter().flatten();
            for run in runs.filter(|it| it.attempt == attempt) {
                run.owner = owner;
            }
            self.changed.insert(job);
            if owner == Some(me) {
                self.news.push(News::Give { job, attempt });
            }
        }
        for node in self.nodes.out_of_reach(me, &self.replicas.living) {
            if let Err(error) = self.lose_now(node, batch) {
                tracing::debug!(%error, "a node that nobody reaches");
            }
        }
    }

    /// Jobs that the carrier here is about to be given: their requests are needed.
    pub(super) fn given(&self) -> impl Iterator<Item = JobNumber> {
        self.news.iter().filter_map(|news| match news {
            News::Give { job, .. } => Some(*job),
            News::Stop { .. } | News::Leave { .. } | News::Anew { .. } | News::Check(_) => None,
        })
    }
}

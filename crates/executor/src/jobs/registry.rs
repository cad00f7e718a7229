//! Every job that the executor knows, the queue, and every client's use: one state, one `apply`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use thiserror::Error;

use super::phase::{IllegalStep, Phase, PhaseName, Step, Verdict};
use super::quota::{ClientUse, QuotaRefusal, QuotaRules, QuotaView};
use super::{Moment, Retention};
use crate::id::RunId;

/// What the registry decides by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) parallel: NonZeroU32,
    pub(crate) max_queued: usize,
    pub(crate) quota: Option<QuotaRules>,
    pub(crate) retention: Retention,
    /// Bytes that the data of ended jobs may take together; the oldest ones' goes first.
    pub(crate) kept_bytes: u64,
}

/// What happened. `J` is what a job brings along, `R` what its run leaves behind.
#[derive(Clone, Debug)]
pub(crate) enum Event<J, R> {
    /// A client's upload is complete and checked.
    Submitted { id: RunId, client: IpAddr, job: J },
    /// A run ended, after this much CPU time.
    Finished {
        id: RunId,
        verdict: Verdict,
        cpu: Duration,
        /// Bytes of its data that stay on disk.
        bytes: u64,
        report: R,
    },
    /// All outputs were sent.
    Delivered { id: RunId },
    /// All that there is was sent, and nobody will ask for the job again.
    Discarded { id: RunId },
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run this job.
    Start(RunId),
    /// Delete this job's files.
    DeleteData(RunId),
}

/// An event that cannot be applied; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RegistryError {
    #[error("there is no job {0}")]
    Unknown(RunId),
    #[error("there is a job {0} already")]
    Known(RunId),
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
    #[error(transparent)]
    OverQuota(#[from] QuotaRefusal),
    #[error("{0} jobs are waiting already; try again later")]
    QueueFull(usize),
}

/// One job.
#[derive(Clone, Debug)]
struct Known<J, R> {
    client: IpAddr,
    job: J,
    phase: Phase<R>,
}

/// The whole state. See the module doc.
#[derive(Debug)]
pub(crate) struct Registry<J, R> {
    rules: Rules,
    jobs: BTreeMap<RunId, Known<J, R>>,
    /// When each ended job is to be forgotten: at thousands of jobs an hour nobody can look at all of them each time.
    expiries: BTreeSet<(Moment, RunId)>,
    /// What the data of each job takes that has ended and was not delivered, by when it ended.
    kept: BTreeMap<(Moment, RunId), u64>,
    /// All of `kept` together.
    kept_bytes: u64,
    queue: VecDeque<RunId>,
    running: usize,
    clients: HashMap<IpAddr, ClientUse>,
}

impl<J, R> Registry<J, R> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            jobs: BTreeMap::new(),
            expiries: BTreeSet::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            queue: VecDeque::new(),
            running: 0,
            clients: HashMap::new(),
        }
    }

    /// Applies one event. Actions are in the order in which they are to be performed.
    pub(crate) fn apply(&mut self, now: Moment, event: Event<J, R>) -> Result<Vec<Action>, RegistryError> {
        let mut actions = match event {
            Event::Submitted { id, client, job } => self.submitted(now, id, client, job)?,
            Event::Finished {
                id,
                verdict,
                cpu,
                bytes,
                report,
            } => {
                self.finished(now, id, verdict, cpu, report)?;
                self.keep(now, id, bytes)
            }
            Event::Delivered { id } => self.delivered(id)?,
            Event::Discarded { id } => self.discarded(id)?,
            Event::Tick => Vec::new(),
        };
        actions.extend(self.forget_old(now));
        actions.extend(self.fill_slots());
        Ok(actions)
    }

    /// Whether a client may submit now.
    pub(crate) fn may_submit(&self, now: Moment, client: IpAddr) -> Result<(), RegistryError> {
        if self.queue.len() >= self.rules.max_queued {
            return Err(RegistryError::QueueFull(self.queue.len()));
        }
        let Some(rules) = &self.rules.quota else {
            return Ok(());
        };
        Ok(self
            .clients
            .get(&client)
            .map_or(Ok(()), |used| used.check(now, rules))?)
    }

    fn submitted(
        &mut self,
        now: Moment,
        id: RunId,
        client: IpAddr,
        job: J,
    ) -> Result<Vec<Action>, RegistryError> {
        if self.jobs.contains_key(&id) {
            return Err(RegistryError::Known(id));
        }
        self.may_submit(now, client)?;
        self.clients.entry(client).or_default().accept(now);
        self.jobs.insert(
            id,
            Known {
                client,
                job,
                phase: Phase::Queued,
            },
        );
        self.queue.push_back(id);
        Ok(Vec::new())
    }

    fn finished(
        &mut self,
        now: Moment,
        id: RunId,
        verdict: Verdict,
        cpu: Duration,
        report: R,
    ) -> Result<(), RegistryError> {
        let known = self.jobs.get_mut(&id).ok_or(RegistryError::Unknown(id))?;
        known.phase.name().after(Step::Finish)?;
        if known.phase.name() == PhaseName::Running {
            self.running -= 1;
        }
        self.queue.retain(|queued| *queued != id);
        let client = known.client;
        known.phase = Phase::Ended {
            at: now,
            verdict,
            report,
        };
        self.expiries.insert((self.expiry(now, verdict), id));
        self.clients.entry(client).or_default().finish(now, cpu);
        Ok(())
    }

    /// Counts what a job keeps, and makes room for it: the data of the jobs that ended first goes.
    fn keep(&mut self, now: Moment, id: RunId, bytes: u64) -> Vec<Action> {
        self.kept.insert((now, id), bytes);
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        let mut actions = Vec::new();
        while self.kept_bytes > self.rules.kept_bytes
            && let Some((&(ended, oldest), _)) = self.kept.first_key_value()
            && oldest != id
        {
            self.keep_no_more(ended, oldest);
            actions.extend(self.delivered(oldest).unwrap_or_default());
        }
        actions
    }

    fn keep_no_more(&mut self, ended: Moment, id: RunId) {
        if let Some(bytes) = self.kept.remove(&(ended, id)) {
            self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
        }
    }

    /// Forgets an ended job; its data goes with what it brought along.
    fn discarded(&mut self, id: RunId) -> Result<Vec<Action>, RegistryError> {
        let known = self.jobs.get(&id).ok_or(RegistryError::Unknown(id))?;
        let (at, verdict) = match &known.phase {
            Phase::Ended { at, verdict, .. } | Phase::Delivered { at, verdict, .. } => (*at, *verdict),
            Phase::Queued | Phase::Running => {
                let (from, step) = (known.phase.name(), Step::Deliver);
                return Err(IllegalStep { from, step }.into());
            }
        };
        self.expiries.remove(&(self.expiry(at, verdict), id));
        self.keep_no_more(at, id);
        self.jobs.remove(&id);
        Ok(Vec::new())
    }

    fn delivered(&mut self, id: RunId) -> Result<Vec<Action>, RegistryError> {
        let known = self.jobs.get_mut(&id).ok_or(RegistryError::Unknown(id))?;
        known.phase.name().after(Step::Deliver)?;
        // Queued stands in for a moment: a phase is moved out of whole.
        match std::mem::replace(&mut known.phase, Phase::Queued) {
            Phase::Ended { at, verdict, report } => {
                known.phase = Phase::Delivered { at, verdict, report };
                self.keep_no_more(at, id);
            }
            other @ (Phase::Queued | Phase::Running | Phase::Delivered { .. }) => known.phase = other,
        }
        Ok(vec![Action::DeleteData(id)])
    }

    /// When a job that ends now is to be forgotten.
    fn expiry(&self, now: Moment, verdict: Verdict) -> Moment {
        match verdict {
            Verdict::Completed => now + self.rules.retention.completed,
            Verdict::Failed => now + self.rules.retention.failed,
        }
    }

    fn forget_old(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((at, id)) = self.expiries.first().copied()
            && at <= now
        {
            self.expiries.remove(&(at, id));
            if let Some(known) = self.jobs.remove(&id)
                && let Phase::Ended { at, .. } = known.phase
            {
                self.keep_no_more(at, id);
            }
            actions.push(Action::DeleteData(id));
        }
        self.clients.retain(|_, used| !used.forget_old(now));
        actions
    }

    fn fill_slots(&mut self) -> Vec<Action> {
        let slots = usize::try_from(self.rules.parallel.get()).unwrap_or(usize::MAX);
        let mut actions = Vec::new();
        while self.running < slots {
            let Some(id) = self.queue.pop_front() else { break };
            let Some(known) = self.jobs.get_mut(&id) else {
                continue;
            };
            if known.phase.name().after(Step::Start).is_ok() {
                known.phase = Phase::Running;
                self.running += 1;
                actions.push(Action::Start(id));
            }
        }
        actions
    }

    /// When the next `Tick` has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// A job's own data, its phase, and its place in the queue (1 is next, 0 waits no more).
    pub(crate) fn job(&self, id: RunId) -> Option<(&J, &Phase<R>, usize)> {
        let known = self.jobs.get(&id)?;
        let position = self
            .queue
            .iter()
            .position(|queued| *queued == id)
            .map_or(0, |at| at + 1);
        Some((&known.job, &known.phase, position))
    }

    /// Every job that waits or runs; waiting ones first, so that ending all in this order starts none of them.
    pub(crate) fn active(&self) -> Vec<RunId> {
        let queued = self.queue.iter().rev().copied();
        let running = self
            .jobs
            .iter()
            .filter(|(_, known)| known.phase.name() == PhaseName::Running);
        queued.chain(running.map(|(id, _)| *id)).collect()
    }

    /// Jobs waiting and jobs running.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.queue.len(), self.running)
    }

    /// Jobs that have ended and are remembered.
    pub(crate) fn ended(&self) -> usize {
        self.jobs.len().saturating_sub(self.queue.len() + self.running)
    }

    /// Bytes that the data of ended jobs takes.
    pub(crate) const fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// A client's use.
    pub(crate) fn quota_view(&self, now: Moment, client: IpAddr) -> QuotaView {
        let nothing = ClientUse::default();
        self.clients
            .get(&client)
            .unwrap_or(&nothing)
            .view(now, self.rules.quota.as_ref())
    }

    /// Every relation that must hold between events; for tests.
    #[cfg(test)]
    fn sanity_check(&self) {
        let count = |name| {
            self.jobs
                .values()
                .filter(|known| known.phase.name() == name)
                .count()
        };
        assert_eq!(self.running, count(PhaseName::Running));
        assert_eq!(self.queue.len(), count(PhaseName::Queued));
        assert!(self.running <= self.rules.parallel.get() as usize);
        assert!(
            self.running == self.rules.parallel.get() as usize || self.queue.is_empty(),
            "a slot is idle"
        );
        for id in &self.queue {
            assert_eq!(self.jobs[id].phase.name(), PhaseName::Queued);
        }
        assert_eq!(self.kept.len(), count(PhaseName::Ended));
        assert_eq!(self.kept_bytes, self.kept.values().sum::<u64>());
        assert!(self.kept.len() <= 1 || self.kept.values().sum::<u64>() <= self.rules.kept_bytes);
        let ended = count(PhaseName::Ended) + count(PhaseName::Delivered);
        assert_eq!(self.expiries.len(), ended);
        assert!(self.expiries.iter().all(|(_, id)| self.jobs.contains_key(id)));
        let active: u32 = self.clients.values().map(ClientUse::active).sum();
        assert_eq!(active as usize, self.running + self.queue.len());
    }
}

#[cfg(test)]
mod tests;

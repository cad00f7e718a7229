//! A replica of the service: the machine in memory, one transaction for each batch of calls, answers after the commit.

use std::collections::BTreeSet;

use sandrun_core::pool::{
    Action, ClaimNumber, Event, Illegal, JobNumber, JobSpec, NodeNumber, Pool, Settings, Touched,
};
use sandrun_types::UnixSeconds;

use crate::violation::{Known as _, Violation, promise, promise_eq};

use super::call::{Answer, Call, Key, LeaseId};
use super::ledger::Ledger;
use super::store::{Store, Writes};

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is written and answered.
    Well,
    /// The disk refuses it; the process goes on.
    Unwritten,
    /// The process is killed before the commit.
    KilledBefore,
    /// The process is killed after the commit and before the answers.
    KilledAfter,
}

/// One of the processes that serve.
#[derive(Debug)]
pub(crate) struct Replica {
    settings: Settings,
    /// Seconds that its clock is ahead.
    pub(crate) skew: u64,
    /// `None` until it is loaded.
    pool: Option<Pool>,
    /// The latest commit that it has taken in.
    seen: u64,
    /// Until when it is down.
    pub(crate) down_until: u64,
    /// Nothing times out before this: after a start nobody could be heard for a while.
    patient_until: u64,
}

/// A batch while it is applied.
#[derive(Debug, Default)]
struct Batch {
    answers: Vec<Answer>,
    actions: Vec<Action>,
    writes: Writes,
}

impl Replica {
    pub(crate) const fn new(settings: Settings, skew: u64) -> Self {
        Self {
            settings,
            skew,
            pool: None,
            seen: 0,
            down_until: 0,
            patient_until: 0,
        }
    }

    pub(crate) const fn is_up(&self, now: u64) -> bool {
        self.down_until <= now
    }

    /// Whether something may have timed out, or has to be loaded first.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let due = |pool: &Pool| pool.next_timeout().is_some_and(|at| at.0 <= now + self.skew);
        self.pool.as_ref().is_none_or(due)
    }

    /// kill -9, and a start later.
    pub(crate) fn kill(&mut self, until: u64) {
        self.pool = None;
        self.down_until = until;
        self.patient_until = until + self.skew + 10;
    }

    /// Takes in a batch of calls; the answers that leave the process.
    pub(crate) fn serve(
        &mut self,
        now: u64,
        calls: &[Call],
        fate: Fate,
        store: &mut Store,
        ledger: &mut Ledger,
    ) -> Result<Vec<Answer>, Violation> {
        let now = now + self.skew;
        let mut pool = self.memory(store)?;
        let mut borrowed = BTreeSet::new();
        for job in calls.iter().flat_map(Call::jobs) {
            if pool.job(job).is_none()
                && let Some(row) = store.jobs.get(&job)
            {
                pool.put_job(job, row.read());
                borrowed.insert(job);
            }
        }
        let mut batch = Batch::default();
        for call in calls {
            take(&mut pool, now, call, store, ledger, &mut batch)?;
        }
        if now >= self.patient_until {
            let actions = apply(&mut pool, now, Event::Tick, ledger)?.known()?;
            perform(actions, &mut batch);
        }
        let Touched { jobs, nodes } = pool.take_touched();
        for job in jobs {
            batch.writes.jobs.insert(job, pool.job_snapshot(job).known()?);
        }
        for node in nodes {
            batch.writes.nodes.insert(node, pool.node_snapshot(node).known()?);
        }
        match fate {
            Fate::Unwritten | Fate::KilledBefore => return Ok(vec![]),
            Fate::Well | Fate::KilledAfter => {}
        }
        borrowed.extend(batch.writes.jobs.keys());
        ledger.look_at(now, &self.settings, store, &batch.writes, &batch.actions)?;
        store.write(batch.writes);
        for job in borrowed {
            pool.drop_job(job);
        }
        ledger.compare(store, &pool)?;
        self.seen = store.commits;
        self.pool = Some(pool);
        if fate == Fate::KilledAfter {
            return Ok(vec![]);
        }
        Ok(batch.answers)
    }

    /// What it knows, with what others have written since.
    fn memory(&mut self, store: &Store) -> Result<Pool, Violation> {
        let (mut pool, seen) = match self.pool.take() {
            Some(pool) => (pool, self.seen),
            None => (Pool::new(self.settings), 0),
        };
        for (node, row) in &store.nodes {
            if row.changed > seen {
                pool.put_node(*node, row.read());
            }
        }
        let mut ended = vec![];
        for (job, row) in &store.jobs {
            // a fresh process loads what is open alone
            let is_open = store.is_open(*job);
            if row.changed > seen && (is_open || seen > 0) {
                pool.put_job(*job, row.read());
                ended.extend((!is_open).then_some(*job));
            }
        }
        for parent in pool.missing_parents() {
            pool.put_job(parent, store.jobs.get(&parent).known()?.read());
            ended.push(parent);
        }
        // they count at the next tick, in memory or not
        for job in ended {
            pool.drop_job(job);
        }
        promise_eq!(
            pool.take_touched(),
            Touched::default(),
            "reading changes something"
        );
        Ok(pool)
    }
}

/// An event, with the whole state checked after it.
fn apply(
    pool: &mut Pool,
    now: u64,
    event: Event,
    ledger: &mut Ledger,
) -> Result<Result<Vec<Action>, Illegal>, Violation> {
    ledger.steps += 1;
    let actions = match pool.apply(UnixSeconds(now), event.clone()) {
        Ok(actions) => actions,
        Err(illegal) => return Ok(Err(illegal)),
    };
    // most claims find nothing, and change nothing
    let is_idle = matches!(actions.as_slice(), [Action::NoWork { .. }]);
    if !is_idle && let Err(defect) = pool.sanity_check() {
        return Err(Violation::new(format!("after {event:?}: {defect}")));
    }
    ledger.check_places(pool, &actions)?;
    Ok(Ok(actions))
}

/// One call.
fn take(
    pool: &mut Pool,
    now: u64,
    call: &Call,
    store: &Store,
    ledger: &mut Ledger,
    batch: &mut Batch,
) -> Result<(), Violation> {
    let outcome = match event(call) {
        Some(event) => apply(pool, now, event, ledger)?,
        None => {
            let Call::Submit { key, spec } = call else {
                return Ok(());
            };
            return submit(pool, now, *key, spec, store, ledger, batch);
        }
    };
    if let (Call::Claim { claim, .. }, Ok(actions)) = (call, &outcome) {
        hand(pool, now, *claim, actions, ledger, batch)?;
    }
    let is_claim = matches!(call, Call::Claim { .. });
    let told = answer(call, outcome.as_ref().map(|_| ()).map_err(|error| *error))?;
    let actions = outcome.unwrap_or_default();
    if !is_claim {
        tell(&actions, batch);
    }
    batch.actions.extend(actions);
    batch.answers.extend(told);
    Ok(())
}

fn submit(
    pool: &mut Pool,
    now: u64,
    key: Key,
    spec: &JobSpec,
    store: &Store,
    ledger: &mut Ledger,
    batch: &mut Batch,
) -> Result<(), Violation> {
    let known = store.keys.get(&key).or_else(|| batch.writes.keys.get(&key));
    let job = match known {
        Some(job) => *job,
        None => {
            let count = store.specs.len() + batch.writes.specs.len();
            let job = JobNumber(1 + u64::try_from(count).known()?);
            let event = Event::Submit {
                job,
                spec: spec.clone(),
            };
            // parents were acknowledged, so they are there
            perform(apply(pool, now, event, ledger)?.known()?, batch);
            batch.writes.keys.insert(key, job);
            batch.writes.specs.insert(job, spec.clone());
            job
        }
    };
    batch.answers.push(Answer::Accepted { key, job });
    Ok(())
}

/// The answer to a claim: the lease is noted as handed out in it.
fn hand(
    pool: &mut Pool,
    now: u64,
    claim: Option<ClaimNumber>,
    actions: &[Action],
    ledger: &mut Ledger,
    batch: &mut Batch,
) -> Result<(), Violation> {
    for action in actions {
        let answer = match *action {
            Action::Lease {
                job,
                node,
                attempt,
                until,
                ..
            } => {
                if let Some(claim) = claim {
                    let handed = Event::Handed {
                        job,
                        node,
                        attempt,
                        claim,
                    };
                    let done = apply(pool, now, handed, ledger)?;
                    promise_eq!(done, Ok(vec![]), "handing a lease out does something");
                }
                let lease = LeaseId { job, node, attempt };
                Answer::Leased { lease, until, claim }
            }
            Action::NoWork { node } => Answer::NoWork { node, claim },
            Action::Stop { .. }
            | Action::Retry { .. }
            | Action::ExtraPlaces { .. }
            | Action::End { .. }
            | Action::NodeLost { .. } => continue,
        };
        batch.answers.push(answer);
    }
    Ok(())
}

/// The event that a call means; none for a submission.
fn event(call: &Call) -> Option<Event> {
    Some(match call {
        Call::Submit { .. } => return None,
        Call::Cancel { job } => Event::Cancel { job: *job },
        Call::Register { node, spec } => Event::Register {
            node: *node,
            spec: spec.clone(),
        },
        Call::Heartbeat { node } => Event::Heartbeat { node: *node },
        Call::Claim { node, .. } => Event::Claim {
            node: *node,
            job: None,
        },
        Call::Holds { node, settled, held } => Event::Holds {
            node: *node,
            settled: *settled,
            held: held.clone(),
        },
        Call::Started(LeaseId { job, node, attempt }) => Event::Started {
            job: *job,
            node: *node,
            attempt: *attempt,
        },
        Call::Answered { lease, report } => Event::Answered {
            job: lease.job,
            node: lease.node,
            attempt: lease.attempt,
            report: *report,
        },
        Call::Failed { lease, retry } => Event::Failed {
            job: lease.job,
            node: lease.node,
            attempt: lease.attempt,
            retry: *retry,
        },
        Call::Lost { node } => Event::Lost { node: *node },
        Call::Drain { node } => Event::Drain { node: *node },
        Call::Resume { node } => Event::Resume { node: *node },
    })
}

/// What the caller is told.
fn answer(call: &Call, outcome: Result<(), Illegal>) -> Result<Option<Answer>, Violation> {
    let of_node = |node: NodeNumber| match outcome {
        Ok(()) => Answer::Known { node },
        Err(_) => Answer::Unknown { node },
    };
    Ok(match call {
        Call::Cancel { job } => Some(match outcome {
            Ok(()) => Answer::Cancelled { job: *job },
            Err(error) => {
                promise!(matches!(error, Illegal::Ended(_)), "{error}");
                Answer::Over { job: *job }
            }
        }),
        Call::Register { node, .. } | Call::Heartbeat { node } => Some(of_node(*node)),
        Call::Claim { node, .. } | Call::Holds { node, .. } => {
            outcome.err().map(|_| Answer::Unknown { node: *node })
        }
        Call::Answered { lease, .. } | Call::Failed { lease, .. } => Some(match outcome {
            Ok(()) => Answer::Counted(*lease),
            Err(error) => {
                promise!(matches!(error, Illegal::StaleAttempt { .. }), "{error}");
                Answer::Stale(*lease)
            }
        }),
        Call::Submit { .. }
        | Call::Started(_)
        | Call::Lost { .. }
        | Call::Drain { .. }
        | Call::Resume { .. } => None,
    })
}

fn perform(actions: Vec<Action>, batch: &mut Batch) {
    tell(&actions, batch);
    batch.actions.extend(actions);
}

/// What has to be said because of actions.
fn tell(actions: &[Action], batch: &mut Batch) {
    for action in actions {
        match *action {
            Action::Lease {
                job,
                node,
                attempt,
                until,
                ..
            } => {
                let lease = LeaseId { job, node, attempt };
                let claim = None;
                batch.answers.push(Answer::Leased { lease, until, claim });
            }
            Action::Stop { job, node, attempt } => {
                batch.answers.push(Answer::Stop(LeaseId { job, node, attempt }));
            }
            Action::NoWork { .. }
            | Action::Retry { .. }
            | Action::ExtraPlaces { .. }
            | Action::End { .. }
            | Action::NodeLost { .. } => {}
        }
    }
}

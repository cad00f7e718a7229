//! Leases on their way: each is carried to its worker by a task of its own, until it is answered or nobody needs it.

use std::collections::{BTreeSet, HashMap};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandrun_core::pool::JobNumber;
use sandrun_types::Attempt;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::attempt::{Trip, Trouble};
use super::fleet::Fleet;
use super::pace::after_refusal;
use super::worker::Worker;
use crate::queue::{Assignment, Completion, Failure, Push, QueueError};

/// Longest wait for a worker to end a run that nobody needs any more.
const CANCEL: Duration = Duration::from_secs(5);
/// Longest wait for the id of a run that was just submitted and is to be ended. An upload that is still under way by then
/// is cut off: its executor begins nothing.
const BEGINNING: Duration = Duration::from_secs(30);
/// Pause before an answer is told to the queue again that could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// A lease that is carried.
#[derive(Debug)]
pub(super) struct Load {
    node: String,
    /// Nobody needs it any more.
    over: CancellationToken,
    /// Another replica carries it from now on.
    left: CancellationToken,
    run: Mutex<Option<String>>,
    /// It is being submitted: the worker may have begun a run whose id it has not said yet.
    is_submitted: AtomicBool,
    begun: Notify,
    status: Mutex<Option<Value>>,
}

impl Load {
    pub(super) fn set_run(&self, run: &str) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.to_owned());
        self.begun.notify_one();
    }

    pub(super) fn set_submitted(&self) {
        self.is_submitted.store(true, Ordering::Relaxed);
    }

    fn run(&self) -> Option<String> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_status(&self, status: Value) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

/// Everything that is carried now.
#[derive(Debug, Default)]
pub(super) struct Carried(Mutex<HashMap<(JobNumber, Attempt), Arc<Load>>>);

impl Carried {
    fn lock(&self) -> MutexGuard<'_, HashMap<(JobNumber, Attempt), Arc<Load>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to carry a lease; `None` where it is carried already.
    fn add(&self, assignment: &Assignment) -> Option<Arc<Load>> {
        let mut loads = self.lock();
        let key = (assignment.job, assignment.attempt);
        if loads.contains_key(&key) {
            return None;
        }
        let load = Arc::new(Load {
            node: assignment.node.clone(),
            over: CancellationToken::new(),
            left: CancellationToken::new(),
            run: Mutex::new(assignment.run.clone()),
            is_submitted: AtomicBool::new(false),
            begun: Notify::new(),
            status: Mutex::new(None),
        });
        loads.insert(key, Arc::clone(&load));
        Some(load)
    }

    /// Takes out a load that is carried no more; another one in its place stays.
    fn remove(&self, key: (JobNumber, Attempt), load: &Arc<Load>) {
        let mut loads = self.lock();
        if loads.get(&key).is_some_and(|it| Arc::ptr_eq(it, load)) {
            loads.remove(&key);
        }
    }

    fn stop(&self, job: JobNumber, attempt: Attempt) {
        if let Some(load) = self.lock().get(&(job, attempt)) {
            load.over.cancel();
        }
    }

    /// Lets go of a load at once, so that it may come back: another replica carries it.
    fn leave(&self, job: JobNumber, attempt: Attempt) {
        if let Some(load) = self.lock().remove(&(job, attempt)) {
            load.left.cancel();
        }
    }

    /// Goes on with `own` alone: what others carry is left to them, the rest is not needed any more.
    fn keep(&self, own: &BTreeSet<(JobNumber, Attempt)>, others: &BTreeSet<(JobNumber, Attempt)>) {
        let carried: Vec<(JobNumber, Attempt)> = self.lock().keys().copied().collect();
        for (job, attempt) in carried {
            if others.contains(&(job, attempt)) {
                self.leave(job, attempt);
            } else if !own.contains(&(job, attempt)) {
                self.stop(job, attempt);
            }
        }
    }

    /// Whether anything is carried to this node.
    pub(super) fn has(&self, node: &str) -> bool {
        self.lock().values().any(|it| it.node == node)
    }

    /// What the worker said last about an attempt that runs.
    pub(super) fn status(&self, job: JobNumber, attempt: Attempt) -> Option<Value> {
        let load = self.lock().get(&(job, attempt)).cloned()?;
        let status = load.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }
}

/// Takes leases until the service ends.
pub(super) async fn carry_all(fleet: Arc<Fleet>, mut pushes: UnboundedReceiver<Push>) {
    let shutdown = fleet.app.shutdown.clone();
    loop {
        let push = tokio::select! {
            push = pushes.recv() => push,
            () = shutdown.cancelled() => None,
        };
        match push {
            Some(Push::Give(assignment)) => {
                if let Some(load) = fleet.carried.add(&assignment) {
                    let job = fleet.app.queue.ids().job_id(assignment.job);
                    let (attempt, node) = (assignment.attempt.0, &assignment.node);
                    let span = tracing::info_span!("job", job, attempt, node);
                    let task = carry(Arc::clone(&fleet), *assignment, load);
                    fleet.tasks.spawn(task.instrument(span));
                }
            }
            Some(Push::Stop { job, attempt }) => fleet.carried.stop(job, attempt),
            Some(Push::Leave { job, attempt }) => fleet.carried.leave(job, attempt),
            Some(Push::Anew { own, others }) => fleet.carried.keep(&own, &others),
            Some(Push::Check { node }) => {
                if let Some(worker) = fleet.known(&node) {
                    worker.hurry.notify_one();
                }
            }
            None => break,
        }
    }
}

/// Carries one lease to its end.
async fn carry(fleet: Arc<Fleet>, assignment: Assignment, load: Arc<Load>) {
    let key = (assignment.job, assignment.attempt);
    match fleet.worker(&assignment.node).await {
        Some(worker) => to(&fleet, &worker, assignment, &load).await,
        // it was on the list of an earlier run, or is on another replica's: not from here
        None => {
            tracing::debug!("the lease is of a worker that is not on the list");
            if let Err(error) = fleet.app.queue.lose(assignment.node).await {
                tracing::warn!(%error, "the queue could not be told of a worker that is not on the list");
            }
        }
    }
    fleet.carried.remove(key, &load);
}

async fn to(fleet: &Arc<Fleet>, worker: &Arc<Worker>, assignment: Assignment, load: &Arc<Load>) {
    if worker.standing().health.is_none() {
        fleet.check(worker).await;
    }
    if !worker.is_healthy() {
        // its leases went to others by that
        return;
    }
    let now = fleet.app.queue.clock().now();
    let left = assignment
        .until
        .0
        .saturating_add(1)
        .saturating_mul(1_000)
        .saturating_sub(now);
    let trip = Trip {
        fleet: Arc::clone(fleet),
        worker: Arc::clone(worker),
        assignment,
        load: Arc::clone(load),
    };
    let mut going = pin!(async { report(&trip, trip.go().await).await });
    tokio::select! {
        () = &mut going => return,
        // the run goes on: the next start finds it
        () = fleet.app.shutdown.cancelled() => return,
        () = load.left.cancelled() => return,
        () = load.over.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(left)) => {}
    }
    await_run(load, going).await;
    cancel(worker, load).await;
}

/// Waits until the worker has said under which id it runs what it was sent: without it nobody can end the run.
async fn await_run(load: &Load, going: Pin<&mut impl Future<Output = ()>>) {
    if load.run().is_some() || !load.is_submitted.load(Ordering::Relaxed) {
        return;
    }
    tokio::select! {
        () = going => {}
        () = load.begun.notified() => {}
        () = tokio::time::sleep(BEGINNING) => tracing::debug!("a job's upload is cut off, nobody needs it any more"),
    }
}

/// Ends a run that nobody needs any more.
async fn cancel(worker: &Worker, load: &Load) {
    let Some(run) = load.run() else { return };
    match tokio::time::timeout(CANCEL, worker.client.cancel(&run)).await {
        Ok(Ok(_)) => tracing::debug!(worker = worker.key, run, "a run was ended"),
        Ok(Err(error)) => tracing::debug!(worker = worker.key, run, %error, "a run could not be ended"),
        Err(_) => tracing::debug!(worker = worker.key, run, "a run could not be ended in time"),
    }
}

/// Tells the queue what came of an attempt.
async fn report(trip: &Trip, result: Result<Completion, Trouble>) {
    match result {
        Ok(completion) => {
            tracing::debug!(
                worker = trip.worker.key,
                exit_code = completion.exit_code,
                "the worker has answered"
            );
            complete(trip, completion).await;
        }
        Err(Trouble::Forged(why)) => {
            tracing::error!(worker = trip.worker.key, why, "a result is not believed");
            trip.fleet.close(&trip.worker).await;
            complete(trip, trip.forged()).await;
        }
        Err(Trouble::Unreachable(why)) => {
            // whether it is lost, and all of its leases with it, is for its health to say
            trip.fleet.check(&trip.worker).await;
            if trip.worker.is_healthy() {
                again(trip, why, None).await;
            }
        }
        Err(Trouble::Again { words, wish }) => again(trip, words, wish).await,
        Err(Trouble::Refused(words)) => {
            fail(trip, words, false).await;
        }
    }
}

/// Gives an attempt back; its slot stays taken for a while, so that the worker that refused is not asked again at once.
async fn again(trip: &Trip, words: String, wish: Option<Duration>) {
    let attempt = trip.assignment.attempt;
    tracing::warn!(worker = trip.worker.key, words, "an attempt came to nothing");
    tokio::time::sleep(after_refusal(attempt.0, wish)).await;
    if fail(trip, words, true).await {
        // it begins anew, perhaps elsewhere, and does not go on here
        cancel(&trip.worker, &trip.load).await;
    }
}

/// Whether it was this replica's to say.
async fn fail(trip: &Trip, words: String, retry: bool) -> bool {
    let failure = || Failure {
        node: trip.assignment.node.clone(),
        job: trip.assignment.job,
        attempt: Some(trip.assignment.attempt),
        retry,
        words: words.chars().take(1_000).collect(),
    };
    tell(|| trip.fleet.app.queue.fail(failure())).await
}

async fn complete(trip: &Trip, completion: Completion) {
    tell(|| trip.fleet.app.queue.complete(completion.clone())).await;
}

/// Tells the queue until it is written, or refused. Whether it was written.
async fn tell<F: Future<Output = Result<(), QueueError>>>(say: impl Fn() -> F) -> bool {
    loop {
        match say().await {
            Ok(()) => return true,
            Err(QueueError::Stopped | QueueError::BadSignature) => return false,
            Err(
                error @ (QueueError::Full
                | QueueError::Displaced
                | QueueError::Damaged(_)
                | QueueError::Store(_)
                | QueueError::Unknown(_)),
            ) => {
                tracing::warn!(%error, "an answer could not be written; it is told again");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error @ (QueueError::Illegal(_) | QueueError::UnknownNode(_) | QueueError::HoldsNone)) => {
                tracing::info!(%error, "an answer comes too late");
                return false;
            }
        }
    }
}

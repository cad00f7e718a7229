//! All workers: who is on the list, who is healthy, and what the queue is told about it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandrun_core::pool::NodeStatus;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::allowlist::Allowlist;
use super::carry::Carried;
use super::offer::offer;
use super::worker::{Found, Worker};
use crate::broker::Shared;
use crate::queue::{Announced, QueueError, Registration};

/// What a coordinator was told about its workers' health.
#[derive(Debug, Clone)]
pub(super) struct HealthRules {
    pub(super) interval: Duration,
    pub(super) allow_unproven: bool,
    /// The coordinator's name, which proofs are bound to.
    pub(super) audience: String,
}

/// All workers of a coordinator.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) app: Shared,
    pub(super) rules: HealthRules,
    pub(super) carried: Carried,
    pub(super) tasks: TaskTracker,
    workers: Mutex<Vec<Arc<Worker>>>,
    by_node: Mutex<HashMap<String, Arc<Worker>>>,
}

impl Fleet {
    pub(super) fn new(app: Shared, rules: HealthRules) -> Self {
        Self {
            app,
            rules,
            carried: Carried::default(),
            tasks: TaskTracker::new(),
            workers: Mutex::default(),
            by_node: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All workers, those that are on the list no more and still work among them.
    pub(super) fn workers(&self) -> Vec<Arc<Worker>> {
        self.lock().clone()
    }

    /// The worker that a node of the queue is.
    pub(super) fn known(&self, node: &str) -> Option<Arc<Worker>> {
        let nodes = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node).cloned()
    }

    /// As [`Self::known`], also where the queue knows of the node before we do.
    pub(super) async fn worker(&self, node: &str) -> Option<Arc<Worker>> {
        if let Some(worker) = self.known(node) {
            return Some(worker);
        }
        let nodes = self.app.queue.nodes().await.ok()?;
        let key = nodes.into_iter().find(|it| it.id == node)?.endpoint;
        let worker = self.workers().into_iter().find(|it| it.key == key)?;
        self.remember(node, &worker);
        Some(worker)
    }

    fn remember(&self, node: &str, worker: &Arc<Worker>) {
        worker.standing().node = Some(node.to_owned());
        let mut nodes = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(node.to_owned(), Arc::clone(worker));
    }

    fn forget(&self, node: &str) {
        let mut nodes = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.remove(node);
    }

    /// The first list: workers that an earlier run knew and that are not on it are gone, the others are asked at once.
    pub(super) async fn begin(self: &Arc<Self>, list: &Allowlist) -> Result<(), QueueError> {
        let nodes = self.app.queue.nodes().await?;
        let mut added = self.take(list);
        for node in nodes {
            match added.iter().find(|it| it.key == node.endpoint) {
                Some(worker) => self.remember(&node.id, worker),
                None if node.status != NodeStatus::Lost => self.app.queue.lose(node.id).await?,
                None => {}
            }
        }
        for worker in added.drain(..) {
            self.watch(worker);
        }
        Ok(())
    }

    /// A new list: who is new is asked at once, who is not on it any more gets nothing new.
    pub(super) async fn change(self: &Arc<Self>, list: &Allowlist) {
        for worker in self.take(list) {
            self.watch(worker);
        }
        for worker in self.workers() {
            let is_listed = list.entries.iter().any(|it| it.key() == worker.key);
            let was_retired = std::mem::replace(&mut worker.standing().is_retired, !is_listed);
            if !is_listed && !was_retired {
                tracing::info!(
                    worker = worker.key,
                    "not on the list any more: it gets nothing new"
                );
                self.close(&worker).await;
            }
            // its slots may have changed
            worker.hurry.notify_one();
        }
    }

    /// Takes new entries in, and the slots of known ones; who is new.
    fn take(&self, list: &Allowlist) -> Vec<Arc<Worker>> {
        for why in &list.disabled {
            tracing::warn!(why, "a worker is left out");
        }
        for what in &list.unknown {
            tracing::warn!(what, "a field of the list of workers is left out");
        }
        let mut workers = self.lock();
        let mut added = Vec::new();
        for entry in &list.entries {
            if let Some(known) = workers.iter().find(|it| it.key == entry.key()) {
                let mut standing = known.standing();
                standing.listed_slots = entry.max_concurrent_jobs;
                standing.place = entry.place.clone();
                continue;
            }
            match Worker::new(entry) {
                Ok(worker) => added.push(Arc::new(worker)),
                Err(error) => tracing::warn!(%error, "a worker is left out"),
            }
        }
        workers.extend(added.iter().cloned());
        added
    }

    /// Asks a worker for its health until it is gone.
    fn watch(self: &Arc<Self>, worker: Arc<Worker>) {
        let fleet = Arc::clone(self);
        self.tasks.spawn(async move {
            let shutdown = fleet.app.shutdown.clone();
            loop {
                tokio::select! {
                    () = fleet.check(&worker) => {}
                    () = shutdown.cancelled() => break,
                }
                tokio::select! {
                    () = tokio::time::sleep(fleet.rules.interval) => {}
                    () = worker.hurry.notified() => {}
                    () = worker.gone.cancelled() => break,
                    () = shutdown.cancelled() => break,
                }
            }
        });
    }

    /// Asks a worker for its health now, and tells the queue what came of it.
    pub(super) async fn check(&self, worker: &Arc<Worker>) {
        let _turn = worker.gate.lock().await;
        let asked = worker.ask(&self.rules.audience, self.rules.allow_unproven).await;
        let (is_retired, node) = {
            let mut standing = worker.standing();
            standing.checked = Some(self.app.queue.clock().now());
            (standing.is_retired, standing.node.clone())
        };
        if is_retired && node.as_ref().is_none_or(|it| !self.carried.has(it)) {
            self.let_go(worker, node).await;
            return;
        }
        let told = match asked {
            Ok(found) => self.admit(worker, found).await,
            Err(why) => self.dismiss(worker, &why).await,
        };
        if let Err(error) = told {
            tracing::warn!(%error, worker = worker.key, "the queue could not be told how a worker stands");
        }
    }

    /// Takes a worker for healthy, unless it is so at another address: a machine that is on the list twice has no more
    /// slots for it, and is no second witness of anything. Whether it was healthy before, or why it is not.
    fn claim(&self, worker: &Worker) -> Result<bool, String> {
        // held until it is written down: two addresses may be asked at once
        let workers = self.lock();
        let other = workers
            .iter()
            .filter(|it| it.id == worker.id && it.key != worker.key);
        for other in other {
            let standing = other.standing();
            if standing.health == Some(true) && !standing.is_retired {
                return Err(format!(
                    "it is the worker at {}, which works already: one key is one worker; list it once",
                    other.client.endpoint()
                ));
            }
        }
        Ok(worker.standing().health.replace(true) == Some(true))
    }

    /// A healthy worker takes jobs.
    async fn admit(&self, worker: &Arc<Worker>, found: Found) -> Result<(), QueueError> {
        // before the queue knows: its first jobs come with the answer
        let was_healthy = match self.claim(worker) {
            Ok(was_healthy) => was_healthy,
            Err(why) => return self.dismiss(worker, &why).await,
        };
        let (is_given, wanted, node) = {
            let mut standing = worker.standing();
            standing.slots = found.slots;
            standing.features = found.features;
            standing.hardware = found.hardware;
            let wanted = if standing.is_retired { 0 } else { found.slots };
            let is_given = standing.given.as_ref() == Some(&standing.to_give(wanted));
            (is_given, wanted, standing.node.clone())
        };
        if let (true, Some(node)) = (was_healthy && is_given, node) {
            return self.app.queue.heartbeat(node, Vec::new()).await.map(drop);
        }
        if !was_healthy {
            tracing::info!(worker = worker.key, slots = wanted, "healthy");
        }
        let node = self.register(worker, wanted).await;
        if node.is_err() {
            worker.standing().health = Some(was_healthy);
        }
        node
    }

    async fn register(&self, worker: &Arc<Worker>, slots: u32) -> Result<(), QueueError> {
        let given = worker.standing().to_give(slots);
        let registration = Registration {
            endpoint: worker.key.clone(),
            offer: offer(&given),
            announced: Announced {
                protocol: 1,
                slots: Some(slots),
                capabilities: json!(given.place),
            },
        };
        let node = self.app.queue.register(registration).await?;
        worker.standing().given = Some(given);
        self.remember(&node, worker);
        Ok(())
    }

    /// A worker that fails is lost, and its jobs go to others, unless another replica reaches it: then that one carries
    /// what it has.
    async fn dismiss(&self, worker: &Worker, why: &str) -> Result<(), QueueError> {
        let (before, node) = {
            let mut standing = worker.standing();
            standing.given = None;
            (standing.health.replace(false), standing.node.clone())
        };
        if before != Some(false) {
            tracing::warn!(
                worker = worker.key,
                why,
                "not healthy from here: it gets nothing, its jobs go to others unless another replica reaches it"
            );
        }
        match node {
            Some(node) => self.app.queue.lose(node).await,
            None => Ok(()),
        }
    }

    /// A worker gets nothing new before its next check.
    pub(super) async fn close(&self, worker: &Arc<Worker>) {
        let _turn = worker.gate.lock().await;
        if worker.is_healthy()
            && let Err(error) = self.register(worker, 0).await
        {
            tracing::warn!(%error, worker = worker.key, "the queue could not be told to spare a worker");
        }
    }

    /// A worker that is on the list no more and has nothing to do any more.
    async fn let_go(&self, worker: &Worker, node: Option<String>) {
        if let Some(node) = node {
            self.forget(&node);
            if let Err(error) = self.app.queue.lose(node).await {
                tracing::warn!(%error, worker = worker.key, "the queue could not be told that a worker is gone");
            }
        }
        self.lock().retain(|it| it.key != worker.key);
        worker.gone.cancel();
        tracing::info!(worker = worker.key, "gone");
    }
}

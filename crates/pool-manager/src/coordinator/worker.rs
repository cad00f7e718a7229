//! One worker of the list: how it stands, and what it says when it is asked.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandrun_executor::wire::Hardware;
use sandrun_executor::{ClientError, ExecutorClient};
use sandrun_store::queue::UnixMillis;
use sandrun_types::{ClassId, WorkerId, node_features};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::allowlist::{Entry, Place};

/// Slots of a worker that neither the list nor the worker itself gives a number for.
const SLOTS: u32 = 4;
/// Longest wait for a worker's health.
const PATIENCE: Duration = Duration::from_secs(8);

/// How a worker stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Its node in the queue, once it has one.
    pub(super) node: Option<String>,
    /// What the list says about its slots.
    pub(super) listed_slots: Option<u32>,
    /// What the list says about it beside that.
    pub(super) place: Place,
    /// Whether the last check went well; `None` before the first.
    pub(super) health: Option<bool>,
    /// When it was checked.
    pub(super) checked: Option<UnixMillis>,
    /// Slots that it was found to have.
    pub(super) slots: u32,
    /// Classes that it was found to run, and environments, in the queue's words.
    pub(super) features: BTreeSet<String>,
    /// What it says that its machine has; workers of old say nothing.
    pub(super) hardware: Option<Hardware>,
    /// What the queue was told of the worker.
    pub(super) given: Option<Given>,
    /// Whether it is on the list no more.
    pub(super) is_retired: bool,
}

/// What the queue knows of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// 0 for one that gets nothing new.
    pub(super) slots: u32,
    pub(super) place: Place,
    pub(super) features: BTreeSet<String>,
    pub(super) hardware: Option<Hardware>,
}

/// What a healthy worker says.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) slots: u32,
    pub(super) features: BTreeSet<String>,
    pub(super) hardware: Option<Hardware>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) key: String,
    pub(super) client: ExecutorClient,
    standing: Mutex<Standing>,
    /// Held while its health is asked for and acted upon.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// Asks for a check before it is time.
    pub(super) hurry: Notify,
    /// It is neither on the list nor has anything to do.
    pub(super) gone: CancellationToken,
}

impl Standing {
    /// What the queue has to know of it, with this many slots.
    pub(super) fn to_give(&self, slots: u32) -> Given {
        Given {
            slots,
            place: self.place.clone(),
            features: self.features.clone(),
            hardware: self.hardware,
        }
    }
}

impl Worker {
    pub(super) fn new(entry: &Entry) -> Result<Self, ClientError> {
        Ok(Self {
            id: entry.worker,
            key: entry.key(),
            client: ExecutorClient::new(&entry.endpoint)?,
            standing: Mutex::new(Standing {
                listed_slots: entry.max_concurrent_jobs,
                place: entry.place.clone(),
                ..Standing::default()
            }),
            gate: tokio::sync::Mutex::new(()),
            hurry: Notify::new(),
            gone: CancellationToken::new(),
        })
    }

    /// How it stands. Never held over an await.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.standing().health == Some(true)
    }

    /// Asks it whether it is healthy and holds its key; what it can do, or what is wrong.
    pub(super) async fn ask(&self, audience: &str, allow_unproven: bool) -> Result<Found, String> {
        let asked = async {
            if allow_unproven {
                let health = self.client.health().await?;
                return Ok((health.worker_id, health));
            }
            let (worker, health) = self.client.prove_health(audience).await?;
            Ok((Some(worker), health))
        };
        let asked = async {
            let (worker, health) = asked.await?;
            let environments = self.client.fetches_environments().await?;
            Ok((worker, health, environments))
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let answer: Result<_, ClientError> = answer.map_err(|_| "it does not answer in time".to_owned())?;
        let (worker, health, environments) = answer.map_err(|error| words(&error))?;
        if worker != Some(self.id) {
            let other = worker.map_or("anonymous".to_owned(), |it| it.to_string());
            return Err(format!("the executor there is {other}, not the one on the list"));
        }
        if health.status != "healthy" {
            return Err(format!("it says that it is {:?}", health.status));
        }
        let listed = self.standing().listed_slots;
        let classes = health.classes.values().chain(&health.class);
        Ok(Found {
            slots: listed.or(health.max_concurrent_jobs).unwrap_or(SLOTS).max(1),
            features: node_features(classes.map(|id| ClassId(id.0)), environments),
            hardware: health.hardware,
        })
    }
}

/// An error and its causes in one line.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

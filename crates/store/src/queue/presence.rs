//! Which replicas of a service live, as the database that they share sees it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{QueueAddress, QueueStoreError};

/// A replica of a service: a number that it has drawn at its start and has for as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub u32);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Who lives, by one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Living {
    /// They.
    pub replicas: BTreeSet<ReplicaId>,
    /// Number of the look. One with a number that is two higher than that of the latest one known at some moment began
    /// after that moment.
    pub look: u64,
}

/// This process as a replica, for as long as the value lives.
///
/// Each replica holds an advisory lock of its own on a connection of its own: the lock goes with the connection, so the
/// others see within a fifth of a second that a process was killed. One that hangs, or that the network has cut off,
/// loses the connection after three seconds of silence (PostgreSQL 14 and later: `idle_session_timeout`). Whoever comes
/// back takes the same number again.
///
/// That somebody lives or not is a hint and no right: who may write what, rows say, behind the writer's lock.
#[derive(Debug)]
pub struct Presence {
    id: ReplicaId,
    living: watch::Receiver<Living>,
    task: AbortHandle,
}

impl Presence {
    pub(super) const fn new(id: ReplicaId, living: watch::Receiver<Living>, task: AbortHandle) -> Self {
        Self { id, living, task }
    }

    /// Its own number.
    #[must_use]
    pub const fn id(&self) -> ReplicaId {
        self.id
    }

    /// Who lives, itself among them but for the time that its own connection is broken; moves with every look.
    #[must_use]
    pub fn living(&self) -> watch::Receiver<Living> {
        self.living.clone()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Becomes a replica of the service at `address`, under a number that `draw` gives at random; `None` where there can be
/// only one.
///
/// # Errors
/// [`QueueStoreError`] where the database does not answer.
pub async fn join_replicas(
    address: &QueueAddress,
    mut draw: impl FnMut() -> u32 + Send,
) -> Result<Option<Presence>, QueueStoreError> {
    match address {
        QueueAddress::Sqlite(_) => Ok(None),
        QueueAddress::Postgres(config) => super::postgres::join(config, &mut draw).await.map(Some),
    }
}

//! When batches are brought to the tables: a moment after they were written, and at once for who wants to read them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Config;

use super::session::{ANSWER, Role, Session, limited};
use super::{merge, start_thread};
use crate::queue::{Doing, QueueStoreError};

const DOING: Doing = "bring batches to the tables";
/// From a batch to the tables, where nobody asks: what changes twice meanwhile is written once.
const DELAY: Duration = Duration::from_millis(100);

/// Who waits until all that was written is in the tables; nobody where a batch is all there is to tell.
type Order = Option<oneshot::Sender<Result<(), Arc<QueueStoreError>>>>;

/// The way to the thread that merges. It ends with the last of its clones.
#[derive(Debug, Clone)]
pub(super) struct Merger(mpsc::UnboundedSender<Order>);

impl Merger {
    /// Starts the thread, which connects when there is something to do.
    pub(super) fn start(config: Config) -> Result<Self, QueueStoreError> {
        let (orders, ordered) = mpsc::unbounded_channel();
        start_thread("queue-merge", run(config, ordered))?;
        Ok(Self(orders))
    }

    /// There is a batch that is to be merged at some time.
    pub(super) fn note(&self) {
        // none hears it any more where the program ends: another replica merges it, or the next start
        drop(self.0.send(None));
    }

    /// Whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.0.is_closed()
    }

    /// Returns when the tables hold all batches that were written before. That may take long: the caller sets a limit.
    pub(super) async fn settle(&self) -> Result<(), QueueStoreError> {
        let (done, is_done) = oneshot::channel();
        drop(self.0.send(Some(done)));
        match is_done.await {
            Ok(merged) => merged.map_err(QueueStoreError::Undone),
            Err(_) => Err(QueueStoreError::Ending(DOING)),
        }
    }
}

async fn run(config: Config, mut ordered: mpsc::UnboundedReceiver<Order>) {
    let mut idle = None;
    while let Some(first) = ordered.recv().await {
        let mut waiting = Vec::new();
        waiting.extend(first);
        let due = Instant::now() + DELAY;
        while waiting.is_empty() {
            match timeout_at(due, ordered.recv()).await {
                Ok(Some(order)) => waiting.extend(order),
                Ok(None) | Err(_) => break,
            }
        }
        while let Ok(order) = ordered.try_recv() {
            waiting.extend(order);
        }
        let merged = merge_once(&config, &mut idle, !waiting.is_empty())
            .await
            .map_err(Arc::new);
        if let Err(error) = &merged
            && waiting.is_empty()
        {
            tracing::warn!(%error, "batches wait to be brought to the tables");
        }
        for waiter in waiting {
            drop(waiter.send(merged.clone()));
        }
    }
}

/// One round, over the connection of the last one if it still stands.
async fn merge_once(
    config: &Config,
    idle: &mut Option<Session>,
    is_patient: bool,
) -> Result<(), QueueStoreError> {
    let mut session = match idle.take().filter(|session| !session.is_closed()) {
        Some(session) => session,
        None => connect(config).await?,
    };
    let done = merge::merge(&session, is_patient, DOING).await;
    if session.is_closed() {
        // it broke while nobody used it: not a word about what can be had over another one
        session = connect(config).await?;
        merge::merge(&session, is_patient, DOING).await?;
    } else if let Err(error) = done {
        session.close().await;
        return Err(error);
    }
    *idle = Some(session);
    Ok(())
}

async fn connect(config: &Config) -> Result<Session, QueueStoreError> {
    limited(
        ANSWER,
        DOING,
        Session::connect(config, Role::Writer(merge::STATEMENTS), DOING),
    )
    .await
}

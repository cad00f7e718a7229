//! Hears of other replicas' commits.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Config, NoTls};

use super::OPEN;
use super::session::limited;
use crate::queue::QueueStoreError;

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// A task that listens for as long as this lives.
#[derive(Debug)]
pub(super) struct Listener {
    commits: watch::Receiver<u64>,
    task: AbortHandle,
}

impl Listener {
    /// Starts listening, and returns when it hears; commits of the connection that the server numbers `own` do not
    /// count.
    pub(super) async fn start(config: Config, own: Arc<AtomicI32>) -> Result<Self, QueueStoreError> {
        let (told, mut commits) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let Err(error) = listen(&config, &own, &told).await;
                tracing::warn!(%error, "not told of other replicas' commits for now");
                tokio::time::sleep(PAUSE).await;
            }
        });
        let listener = Self {
            commits: commits.clone(),
            task: task.abort_handle(),
        };
        // nothing is missed between the first load and the first wait; the sender lives as long as the task
        limited(OPEN, async {
            commits.changed().await.map_err(|_| QueueStoreError::Ending(OPEN))
        })
        .await?;
        Ok(listener)
    }

    /// Counts up with each commit of another replica, and where one may have been missed.
    pub(super) fn commits(&self) -> watch::Receiver<u64> {
        let mut commits = self.commits.clone();
        commits.mark_unchanged();
        commits
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens until the connection breaks.
async fn listen(
    config: &Config,
    own: &AtomicI32,
    told: &watch::Sender<u64>,
) -> Result<std::convert::Infallible, String> {
    let text = |error: tokio_postgres::Error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let (client, mut connection) = config.connect(NoTls).await.map_err(text)?;
    let messages = async {
        loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(note))) => {
                    if note.process_id() != own.load(Ordering::Relaxed) {
                        told.send_modify(|count| *count += 1);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(text(error)),
                None => return Err("the server closed the connection".to_owned()),
            }
        }
    };
    let listening = async {
        client.batch_execute("LISTEN queue_commit").await.map_err(text)?;
        // what was committed before is heard by nobody
        told.send_modify(|count| *count += 1);
        pending().await
    };
    let (messages, listening) = (pin!(messages), pin!(listening));
    tokio::select! {
        broken = messages => broken,
        refused = listening => refused,
    }
}

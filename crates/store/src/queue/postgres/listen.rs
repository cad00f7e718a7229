//! Tells other replicas of our commits, and hears of theirs.
//!
//! Word of a commit goes out beside it, on this connection: a `NOTIFY` in the batch itself would make each wait for
//! those before it, and wake every replica hundreds of times a second. What a replica does not tell any more, because
//! it died in between, the others find by looking once a second.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Config, NoTls};

use super::OPEN;
use super::session::{ANSWER, limited};
use super::sql::LATEST;
use crate::queue::QueueStoreError;

/// Between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two words to others: commits in between count as one.
const BREATH: Duration = Duration::from_millis(5);
/// Between two looks at what nobody has told of.
const LOOK: Duration = Duration::from_secs(1);

const PID: &str = "SELECT pg_backend_pid()";

/// A task that listens for as long as this lives.
#[derive(Debug)]
pub(super) struct Listener {
    commits: watch::Receiver<u64>,
    task: AbortHandle,
}

impl Listener {
    /// Starts listening, and returns when it hears; tells others of each batch that `written` names as our own.
    pub(super) async fn start(
        config: Config,
        mut written: watch::Receiver<i64>,
    ) -> Result<Self, QueueStoreError> {
        let (told, mut commits) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let Err(error) = listen(&config, &mut written, &told).await;
                tracing::warn!(%error, "not told of other replicas' commits for now");
                tokio::time::sleep(PAUSE).await;
            }
        });
        let listener = Self {
            commits: commits.clone(),
            task: task.abort_handle(),
        };
        // nothing is missed between the first load and the first wait; the sender lives as long as the task
        limited(ANSWER, OPEN, async {
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
    written: &mut watch::Receiver<i64>,
    told: &watch::Sender<u64>,
) -> Result<std::convert::Infallible, String> {
    let text = |error: tokio_postgres::Error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let tell = || told.send_modify(|count| *count += 1);
    let (client, mut connection) = config.connect(NoTls).await.map_err(text)?;
    let (own, heard) = (AtomicI32::new(0), AtomicBool::new(false));
    let messages = async {
        loop {
            match std::future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(note))) => {
                    if note.process_id() != own.load(Ordering::Relaxed) {
                        heard.store(true, Ordering::Relaxed);
                        tell();
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(text(error)),
                None => return Err("the server closed the connection".to_owned()),
            }
        }
    };
    let telling = async {
        let row = client.query_one(PID, &[]).await.map_err(text)?;
        own.store(row.try_get(0).map_err(text)?, Ordering::Relaxed);
        client
            .batch_execute("SET synchronous_commit = off; LISTEN queue_commit")
            .await
            .map_err(text)?;
        // what was committed before is heard by nobody
        tell();
        let look = client.prepare(LATEST).await.map_err(text)?;
        let mut looked: i64 = client
            .query_one(&look, &[])
            .await
            .and_then(|it| it.try_get(0))
            .map_err(text)?;
        loop {
            let news = async {
                if written.changed().await.is_err() {
                    // its writer has ended
                    std::future::pending().await
                }
            };
            if tokio::time::timeout(LOOK, news).await.is_ok() {
                client.batch_execute("NOTIFY queue_commit").await.map_err(text)?;
                tokio::time::sleep(BREATH).await;
                continue;
            }
            let latest = client
                .query_one(&look, &[])
                .await
                .and_then(|it| it.try_get(0))
                .map_err(text)?;
            let is_new = latest > looked && latest > *written.borrow();
            if !heard.swap(false, Ordering::Relaxed) && is_new {
                tell();
            }
            looked = latest;
        }
    };
    let (messages, telling) = (pin!(messages), pin!(telling));
    tokio::select! {
        broken = messages => broken,
        refused = telling => refused,
    }
}

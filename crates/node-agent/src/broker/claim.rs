//! Asking the broker for jobs: does what [`next_step`] says, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::error::BrokerError;
use super::node::Node;
use super::pace::{Last, Step, next_step};
use super::task::{Task, handle};
use super::wire::{Claimed, NodeId};

/// Claims until the node is to end; each job is a task of `jobs`.
pub(crate) async fn claim(node: Arc<Node>, jobs: TaskTracker) {
    let (mut last, mut failures) = (Last::Fresh, 0);
    loop {
        let view = node.state().view(
            node.stop.is_cancelled(),
            node.config.max_concurrent_jobs,
            node.config.poll_interval,
        );
        let step = next_step(&view, last);
        if step == Step::End {
            return;
        }
        let took = tokio::select! {
            () = node.stop.cancelled() => return,
            took = take(&node, step, &jobs) => took,
        };
        last = match took {
            Ok(last) => {
                failures = 0;
                last
            }
            Err(Trouble::Paused) => Last::Fresh,
            Err(Trouble::Failed) => {
                failures += 1;
                Last::Failed {
                    failures,
                    chance: rand::random(),
                }
            }
        };
    }
}

/// Why a step says nothing about how the broker does.
enum Trouble {
    /// It was a pause.
    Paused,
    /// It failed.
    Failed,
}

async fn take(node: &Arc<Node>, step: Step, jobs: &TaskTracker) -> Result<Last, Trouble> {
    match step {
        Step::End => Err(Trouble::Paused),
        Step::Pause(time) => {
            sleep(time).await;
            Err(Trouble::Paused)
        }
        Step::Wait => {
            node.changed.notified().await;
            Err(Trouble::Paused)
        }
        Step::AskExecutor => match node.ask_executor().await {
            Ok(()) => Err(Trouble::Paused),
            Err(error) => {
                warn!(%error, "the executor cannot be used");
                Err(Trouble::Failed)
            }
        },
        Step::Claim { max, wait } => {
            let asked = Instant::now();
            match ask(node, max, wait).await {
                Ok((node_id, claimed)) => Ok(spread(node, node_id, claimed, asked.elapsed(), jobs)),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "no answer about work");
                    Err(Trouble::Failed)
                }
            }
        }
    }
}

async fn ask(node: &Node, max: u32, wait: Duration) -> Result<(NodeId, Claimed), BrokerError> {
    let node_id = node.register(None).await?;
    let claimed = node.broker.claim(&node_id, max, wait).await;
    match claimed {
        Err(error) if error.status() == Some(404) => {
            info!(node = %node_id, "the broker has forgotten this node");
            let node_id = node.register(Some(&node_id)).await?;
            let claimed = node.broker.claim(&node_id, max, wait).await?;
            Ok((node_id, claimed))
        }
        other => Ok((node_id, other?)),
    }
}

/// Begins with what was claimed.
fn spread(node: &Arc<Node>, node_id: NodeId, claimed: Claimed, took: Duration, jobs: &TaskTracker) -> Last {
    let protocol = claimed.protocol;
    node.state().protocol = protocol;
    let is_empty = claimed.jobs.is_empty();
    for job in claimed.jobs {
        let held = match &job {
            Ok(job) => job.held.clone(),
            Err(unreadable) => match &unreadable.held {
                Some(held) => held.clone(),
                None => {
                    warn!(why = unreadable.why, "the broker sent a job that cannot be read");
                    continue;
                }
            },
        };
        let begun = node.state().begin(&held);
        let Some(cancel) = begun else {
            debug!(job = %held.id, "claimed again while it is under way");
            continue;
        };
        let attempt = held.attempt.map(|it| it.0);
        let span = info_span!("job", job = %held.id, attempt, node = %node_id);
        let task = Task {
            node: Arc::clone(node),
            node_id: node_id.clone(),
            held,
            protocol,
            cancel,
        };
        jobs.spawn(handle(task, job).instrument(span));
    }
    if is_empty {
        Last::Empty { protocol, took }
    } else {
        Last::Fresh
    }
}

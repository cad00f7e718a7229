//! Asking the broker for jobs: does what [`next_step`] says, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, error_span, info, warn};

use super::error::BrokerError;
use super::node::Node;
use super::pace::{Last, Step, next_step};
use super::task::{Task, handle};
use super::wire::{Claim, Claimed, NodeId};

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
            node.state().free_since = None;
            let answer = ask(node, max, wait).await;
            node.meters
                .claimed(answer.as_ref().ok().map(|it| it.claimed.jobs.len()));
            match answer {
                Ok(asked_for) => Ok(spread(node, asked_for, asked.elapsed(), jobs)),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "no answer about work");
                    Err(Trouble::Failed)
                }
            }
        }
    }
}

/// The answer to a claim.
struct Asked {
    node_id: NodeId,
    /// The claim's number, to be settled when all that it brought is held.
    claim: u64,
    claimed: Claimed,
}

async fn ask(node: &Node, max: u32, wait: Duration) -> Result<Asked, BrokerError> {
    let node_id = node.register(None).await?;
    match ask_as(node, &node_id, max, wait).await {
        Err(error) if error.status() == Some(404) => {
            info!(node = %node_id, "the broker has forgotten this node");
            let node_id = node.register(Some(&node_id)).await?;
            ask_as(node, &node_id, max, wait).await
        }
        other => other,
    }
}

async fn ask_as(node: &Node, node_id: &NodeId, max: u32, wait: Duration) -> Result<Asked, BrokerError> {
    let claim = node.state().next_claim();
    match node.broker.claim(&Claim { node_id, max, claim }, wait).await {
        Ok(claimed) => Ok(Asked {
            node_id: node_id.clone(),
            claim,
            claimed,
        }),
        Err(error) => {
            // nobody will read its answer any more: what was given comes back with the next sign of life
            node.state().settle(claim);
            Err(error)
        }
    }
}

/// Begins with what was claimed.
fn spread(node: &Arc<Node>, asked: Asked, took: Duration, jobs: &TaskTracker) -> Last {
    let Asked {
        node_id,
        claim,
        claimed,
    } = asked;
    let protocol = claimed.protocol;
    node.state().protocol = protocol;
    let is_empty = claimed.jobs.is_empty();
    let mut begun = Vec::new();
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
        let Some(cancel) = node.state().begin(&held) else {
            debug!(job = %held.id, "claimed again while it is under way");
            continue;
        };
        let attempt = held.attempt.map(|it| it.0);
        let span = error_span!("job", job = %held.id, attempt, node = %node_id);
        let task = Task {
            node: Arc::clone(node),
            node_id: node_id.clone(),
            held,
            protocol,
            cancel,
        };
        begun.push(handle(task, job).instrument(span));
    }
    // a sign of life that calls the claim settled lists all that it brought
    node.state().settle(claim);
    for job in begun {
        jobs.spawn(job);
    }
    if is_empty {
        Last::Empty { protocol, took }
    } else {
        Last::Fresh
    }
}

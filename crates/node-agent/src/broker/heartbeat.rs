//! Signs of life, and what the broker wishes in its answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::error::BrokerError;
use super::node::Node;
use super::pace::heartbeat_interval;
use super::wire::{Heartbeat, Wishes};

/// How often it is looked whether a sign of life is due: a node that becomes busy shows it sooner than planned.
const LOOK: Duration = Duration::from_secs(1);

/// Shows that the node lives until it is to end.
pub(crate) async fn heartbeat(node: Arc<Node>) {
    // the first one at once: a broker learns which of this node's former attempts nobody works on any more
    let mut last: Option<Instant> = None;
    loop {
        let interval = {
            let state = node.state();
            heartbeat_interval(node.config.heartbeat_interval, state.protocol, state.is_busy())
        };
        let rest = last.map_or(Duration::ZERO, |last| interval.saturating_sub(last.elapsed()));
        if rest.is_zero() {
            last = Some(Instant::now());
            tokio::select! {
                () = node.stop.cancelled() => return,
                () = beat(&node) => {}
            }
            continue;
        }
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = sleep(rest.min(LOOK)) => {}
        }
    }
}

async fn beat(node: &Node) {
    let answer = ask(node).await;
    node.meters.beat(answer.is_ok());
    match answer {
        Ok(wishes) => {
            let (unwanted, has_changed) = {
                let mut state = node.state();
                let before = state.draining;
                let unwanted = state.obey(&wishes);
                (unwanted, (before != state.draining).then_some(state.draining))
            };
            for held in unwanted {
                info!(job = %held.id, attempt = held.attempt.map_or(0, |it| it.0), "cancelled by the broker");
            }
            if let Some(draining) = has_changed {
                info!(draining, "the broker's wish about new jobs");
                node.changed.notify_one();
            }
        }
        Err(error) => warn!(
            error = &error as &dyn std::error::Error,
            "no answer to a sign of life"
        ),
    }
}

async fn ask(node: &Node) -> Result<Wishes, BrokerError> {
    let node_id = node.register(None).await?;
    let (jobs, claims_answered_up_to) = {
        // under one lock: the list is never older than what it is said to be complete for
        let state = node.state();
        (state.held(), state.answered_up_to())
    };
    let answer = node
        .broker
        .heartbeat(&Heartbeat {
            node_id: &node_id,
            jobs,
            claims_answered_up_to,
        })
        .await;
    match answer {
        Err(error) if error.status() == Some(404) => {
            info!(node = %node_id, "the broker has forgotten this node");
            node.register(Some(&node_id)).await?;
            Ok(Wishes::default())
        }
        other => other,
    }
}

//! Doing what is due: pokes and refunds. Owns one transaction at a time and the memory of what is under way; what is due
//! is the core's decision.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use client_sdk::JobEntry;
use sandrun_chain::{Deployment, SendError, Sender};
use sandrun_core::market::Due;
use sandrun_types::JobId;
use tokio::sync::mpsc;
use tracing::{Instrument as _, error_span};

/// Things to do that may wait; more are found again at the next block.
const WAITING: usize = 256;

/// The keeper's end in the manager's loop.
#[derive(Debug)]
pub(crate) struct Keeper {
    wanted: mpsc::Sender<(JobEntry, Due)>,
    under_way: Arc<Mutex<BTreeSet<JobId>>>,
    refunds: bool,
}

impl Keeper {
    /// Starts the task that sends.
    pub(crate) fn start(sender: Sender, deployment: Deployment, refunds: bool) -> Self {
        let (wanted, queue) = mpsc::channel(WAITING);
        let under_way = Arc::new(Mutex::new(BTreeSet::new()));
        tokio::spawn(work(sender, deployment, queue, Arc::clone(&under_way)));
        Self {
            wanted,
            under_way,
            refunds,
        }
    }

    /// Takes over what is due and not under way.
    pub(crate) fn look(&self, due: Vec<(JobEntry, Due)>) {
        for (entry, what) in due {
            if matches!(what, Due::Refund) && !self.refunds {
                continue;
            }
            let job = entry.facts.job;
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if !under_way.contains(&job) && self.wanted.try_send((entry, what)).is_ok() {
                under_way.insert(job);
            }
        }
    }
}

/// Sends one transaction after another until the manager ends.
async fn work(
    sender: Sender,
    deployment: Deployment,
    mut queue: mpsc::Receiver<(JobEntry, Due)>,
    under_way: Arc<Mutex<BTreeSet<JobId>>>,
) {
    while let Some((entry, what)) = queue.recv().await {
        let job = entry.facts.job;
        let (name, call) = match &what {
            Due::Poke(_) => ("poke", deployment.poke(job)),
            Due::Refund => ("refund", deployment.refund(&entry.facts.order)),
        };
        // also for what the sender says of the transaction
        let span = error_span!("job", %job);
        let sent = sender.send(call).instrument(span.clone()).await;
        let _span = span.entered();
        match sent {
            Ok(outcome) => {
                tracing::info!(name, tx = %outcome.hash, gas = outcome.gas_used, "did what was due")
            }
            // somebody was quicker: nothing was sent
            Err(SendError::Refused { revert, .. }) => {
                tracing::debug!(name, %revert, "nothing is due any more")
            }
            Err(error) => tracing::warn!(name, %error, "could not do what is due; it is tried again"),
        }
        under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&job);
    }
}

//! The way to whoever carries leases to nodes: what is to be carried, and what no longer, once it is on disk. After a
//! start, and after the memory was loaded anew, every open lease of this replica is given out again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use sandrun_core::pool::{JobNumber, NodeNumber};
use sandrun_types::{Attempt, UnixSeconds};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::command::Requests;
use super::memory::Memory;

/// What the carrier is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// A node has a lease. May come again for a lease that is carried already.
    Give(Box<Assignment>),
    /// Nobody needs this attempt any more.
    Stop {
        /// The job.
        job: JobNumber,
        /// The attempt.
        attempt: Attempt,
    },
    /// Another replica carries this attempt from now on: it is to be left as it is.
    Leave {
        /// The job.
        job: JobNumber,
        /// The attempt.
        attempt: Attempt,
    },
    /// All that is to be carried comes anew after this. What is carried and neither among it nor left to other replicas
    /// is not needed any more.
    Anew {
        /// What this replica carries.
        own: BTreeSet<(JobNumber, Attempt)>,
        /// What other replicas carry.
        others: BTreeSet<(JobNumber, Attempt)>,
    },
    /// Another replica can't reach this node: how does it stand from here?
    Check {
        /// The node's id.
        node: String,
    },
}

/// A lease that is to be carried to its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The job.
    pub job: JobNumber,
    /// Number of the attempt.
    pub attempt: Attempt,
    /// The node's id.
    pub node: String,
    /// When the lease ends by itself.
    pub until: UnixSeconds,
    /// The executor's id of the run, where the node has it already.
    pub run: Option<String>,
    /// The request as it was stored.
    pub request: Arc<[u8]>,
}

/// An attempt that an executor has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The node's id.
    pub node: String,
    /// The job.
    pub job: JobNumber,
    /// Its attempt.
    pub attempt: Attempt,
    /// The executor's id of the run.
    pub run: String,
}

/// The way to the carrier. There is one receiver, which is taken once.
#[derive(Debug, Clone)]
pub(super) struct Pushes {
    sender: UnboundedSender<Push>,
    receiver: Arc<Mutex<Option<UnboundedReceiver<Push>>>>,
}

impl Default for Pushes {
    fn default() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self {
            sender,
            receiver: Arc::new(Mutex::new(Some(receiver))),
        }
    }
}

impl Pushes {
    pub(super) fn take(&self) -> Option<UnboundedReceiver<Push>> {
        self.receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// What the carrier is to be told of a batch, once that is on disk.
    pub(super) fn of(memory: &mut Memory, requests: &Requests) -> Vec<Push> {
        let news = std::mem::take(&mut memory.news);
        let tell = |news| {
            Some(match news {
                News::Give { job, attempt } => {
                    Push::Give(Box::new(memory.assignment(job, attempt, requests)?))
                }
                News::Stop { job, attempt } => Push::Stop { job, attempt },
                News::Leave { job, attempt } => Push::Leave { job, attempt },
                News::Anew { own, others } => Push::Anew { own, others },
                News::Check(node) => Push::Check {
                    node: memory.node_id(node).to_owned(),
                },
            })
        };
        news.into_iter().filter_map(tell).collect()
    }

    /// Tells the carrier.
    pub(super) fn hand_out(&self, pushes: Vec<Push>) {
        for push in pushes {
            // without a carrier nothing is carried
            drop(self.sender.send(push));
        }
    }
}

/// What a batch has in store for the carrier.
#[derive(Debug)]
pub(super) enum News {
    Give {
        job: JobNumber,
        attempt: Attempt,
    },
    Stop {
        job: JobNumber,
        attempt: Attempt,
    },
    Leave {
        job: JobNumber,
        attempt: Attempt,
    },
    Anew {
        own: BTreeSet<(JobNumber, Attempt)>,
        others: BTreeSet<(JobNumber, Attempt)>,
    },
    Check(NodeNumber),
}

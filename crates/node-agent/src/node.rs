//! What a node is while its agent runs: connections, identities and terms, found out at the start and fixed since.

use std::path::PathBuf;
use std::sync::Arc;

use sandrun_chain::{Deployment, MarketReader, Sender};
use sandrun_content::ContentStore;
use sandrun_core::market::rules::Windows;
use sandrun_core::seat::RunEnd;
use sandrun_executor::ExecutorClient;
use sandrun_types::{
    Address, Amount, Capabilities, ClassId, EscrowRef, JobId, NodeIndex, OutputRoot, ResultParts, WorkerId,
};
use sha2::{Digest as _, Sha256};

use crate::bundle::Bounds;
use crate::config::{AgentConfig, Misbehaviour};
use crate::images::Images;
use crate::vitals::AgentVitals;

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: AgentConfig,
    pub(crate) reader: MarketReader,
    /// Signs with the hot key.
    pub(crate) sender: Sender,
    pub(crate) store: Arc<dyn ContentStore>,
    /// What of it jobs here need.
    pub(crate) images: Images,
    pub(crate) executor: ExecutorClient,
    /// Who signs the executor's receipts.
    pub(crate) worker_id: WorkerId,
    /// The class of jobs that ask the executor for none.
    pub(crate) class: ClassId,
    /// Classes that this node serves.
    pub(crate) classes: Vec<ClassId>,
    pub(crate) index: NodeIndex,
    /// Owner of the stake.
    pub(crate) account: Address,
    /// The hot key's address.
    pub(crate) worker: Address,
    pub(crate) at: EscrowRef,
    pub(crate) windows: Windows,
    /// Unit of stake, wei.
    pub(crate) unit: Amount,
    pub(crate) confirmations: u64,
    pub(crate) capabilities: Capabilities,
    /// What its operator is told.
    pub(crate) vitals: Arc<AgentVitals>,
}

impl Node {
    /// The market's contracts.
    pub(crate) const fn deployment(&self) -> &Deployment {
        self.reader.deployment()
    }

    /// Where a job's bundle lies.
    pub(crate) fn bundle_folder(&self, job: JobId) -> PathBuf {
        self.config.bundles_folder().join(hex::encode(job.as_bytes()))
    }

    /// Where a job's result is gathered.
    pub(crate) fn result_folder(&self, job: JobId) -> PathBuf {
        self.config.results_folder().join(hex::encode(job.as_bytes()))
    }

    /// How much of a bundle is fetched.
    pub(crate) const fn bounds(&self) -> Bounds {
        Bounds {
            max_bytes: self.config.max_bundle_bytes,
            patience: self.config.fetch_patience,
        }
    }

    /// Whether the executor answers, as the one that was registered.
    pub(crate) async fn executor_lives(&self) -> bool {
        let health = self.executor.health().await;
        health.is_ok_and(|health| {
            health.worker_id == Some(self.worker_id)
                && health.class.is_some_and(|class| class.0 == self.class.0)
                && self
                    .classes
                    .iter()
                    .all(|served| *served == self.class || health.classes.values().any(|id| id.0 == served.0))
        })
    }

    /// What the agent tells of a run: the truth, unless this node is a liar.
    pub(crate) fn misreport(&self, end: RunEnd) -> RunEnd {
        match (self.config.misbehaviour, end) {
            (Some(Misbehaviour::Liar), RunEnd::Result(parts)) => RunEnd::Result(lie(parts, self.index)),
            (Some(Misbehaviour::Liar | Misbehaviour::Silent | Misbehaviour::Moody) | None, end) => end,
        }
    }
}

/// A wrong result, another one for each node, so that liars don't agree by accident.
fn lie(parts: ResultParts, node: NodeIndex) -> ResultParts {
    let mut hasher = Sha256::new();
    hasher.update(b"lie");
    hasher.update(node.0.to_be_bytes());
    hasher.update(parts.output_root.as_bytes());
    ResultParts {
        output_root: OutputRoot(hasher.finalize().into()),
        ..parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandrun_types::{ContentDigest, ExitStatus, TraceRoot};

    #[test]
    fn lies_are_wrong_and_differ() {
        let truth = ResultParts {
            class: ClassId([0; 32]),
            exit: ExitStatus::Code(0),
            output_root: OutputRoot([1; 32]),
            trace_root: TraceRoot([2; 32]),
            content: ContentDigest([3; 32]),
        };
        let (one, two) = (lie(truth, NodeIndex(1)), lie(truth, NodeIndex(2)));
        assert_ne!(one, truth);
        assert_ne!(one, two);
        assert_eq!(one, lie(truth, NodeIndex(1)), "a liar sticks to its lie");
    }
}

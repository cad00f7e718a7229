//! Tasks: what waits for a network, a disk or a program. Each ends with one [`Done`] and never panics.

use std::sync::Arc;

use sandrun_chain::{Call, SendError};
use sandrun_content::ContentId;
use sandrun_core::seat::{RunEnd, Transaction, TransactionEnd};
use sandrun_types::{ContentDigest, JobId, Order, Token};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Done;
use crate::bundle::{self, Bundle, BundleError};
use crate::crash;
use crate::error::Report as _;
use crate::execute::{self, RunBounds, RunName};
use crate::fit::fits;
use crate::node::Node;
use crate::operator::is_payouts;

/// Says that a job's image may have to be fetched again.
const UNKEPT: &str = "its environment is not kept in the content store";

/// A bundle that is held, and runs here.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) bundle: Arc<Bundle>,
    /// The image that it needs, which the executor has and the content store is still to keep.
    pub(super) image: Option<ContentId>,
}

/// Gets a bundle. Where no seat is held yet, one that this node cannot run is refused: no seat is taken.
pub(super) async fn fetch(node: Arc<Node>, job: JobId, order: Order, seated: bool) -> Done {
    let folder = node.bundle_folder(job);
    let fetched = bundle::obtain(node.store.as_ref(), &order, &folder, node.bounds()).await;
    let fitting = match fetched {
        Ok(bundle) if !seated => fitting(&node, bundle).await,
        Ok(bundle) => Ok(bundle),
        Err(error) => Err(error),
    };
    let outcome = match fitting {
        Ok(bundle) => environment(&node, job, bundle).await,
        Err(error) => Err(error),
    };
    Done::Fetched { job, outcome }
}

/// The bundle, where this node can run it.
async fn fitting(node: &Node, bundle: Bundle) -> Result<Bundle, BundleError> {
    let package = bundle::first_package(&bundle).await?;
    fits(
        &bundle.manifest,
        bundle.files.keys(),
        package,
        &node.capabilities,
        node.config.max_memory_mib,
    )
    .map_err(BundleError::Unfit)?;
    Ok(bundle)
}

/// Has the executor get what the bundle runs with: before a seat is taken, and not in the time that a run has.
async fn environment(node: &Node, job: JobId, bundle: Bundle) -> Result<Fetched, BundleError> {
    let bundle = Arc::new(bundle);
    let Some(environment) = &bundle.manifest.environment else {
        return Ok(Fetched { bundle, image: None });
    };
    let got = node.executor.obtain_environment(environment).await;
    let got = got.map_err(|error| BundleError::Environment(Box::new(error)))?;
    let mut image = got.content.parse().ok();
    if let Some(id) = image
        && let Err(error) = node.images.need(job, id).await
    {
        debug!(error = error.report(), "{UNKEPT}");
        image = None;
    }
    Ok(Fetched { bundle, image })
}

/// Has the content store keep a job's image until the job has ended, as the executor may need the room for another's. No seat
/// waits for it: the executor has the image now, by whatever way.
pub(super) async fn keep(node: Arc<Node>, image: ContentId) -> Done {
    if let Err(error) = node.images.keep(node.store.as_ref(), image).await {
        debug!(error = error.report(), "{UNKEPT}");
    }
    Done::Kept
}

/// Lets go of images that former runs needed.
pub(super) async fn sweep(node: Arc<Node>) -> Done {
    if let Err(error) = node.images.sweep(node.store.as_ref()).await {
        debug!(error = error.report(), "an image of a former run stays pinned");
    }
    Done::Cleared
}

/// Sends a transaction and waits for its end; it is worth so much per gas, whatever others cost at most.
pub(super) async fn send(
    node: Arc<Node>,
    job: JobId,
    transaction: Transaction,
    call: Call,
    wei_per_gas: u128,
) -> Done {
    let end = match node.sender.paying_up_to(wei_per_gas).send(call).await {
        Ok(outcome) => {
            info!(%transaction, block = outcome.block.number, gas = outcome.gas_used, "mined");
            match transaction {
                Transaction::Claim => crash::point("claim-sent"),
                Transaction::Commit => crash::point("commit-sent"),
                Transaction::Reveal => crash::point("reveal-sent"),
                Transaction::Poke => {}
            }
            TransactionEnd::Mined {
                block: outcome.block.number,
            }
        }
        Err(error) => {
            // seats full, nothing due, revealed by somebody else: the next block tells
            if matches!(error, SendError::Refused { .. }) {
                info!(%transaction, error = error.report(), "not sent");
            } else {
                warn!(%transaction, error = error.report(), "not carried out");
            }
            TransactionEnd::Failed
        }
    };
    Done::Sent {
        job,
        transaction,
        end,
    }
}

/// Runs a job and stores its result.
pub(super) async fn run(
    node: Arc<Node>,
    name: RunName,
    bundle: Option<Arc<Bundle>>,
    bounds: RunBounds,
) -> Done {
    let began = Instant::now();
    let end = match bundle {
        None => RunEnd::BundleLost,
        Some(bundle) => {
            match tokio::time::timeout(bounds.patience, execute::run(&node, &name, &bundle, bounds)).await {
                Ok(Ok(end)) => end,
                Ok(Err(error)) => {
                    warn!(error = error.report(), "the run failed");
                    error.end()
                }
                Err(_) => {
                    warn!("the run took too long");
                    RunEnd::Limit
                }
            }
        }
    };
    node.vitals.ran(&bounds.class, &end, began.elapsed());
    Done::Ran {
        job: name.job,
        attempt: name.attempt,
        end,
    }
}

/// Pays out earnings.
pub(super) async fn withdraw(node: Arc<Node>, tokens: Vec<Token>) -> Done {
    for token in tokens {
        match node
            .sender
            .send(node.deployment().withdraw_node(node.index, token))
            .await
        {
            Ok(outcome) => info!(%token, block = outcome.block.number, "earnings withdrawn"),
            Err(error) if is_payouts(&error) => warn!(
                %token,
                error = error.report(),
                "the payout address does not take the earnings, which stay in the escrow; start the agent with --payout and an \
                 address that takes them"
            ),
            Err(error) => {
                warn!(%token, error = error.report(), "earnings not withdrawn; they stay in the escrow")
            }
        }
    }
    Done::Withdrawn
}

/// Lets go of a job's bundle.
pub(super) async fn clear(node: Arc<Node>, job: JobId, content: ContentDigest) -> Done {
    // first: the store may take its time, and the job may come back meanwhile
    for folder in [node.bundle_folder(job), node.result_folder(job)] {
        if let Err(error) = bundle::clear(&folder).await {
            warn!(error = error.report(), "a folder stays behind");
        }
    }
    if let Err(error) = node.store.unpin(ContentId::from_digest(content)).await {
        debug!(error = error.report(), "the bundle stays pinned");
    }
    // last: it may wait until the store has pinned it
    if let Err(error) = node.images.release(node.store.as_ref(), job).await {
        debug!(error = error.report(), "its environment stays pinned");
    }
    Done::Cleared
}

//! One claimed job from its claim to its end: runs it, or stops when it is told to, and says what became of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::node::Node;
use super::program::Program;
use super::report::{self, Answer};
use super::run::Run;
use super::spool::Taken;
use super::wire::{ClaimedJob, Held, NodeId, Protocol, Unreadable};

/// Longest wait for the executor to take notice that a run is of no more use.
const DISCARD: Duration = Duration::from_secs(2);

/// A job that this node has claimed.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) node: Arc<Node>,
    /// Under which id it was claimed.
    pub(crate) node_id: NodeId,
    pub(crate) held: Held,
    /// What its broker understands.
    pub(crate) protocol: Protocol,
    /// The broker does not want it any more.
    pub(crate) cancel: CancellationToken,
}

impl Task {
    /// Notes on disk that this attempt is under way, and as which run; a broker of old takes nothing back.
    pub(crate) fn note(&self, run: Option<&str>) {
        if self.protocol == Protocol::Plain {
            return;
        }
        let taken = Taken {
            broker: self.node.config.broker_url.clone(),
            node_id: self.node_id.clone(),
            held: self.held.clone(),
            run: run.map(str::to_owned),
        };
        self.node.spool.take_on(taken);
    }

    /// Gives the slot back.
    pub(crate) fn release(&self) {
        self.node.state().end(&self.held);
        self.node.changed.notify_one();
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// There is something to say.
    Answer(Box<Answer>),
    /// It came to nothing here.
    Nothing {
        /// Why.
        reason: String,
        /// Whether another node may have more luck.
        retry: bool,
        /// Whether this node may do as badly with its next job.
        is_fault: bool,
    },
    /// Nobody wants to know.
    Unwanted,
}

/// Runs it and says what became of it.
pub(crate) async fn handle(task: Task, job: Result<ClaimedJob, Unreadable>) {
    task.note(None);
    let began = Instant::now();
    let configured = task.node.config.job_timeout;
    let program = job
        .map_err(|unreadable| unreadable.why)
        .and_then(|job| Program::read(&job, configured));
    let (end, run) = match program {
        Ok(program) => perform(&task, program).await,
        Err(reason) => {
            let end = End::Nothing {
                reason,
                retry: false,
                is_fault: false,
            };
            (end, None)
        }
    };
    let outcome = match &end {
        End::Answer(answer) if answer.completion.exit_code == 0 => "completed",
        End::Answer(_) => "failed",
        End::Nothing { .. } => "nothing",
        End::Unwanted => "unwanted",
    };
    task.node.meters.ended(outcome, began.elapsed());
    match end {
        End::Answer(answer) => {
            task.node.state().sound();
            report::deliver(&task, *answer).await;
            discard(&task, run).await;
        }
        End::Nothing {
            reason,
            retry,
            is_fault,
        } => {
            warn!(reason, retry, "the attempt came to nothing");
            if is_fault && !task.node.abort.is_cancelled() {
                task.node.state().fault(rand::random());
            }
            discard(&task, run).await;
            report::give_up(&task, reason, retry).await;
        }
        End::Unwanted => {
            info!("stopped: nobody wants the answer any more");
            discard(&task, run).await;
            task.release();
            report::forget(&task.node, &task.held).await;
        }
    }
}

/// Runs it until it ends, or is not wanted, or the node has to go. Also the executor's name of the run.
async fn perform(task: &Task, program: Program) -> (End, Option<String>) {
    let mut run = Run::new(task, program);
    let end = tokio::select! {
        biased;
        () = task.cancel.cancelled() => End::Unwanted,
        () = task.node.abort.cancelled() => End::Nothing {
            reason: "the node is shutting down".to_owned(),
            retry: true,
            is_fault: false,
        },
        end = run.go() => end,
    };
    (end, run.id)
}

/// Ends the run on the executor, where it still runs, and has its data deleted.
async fn discard(task: &Task, run: Option<String>) {
    let Some(run) = run else { return };
    match tokio::time::timeout(DISCARD, task.node.executor.cancel(&run)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => debug!(run, %error, "the executor keeps the run's data"),
        Err(_) => debug!(run, "the executor does not say whether it keeps the run's data"),
    }
}

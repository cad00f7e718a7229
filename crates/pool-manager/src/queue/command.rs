//! What the handle sends to the engine's thread, and how answers wait for the commit.

use std::collections::HashMap;
use std::sync::Arc;

use sandrun_core::pool::{ClaimNumber, JobNumber};
use sandrun_store::queue::Living;
use sandrun_types::Attempt;
use tokio::sync::oneshot;

use super::error::QueueError;
use super::push::Begun;
use super::words::{
    Accepted, Claim, Completion, Failure, NodeView, Orders, Printed, Registration, Submission, Work,
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// What each job of a submission became.
pub(super) type Submitted = Vec<Result<Accepted, QueueError>>;

/// Something that the engine is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Submit(Vec<Submission>, Reply<Submitted>),
    Register(Box<Registration>, Reply<String>),
    Heartbeat {
        node: String,
        jobs: Vec<(JobNumber, Attempt)>,
        /// Up to which of its claims all are settled.
        settled: Option<ClaimNumber>,
        reply: Reply<Orders>,
    },
    Claim(Claim, Reply<Vec<Work>>),
    Complete(Box<Completion>, Reply<()>),
    Fail(Failure, Reply<()>),
    Begin(Begun, Reply<()>),
    Print(Printed, Reply<()>),
    Cancel(JobNumber, Reply<()>),
    SetDraining {
        node: String,
        draining: bool,
        reply: Reply<()>,
    },
    Lose(String, Reply<()>),
    Nodes(Reply<Vec<NodeView>>),
    /// These replicas live.
    Living(Living),
    /// Look at the clock and at what others have written.
    Look,
    /// End.
    Stop,
}

impl Command {
    /// Jobs that have to be in memory for it, if they exist at all.
    pub(super) fn jobs(&self) -> Vec<JobNumber> {
        match self {
            Self::Submit(jobs, _) => jobs.iter().flat_map(|it| it.parents.iter().copied()).collect(),
            Self::Complete(completion, _) => vec![completion.job],
            Self::Fail(failure, _) => vec![failure.job],
            Self::Print(printed, _) => vec![printed.job],
            Self::Begin(begun, _) => vec![begun.job],
            Self::Cancel(job, _) => vec![*job],
            Self::Register(..)
            | Self::Heartbeat { .. }
            | Self::Claim(..)
            | Self::SetDraining { .. }
            | Self::Lose(..)
            | Self::Nodes(_)
            | Self::Living(_)
            | Self::Look
            | Self::Stop => Vec::new(),
        }
    }

    /// Bytes of what it brings to be written: requests and files, outputs and receipts.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Submit(jobs, _) => jobs.iter().map(Submission::bytes).sum(),
            Self::Complete(completion, _) => completion.bytes(),
            Self::Print(printed, _) => printed.pieces.iter().map(|(.., text)| text.len()).sum(),
            Self::Register(..)
            | Self::Heartbeat { .. }
            | Self::Claim(..)
            | Self::Fail(..)
            | Self::Begin(..)
            | Self::Cancel(..)
            | Self::SetDraining { .. }
            | Self::Lose(..)
            | Self::Nodes(_)
            | Self::Living(_)
            | Self::Look
            | Self::Stop => 0,
        }
    }

    /// Answers it with an error; whoever asked may have gone.
    pub(super) fn refuse(self, error: &QueueError) {
        fn send<T>(reply: Reply<T>, error: &QueueError) {
            drop(reply.send(Err(error.clone())));
        }
        match self {
            Self::Submit(_, reply) => send(reply, error),
            Self::Register(_, reply) => send(reply, error),
            Self::Heartbeat { reply, .. } => send(reply, error),
            Self::Claim(_, reply) => send(reply, error),
            Self::Complete(_, reply)
            | Self::Fail(_, reply)
            | Self::Print(_, reply)
            | Self::Cancel(_, reply)
            | Self::Begin(_, reply)
            | Self::Lose(_, reply)
            | Self::SetDraining { reply, .. } => send(reply, error),
            Self::Nodes(reply) => send(reply, error),
            Self::Living(_) | Self::Look | Self::Stop => {}
        }
    }
}

/// Requests of leased jobs; `None` for whoever gets the job to read.
pub(super) type Requests = HashMap<JobNumber, Option<Arc<[u8]>>>;

/// How a batch ended, for the answers that wait for it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is on disk; requests of the jobs that were leased in it.
    Committed(Requests),
    /// Nothing of it was written.
    Lost(QueueError),
}

/// An answer that waits for the commit.
pub(super) type Staged = Box<dyn FnOnce(&Outcome) + Send>;

/// Stages a plain answer.
pub(super) fn stage<T: Send + 'static>(reply: Reply<T>, answer: Result<T, QueueError>) -> Staged {
    Box::new(move |outcome| {
        drop(reply.send(match outcome {
            Outcome::Committed(_) => answer,
            Outcome::Lost(error) => Err(error.clone()),
        }));
    })
}

/// Stages work: its requests are read after the commit.
pub(super) fn stage_work(reply: Reply<Vec<Work>>, leases: Vec<(JobNumber, Attempt)>) -> Staged {
    Box::new(move |outcome| {
        drop(reply.send(match outcome {
            Outcome::Committed(requests) => {
                let work = |(job, attempt)| {
                    let request = requests.get(&job)?.clone();
                    Some(Work {
                        job,
                        attempt,
                        request,
                    })
                };
                Ok(leases.into_iter().filter_map(work).collect())
            }
            Outcome::Lost(error) => Err(error.clone()),
        }));
    })
}

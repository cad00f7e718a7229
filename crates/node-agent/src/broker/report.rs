//! Telling the broker what became of a job. An answer that cannot be told now lies on disk and is told later: until the
//! broker has it, says that it does not want it, or a day is over.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sandrun_types::UnixSeconds;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument as _, debug, error, error_span, info, warn};

use super::error::{BrokerError, Meaning};
use super::node::Node;
use super::pace::Backoff;
use super::patience::patiently;
use super::spool::{Spooled, Taken};
use super::task::Task;
use super::wire::{Completion, FailedAttempt, Held, Protocol};

/// How long the first try may take before the answer is put down on disk.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// How long answers are kept: longer than any lease, also one that a broker's pause has made longer.
const KEEP: u64 = 24 * 3600;
/// How long it is tried to give an attempt back; its lease ends it after that.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Longest try to give an attempt back while the node ends.
const GIVE_BACK: Duration = Duration::from_secs(2);
/// Exit code of a job that could not be run, for brokers that know no other way.
const NOT_RUN: i32 = -1;

/// What is to be said about a job that was run.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) protocol: Protocol,
    pub(crate) completion: Completion,
    /// When the job had ended.
    pub(crate) ended: UnixSeconds,
    /// How many of its outputs the broker has.
    uploaded: usize,
}

impl Answer {
    /// An answer of which the broker knows nothing.
    pub(crate) fn new(protocol: Protocol, completion: Completion) -> Self {
        Self {
            protocol,
            completion,
            ended: now(),
            uploaded: 0,
        }
    }

    fn of_disk(spooled: Spooled) -> Self {
        Self {
            protocol: spooled.protocol(),
            ended: spooled.ended,
            completion: spooled.completion,
            uploaded: 0,
        }
    }
}

fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs())
}

/// Tells the broker and gives the slot back after the first try; returns when the broker has it, or at the node's end.
pub(crate) async fn deliver(task: &Task, mut answer: Answer) {
    let node = &task.node;
    let has_files = !answer.completion.outputs.is_empty();
    let (first, is_on_disk) = if has_files {
        // uploads take their time: what was computed is safe before they begin
        let is_on_disk = put_down(node, &answer).await;
        (tell(node, &mut answer).await, is_on_disk)
    } else {
        let tried = timeout(FIRST_TRY, tell(node, &mut answer)).await;
        (tried.unwrap_or(Told::Later(None)), false)
    };
    match first {
        Told::Later(why) => {
            warn!(
                error = why.as_ref().map(|why| why as &dyn std::error::Error),
                "the broker cannot be told now; the answer is kept"
            );
            if !is_on_disk {
                put_down(node, &answer).await;
            }
            node.state().keep_answer(&task.held);
            task.release();
            keep_telling(node, answer, 1).await;
        }
        told @ (Told::Accepted | Told::NotOurs(_) | Told::Never(_)) => {
            task.release();
            conclude(node, &answer, told).await;
        }
    }
}

/// Tells the broker what a former process of this node could not.
pub(crate) async fn resend(node: Arc<Node>, spooled: Spooled) {
    let held = spooled.completion.held();
    let attempt = held.attempt.map(|it| it.0);
    let span = error_span!("job", job = %held.id, attempt, node = %spooled.completion.node_id);
    keep_telling(&node, Answer::of_disk(spooled), 0)
        .instrument(span)
        .await;
}

/// Gives back what a former process of this node had under way when it died.
pub(crate) async fn give_back(node: Arc<Node>, orphan: Taken) {
    let Taken {
        node_id, held, run, ..
    } = orphan;
    let attempt = held.attempt.map(|it| it.0);
    let span = error_span!("job", job = %held.id, attempt, node = %node_id);
    let give = async {
        if let Some(run) = run
            && let Err(error) = node.executor.cancel(&run).await
        {
            debug!(run, %error, "the executor keeps the run");
        }
        let failed = FailedAttempt {
            node_id: &node_id,
            reason: "the node died and was started again",
            retry: true,
        };
        let told = patiently(
            |error: &BrokerError| error.meaning() == Meaning::Later,
            || node.broker.fail(&held, &failed),
        );
        let told = tokio::select! {
            // it stays on disk
            () = node.stop.cancelled() => return,
            told = told => told,
        };
        match told {
            Ok(()) => info!("gave back what a former process had under way"),
            Err(error) => info!(%error, "nothing to give back"),
        }
        forget(&node, &held).await;
    };
    give.instrument(span).await;
}

async fn keep_telling(node: &Arc<Node>, mut answer: Answer, mut failures: u32) {
    loop {
        let pause = match failures {
            0 => Duration::ZERO,
            _ => Backoff::USUAL.pause(failures, rand::random()),
        };
        tokio::select! {
            // it stays on disk
            () = node.stop.cancelled() => return,
            () = sleep(pause) => {}
        }
        let told = tokio::select! {
            () = node.stop.cancelled() => return,
            told = tell(node, &mut answer) => told,
        };
        if let Told::Later(_) = told
            && now().0 < answer.ended.0.saturating_add(KEEP)
        {
            failures = failures.saturating_add(1);
            continue;
        }
        node.state().drop_answer(&answer.completion.held());
        node.changed.notify_one();
        return conclude(node, &answer, told).await;
    }
}

/// What came of one try.
#[derive(Debug)]
enum Told {
    /// The broker has it.
    Accepted,
    /// The broker does not want it from this node any more.
    NotOurs(BrokerError),
    /// The broker will never take it.
    Never(BrokerError),
    /// The broker cannot be told now.
    Later(Option<BrokerError>),
}

async fn tell(node: &Node, answer: &mut Answer) -> Told {
    match try_to_tell(node, answer).await {
        Ok(()) => Told::Accepted,
        Err(error) => match error.meaning() {
            Meaning::NotOurs => Told::NotOurs(error),
            Meaning::Never => Told::Never(error),
            Meaning::Later => Told::Later(Some(error)),
        },
    }
}

async fn try_to_tell(node: &Node, answer: &mut Answer) -> Result<(), BrokerError> {
    let completion = &answer.completion;
    let held = completion.held();
    for file in completion.outputs.iter().skip(answer.uploaded) {
        let from = node
            .spool
            .work_folder(&held)
            .join("outputs")
            .join(file.path.as_str());
        node.broker
            .upload(&held, &completion.node_id, file, &from)
            .await?;
        answer.uploaded += 1;
    }
    match answer.protocol {
        Protocol::Two => node.completions.tell(completion.clone()).await,
        Protocol::Plain => node.broker.complete(completion).await,
    }
}

async fn conclude(node: &Arc<Node>, answer: &Answer, told: Told) {
    let held = answer.completion.held();
    node.meters.told(match &told {
        Told::Accepted => "accepted",
        Told::NotOurs(_) => "not_ours",
        Told::Never(_) => "refused",
        Told::Later(_) => "too_late",
    });
    match told {
        Told::Accepted => debug!(
            exit_code = answer.completion.exit_code,
            "the broker has the answer"
        ),
        Told::NotOurs(error) => warn!(%error, "dropped the answer: the attempt is not this node's any more"),
        Told::Never(error) => {
            error!(
                error = &error as &dyn std::error::Error,
                "dropped the answer: the broker does not take it"
            );
            let failed = FailedAttempt {
                node_id: &answer.completion.node_id,
                reason: &format!("the broker does not take the answer: {error}"),
                retry: false,
            };
            if answer.protocol == Protocol::Two
                && let Err(error) = node.broker.fail(&held, &failed).await
            {
                warn!(%error, "the broker cannot be told so; the lease ends the attempt");
            }
        }
        Told::Later(_) => error!("dropped the answer: the broker could not be told for a day"),
    }
    forget(node, &held).await;
}

/// Removes what lies on disk for an attempt.
pub(crate) async fn forget(node: &Arc<Node>, held: &Held) {
    if !node.spool.let_go(held) {
        return;
    }
    let (node, held) = (Arc::clone(node), held.clone());
    let removed = tokio::task::spawn_blocking(move || node.spool.remove(&held)).await;
    match removed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "cannot remove an attempt's files; the next start will"),
        Err(error) => warn!(%error, "cannot remove an attempt's files; the next start will"),
    }
}

/// Whether the answer is safe on disk now.
async fn put_down(node: &Arc<Node>, answer: &Answer) -> bool {
    let spooled = Spooled {
        broker: node.config.broker_url.clone(),
        ended: answer.ended,
        is_protocol_two: answer.protocol == Protocol::Two,
        completion: answer.completion.clone(),
    };
    let for_disk = Arc::clone(node);
    let put = tokio::task::spawn_blocking(move || for_disk.spool.put(&spooled)).await;
    let put = put.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = &put {
        error!(%error, "the answer cannot be put on disk; it is lost if this node ends before the broker has it");
    }
    put.is_ok()
}

/// Says that an attempt came to nothing.
pub(crate) async fn give_up(task: &Task, reason: String, retry: bool) {
    let node = &task.node;
    match task.protocol {
        Protocol::Two => {
            let is_ending = node.abort.is_cancelled();
            if is_ending {
                let told = timeout(GIVE_BACK, tell_failure(task, &reason, retry, false)).await;
                if told.is_err() {
                    info!("the broker does not answer; the lease ends the attempt");
                }
                task.release();
            } else {
                // the slot is free, and the attempt is this node's until the broker knows
                node.state().give_up(&task.held);
                task.release();
                tell_failure(task, &reason, retry, true).await;
                node.state().has_given_up(&task.held);
            }
            forget(node, &task.held).await;
        }
        // gone nodes' jobs go back by themselves
        Protocol::Plain if node.abort.is_cancelled() => {
            task.release();
            forget(node, &task.held).await;
        }
        Protocol::Plain => {
            let completion = Completion {
                node_id: task.node_id.clone(),
                job_id: task.held.id.clone(),
                output: String::new(),
                error: reason,
                output_base64: None,
                error_base64: None,
                exit_code: NOT_RUN,
                attempt: task.held.attempt,
                outputs: Vec::new(),
                explanation: String::new(),
                receipt: None,
                signature: None,
                worker_id: None,
            };
            deliver(task, Answer::new(Protocol::Plain, completion)).await;
        }
    }
}

async fn tell_failure(task: &Task, reason: &str, retry: bool, again: bool) {
    let node = &task.node;
    let failed = FailedAttempt {
        node_id: &task.node_id,
        reason,
        retry,
    };
    let (began, mut failures) = (Instant::now(), 0);
    loop {
        let Err(error) = node.broker.fail(&task.held, &failed).await else {
            return;
        };
        if error.meaning() != Meaning::Later || !again || began.elapsed() > GIVE_UP {
            warn!(%error, "the broker cannot be told so; the lease ends the attempt");
            return;
        }
        failures += 1;
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = sleep(Backoff::USUAL.pause(failures, rand::random())) => {}
        }
    }
}

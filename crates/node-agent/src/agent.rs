//! The loop around [`sandrun_core::seat`]: hears the chain and the ends of its own tasks, tells each job's machine, and
//! performs what it answers.
//!
//! Decides nothing about a job: that is the machine's. One task owns all state and is never blocked for longer than a
//! journal entry takes; whatever waits for a network is a task of its own whose end comes back as a [`Done`].

mod chain;
mod consider;
mod holding;
mod perform;
mod picture;
mod room;
mod survey;
mod tracked;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sandrun_chain::{ChainUpdate, Cursor, Head, Watch};
use sandrun_core::seat::{Event, FetchFailure, Gate, RunEnd, Transaction, TransactionEnd};
use sandrun_store::{Journal, Note};
use sandrun_types::{Attempt, JobId, UnixSeconds};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{Instrument as _, Span, debug, error, error_span, info, warn};

use crate::bundle::BundleError;
use crate::error::{AgentError, Report as _};
use crate::health::Health;
use crate::node::Node;
use holding::HeldBack;
use survey::{Survey, SurveyError};
use tracked::Tracked;

/// How often machines hear that time has passed.
const TICK: Duration = Duration::from_secs(1);
/// How long tasks have to end after the shutdown signal.
const GRACE: Duration = Duration::from_secs(3);

/// The end of a task.
enum Done {
    Fetched {
        job: JobId,
        outcome: Result<work::Fetched, BundleError>,
    },
    Ran {
        job: JobId,
        attempt: Attempt,
        end: RunEnd,
    },
    Sent {
        job: JobId,
        transaction: Transaction,
        end: TransactionEnd,
    },
    Surveyed(Box<Result<Survey, SurveyError>>),
    /// Whether the executor has run a trivial program.
    Probed(bool),
    Withdrawn,
    /// The content store keeps an image, or cannot.
    Kept,
    Cleared,
}

/// The newest block, and when it was seen.
struct Seen {
    head: Head,
    at: Instant,
}

/// A running agent.
pub(crate) struct Agent {
    node: Arc<Node>,
    journal: Journal,
    gate: Gate,
    jobs: BTreeMap<JobId, Tracked>,
    seen: Option<Seen>,
    tasks: JoinSet<Done>,
    /// The last look at balances and tickets.
    survey: Option<Survey>,
    /// Whether one is under way, and whether another is due after it.
    surveying: bool,
    survey_due: bool,
    /// Whether earnings have changed since they were last looked at.
    earnings_due: bool,
    withdrawing: bool,
    /// The executor, as its runs tell.
    health: Health,
    /// Why no seat is taken now, whatever the job.
    held_back: Option<HeldBack>,
    /// The block that the journal names for a restart.
    resume_from: u64,
}

impl Agent {
    /// An agent that has nothing under way yet; `resume_from` is the first block that it has to read.
    pub(crate) fn new(node: Arc<Node>, journal: Journal, gate: Gate, resume_from: u64) -> Self {
        Self {
            node,
            journal,
            gate,
            jobs: BTreeMap::new(),
            seen: None,
            tasks: JoinSet::new(),
            survey: None,
            surveying: false,
            survey_due: false,
            earnings_due: true,
            withdrawing: false,
            health: Health::default(),
            held_back: None,
            resume_from,
        }
    }

    /// Works until `shutdown` resolves.
    pub(crate) async fn drive(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        self.tasks.spawn(work::sweep(self.node.clone()));
        let mut watch = self.watch();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        let result = loop {
            let step = tokio::select! {
                () = &mut shutdown => break Ok(()),
                update = watch.next() => match update {
                    Some(Ok(update)) => self.heard(update),
                    Some(Err(error)) if !error.is_final() => {
                        warn!(%error, "the chain cannot be read");
                        Ok(())
                    }
                    ended => {
                        warn!(error = ended.and_then(Result::err).map(|it| it.to_string()), "reading the chain anew");
                        self.forget_the_chain();
                        watch = self.watch();
                        Ok(())
                    }
                },
                Some(done) = self.tasks.join_next() => self.done(done),
                _ = tick.tick() => self.tick(),
            };
            if let Err(error) = step {
                error!(%error, "the agent stops");
                break Err(error);
            }
        };
        self.stop().await;
        result
    }

    fn watch(&self) -> Watch {
        self.node.reader.watch(Cursor::from_block(self.resume_from), [])
    }

    /// Everything that was made of the chain is made anew: the journal holds what matters.
    fn forget_the_chain(&mut self) {
        self.health.probed(self.now(), false);
        self.tasks.abort_all();
        self.jobs.clear();
        self.seen = None;
        self.surveying = false;
        self.withdrawing = false;
    }

    /// What is in flight is in the journal already: end what runs and go.
    async fn stop(&mut self) {
        info!(
            jobs = self
                .jobs
                .values()
                .filter(|job| job.seat.state().has_bond())
                .count(),
            "the agent ends"
        );
        self.tasks.abort_all();
        let drained =
            tokio::time::timeout(GRACE, async { while self.tasks.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            warn!("some tasks did not end in time");
        }
    }

    fn heard(&mut self, update: ChainUpdate) -> Result<(), AgentError> {
        match update {
            ChainUpdate::Applied(logged) => self.applied(logged),
            ChainUpdate::Undone(logged) => self.undone(logged),
            ChainUpdate::Head(head) => self.new_head(head),
        }
    }

    fn done(&mut self, done: Result<Done, JoinError>) -> Result<(), AgentError> {
        let done = match done {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => return Ok(()),
            Err(error) => return Err(AgentError::Task(error)),
        };
        match done {
            Done::Fetched { job, outcome } => self.fetched(job, outcome),
            Done::Ran { job, attempt, end } => self.ran(job, attempt, end),
            Done::Sent {
                job,
                transaction,
                end,
            } => self.feed(job, Event::Sent { transaction, end }),
            Done::Surveyed(outcome) => self.surveyed(*outcome),
            Done::Probed(has_worked) => {
                self.health.probed(self.now(), has_worked);
                Ok(())
            }
            Done::Withdrawn => {
                self.withdrawing = false;
                Ok(())
            }
            Done::Kept | Done::Cleared => Ok(()),
        }
    }

    fn ran(&mut self, job: JobId, attempt: Attempt, end: RunEnd) -> Result<(), AgentError> {
        match end {
            RunEnd::Result(_) => self.health.run_worked(),
            RunEnd::ExecutorFailed => self.health.run_failed(self.now()),
            // of the program, or of the bundle
            RunEnd::Limit | RunEnd::BundleLost => {}
        }
        let end = self.node.misreport(end);
        self.feed(job, Event::Ran { attempt, end })
    }

    fn fetched(&mut self, job: JobId, outcome: Result<work::Fetched, BundleError>) -> Result<(), AgentError> {
        self.node.vitals.fetched(outcome.is_ok());
        if let Some(tracked) = self.jobs.get_mut(&job) {
            tracked.fetching = false;
            tracked.fetch_failed = outcome.is_err();
        }
        let told = match outcome {
            Ok(_) if self.jobs.get(&job).is_none_or(Tracked::is_over) => {
                // nobody wants it any more, and its folder would stay
                self.let_go(job);
                Err(FetchFailure::NotFound)
            }
            Ok(work::Fetched { bundle, image }) => {
                crate::crash::point("bundle-held");
                if let Some(tracked) = self.jobs.get_mut(&job) {
                    tracked.bundle = Some(bundle);
                    tracked.trouble.clear();
                    if let Some(image) = image {
                        let span = tracked.span(job, self.node.index);
                        let keep = work::keep(self.node.clone(), image);
                        self.tasks.spawn(keep.instrument(span));
                    }
                }
                Ok(())
            }
            Err(error) => {
                // it is tried again with each block
                self.complain(job, &error.report(), "the bundle is not held");
                Err(error.failure())
            }
        };
        self.feed(job, Event::Fetched(told))
    }

    /// Says what is wrong with a job's bundle, if that was not said last.
    fn complain(&mut self, job: JobId, text: &str, what: &'static str) {
        if self.jobs.get_mut(&job).is_some_and(|it| it.trouble.is_news(text)) {
            self.span(job).in_scope(|| warn!(error = text, what));
        }
    }

    /// Clears what a fetch has left of a job that is over.
    fn let_go(&mut self, job: JobId) {
        if let Some(tracked) = self.jobs.get(&job) {
            let clear = work::clear(self.node.clone(), job, tracked.order.bundle);
            self.tasks.spawn(clear);
        }
    }

    fn tick(&mut self) -> Result<(), AgentError> {
        for job in self.live_jobs() {
            self.feed(job, Event::Tick)?;
        }
        self.node.vitals.show(self.standing_now());
        Ok(())
    }

    /// What each line of the log about a job says.
    fn span(&self, job: JobId) -> Span {
        match self.jobs.get(&job) {
            Some(tracked) => tracked.span(job, self.node.index),
            None => error_span!("job", %job),
        }
    }

    /// Jobs whose machine may still have something to do.
    fn live_jobs(&self) -> Vec<JobId> {
        self.jobs
            .iter()
            .filter(|(_, job)| job.over_since.is_none())
            .map(|(id, _)| *id)
            .collect()
    }

    /// The chain's time: the head's timestamp and what has passed since it was seen.
    fn now(&self) -> UnixSeconds {
        self.seen.as_ref().map_or_else(UnixSeconds::default, |seen| {
            seen.head.timestamp.plus(seen.at.elapsed().as_secs())
        })
    }

    /// Writes from where a restart has to read, when it has moved on by some blocks.
    fn note_progress(&mut self, head: u64) -> Result<(), AgentError> {
        const STRIDE: u64 = 32;
        let oldest = self
            .jobs
            .values()
            .filter(|job| job.over_since.is_none())
            .map(|job| job.posted)
            .min();
        let resume_from = oldest.unwrap_or(head).min(head);
        if resume_from >= self.resume_from.saturating_add(STRIDE) {
            self.journal.set_note(Note::ResumeFrom, &resume_from)?;
            debug!(resume_from, "progress noted");
            self.resume_from = resume_from;
        }
        Ok(())
    }
}

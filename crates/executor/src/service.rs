//! The task that owns the registry: it feeds events in and performs the actions that come out.
//!
//! Sole owner of the state; everybody else asks through [`Service`]. Runs are blocking and have threads of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use sandrun_sandbox::{RunError, Sandbox};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id as TaskId, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::id::RunId;
use crate::job::{self, Ended, Job, JobFolder, Stage};
use crate::jobs::{Action, Event, Moment, Phase, QuotaView, Registry, RegistryError, Rules};
use crate::meters::Meters;
use crate::runner::{self, Finished};
use crate::wire::JobState;
use crate::worker_key::WorkerKey;

/// What a job looks like from outside at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) job: Arc<Job>,
    pub(crate) phase: Phase<Arc<Ended>>,
    /// Its place in the queue; 1 is next, 0 waits no more.
    pub(crate) position: usize,
}

/// The service is stopping and answers no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is shutting down")]
pub(crate) struct Stopped;

type Reply<T> = oneshot::Sender<T>;

enum Command {
    MaySubmit {
        client: IpAddr,
        reply: Reply<Result<(), RegistryError>>,
    },
    Submit {
        client: IpAddr,
        job: Arc<Job>,
        reply: Reply<Result<usize, RegistryError>>,
    },
    Look {
        id: RunId,
        reply: Reply<Option<Snapshot>>,
    },
    Delivered {
        id: RunId,
    },
    Discard {
        id: RunId,
    },
    Stats {
        client: IpAddr,
        reply: Reply<ServiceStats>,
    },
    Load {
        reply: Reply<Load>,
    },
    Cancel {
        id: RunId,
        reply: Reply<Result<JobState, CancelRefused>>,
    },
}

/// Why there is nothing to cancel or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelRefused {
    /// There is no such job.
    Unknown,
    /// Its data went before.
    Deleted,
}

/// The numbers of `GET /stats`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceStats {
    pub(crate) quota: QuotaView,
    pub(crate) queued: usize,
    pub(crate) running: usize,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) queued: usize,
    pub(crate) running: usize,
    /// Remembered still.
    pub(crate) ended: usize,
    /// Bytes of their data.
    pub(crate) kept_bytes: u64,
}

/// How to ask the task. Clones are the same service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    commands: mpsc::Sender<Command>,
}

impl Service {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Whether this client may submit now, before its upload is read.
    pub(crate) async fn may_submit(&self, client: IpAddr) -> Result<Result<(), RegistryError>, Stopped> {
        self.ask(|reply| Command::MaySubmit { client, reply }).await
    }

    /// Queues a job; answers with its place in the queue at that moment.
    pub(crate) async fn submit(
        &self,
        client: IpAddr,
        job: Arc<Job>,
    ) -> Result<Result<usize, RegistryError>, Stopped> {
        self.ask(|reply| Command::Submit { client, job, reply }).await
    }

    /// A job as it is now.
    pub(crate) async fn look(&self, id: RunId) -> Result<Option<Snapshot>, Stopped> {
        self.ask(|reply| Command::Look { id, reply }).await
    }

    /// All outputs of a job were sent: its data goes. Never waits, so that it can be called from a body's end.
    pub(crate) fn delivered(&self, id: RunId) {
        let commands = self.commands.clone();
        tokio::spawn(async move { commands.send(Command::Delivered { id }).await.ok() });
    }

    /// All that there is of an ended job was sent, and nobody will ask for it again: it is forgotten. Never waits.
    pub(crate) fn discard(&self, id: RunId) {
        let commands = self.commands.clone();
        tokio::spawn(async move { commands.send(Command::Discard { id }).await.ok() });
    }

    /// As [`Self::cancel`] where nobody waits for the answer.
    pub(crate) fn abandon(&self, id: RunId) {
        let service = self.clone();
        tokio::spawn(async move { service.cancel(id).await.ok() });
    }

    /// Ends a job that waits or runs; deletes the data of one that has ended. Answers with how it ends.
    pub(crate) async fn cancel(&self, id: RunId) -> Result<Result<JobState, CancelRefused>, Stopped> {
        self.ask(|reply| Command::Cancel { id, reply }).await
    }

    pub(crate) async fn load(&self) -> Result<Load, Stopped> {
        self.ask(|reply| Command::Load { reply }).await
    }

    pub(crate) async fn stats(&self, client: IpAddr) -> Result<ServiceStats, Stopped> {
        self.ask(|reply| Command::Stats { client, reply }).await
    }
}

/// What the task works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) key: Option<WorkerKey>,
    pub(crate) meters: Arc<Meters>,
    /// The folder that holds the jobs' folders.
    pub(crate) jobs: PathBuf,
}

struct Task {
    registry: Registry<Arc<Job>, Arc<Ended>>,
    tools: Tools,
    commands: mpsc::Receiver<Command>,
    runs: JoinSet<Finished>,
    /// Which job each task of `runs` is for.
    running: HashMap<TaskId, RunId>,
    deletions: JoinSet<()>,
    started: Instant,
}

/// Starts the task. It runs until `shutdown`, then ends every job, and is over when the last one is.
pub(crate) fn spawn(
    rules: Rules,
    tools: Tools,
    shutdown: CancellationToken,
) -> (Service, tokio::task::JoinHandle<()>) {
    let (sender, commands) = mpsc::channel(64);
    let task = Task {
        registry: Registry::new(rules),
        tools,
        commands,
        runs: JoinSet::new(),
        running: HashMap::new(),
        deletions: JoinSet::new(),
        started: Instant::now(),
    };
    (Service { commands: sender }, tokio::spawn(task.work(shutdown)))
}

impl Task {
    fn now(&self) -> Moment {
        self.started.elapsed()
    }

    async fn work(mut self, shutdown: CancellationToken) {
        loop {
            let deadline = self.registry.next_deadline().map(|at| self.started + at);
            let far = Instant::now() + std::time::Duration::from_secs(3600);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(command) = self.commands.recv() => self.obey(command),
                Some(run) = self.runs.join_next_with_id() => self.run_ended(run),
                Some(_) = self.deletions.join_next() => {}
                () = sleep_until(deadline.unwrap_or(far)) => self.apply(Event::Tick),
            }
        }
        self.stop().await;
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        // Whoever asked may have gone: then nobody reads the answer.
        match command {
            Command::MaySubmit { client, reply } => {
                let _ = reply.send(self.registry.may_submit(now, client));
            }
            Command::Submit { client, job, reply } => {
                let _ = reply.send(self.submit(now, client, job));
            }
            Command::Look { id, reply } => {
                let _ = reply.send(self.look(id));
            }
            Command::Delivered { id } => self.apply(Event::Delivered { id }),
            Command::Discard { id } => self.apply(Event::Discarded { id }),
            Command::Stats { client, reply } => {
                let (queued, running) = self.registry.load();
                let quota = self.registry.quota_view(now, client);
                let _ = reply.send(ServiceStats {
                    quota,
                    queued,
                    running,
                });
            }
            Command::Load { reply } => {
                let (queued, running) = self.registry.load();
                let _ = reply.send(Load {
                    queued,
                    running,
                    ended: self.registry.ended(),
                    kept_bytes: self.registry.kept_bytes(),
                });
            }
            Command::Cancel { id, reply } => {
                let _ = reply.send(self.cancel(id));
            }
        }
    }

    fn cancel(&mut self, id: RunId) -> Result<JobState, CancelRefused> {
        let (job, phase, _) = self.registry.job(id).ok_or(CancelRefused::Unknown)?;
        match phase {
            Phase::Running => {
                job.span.in_scope(|| tracing::info!("cancelled while it ran"));
                job.cancel.cancel();
                Ok(JobState::Failed)
            }
            Phase::Queued => {
                let key = self.tools.key.as_ref();
                let finished = runner::never_run(job, RunError::Cancelled, key);
                job.span.in_scope(|| tracing::info!("cancelled while it waited"));
                self.finish(id, finished);
                Ok(JobState::Failed)
            }
            Phase::Ended { report, .. } => {
                let state = report.state;
                self.apply(if job.is_discarded {
                    Event::Discarded { id }
                } else {
                    Event::Delivered { id }
                });
                Ok(state)
            }
            Phase::Delivered { .. } => Err(CancelRefused::Deleted),
        }
    }

    fn submit(&mut self, now: Moment, client: IpAddr, job: Arc<Job>) -> Result<usize, RegistryError> {
        let id = job.id;
        let position = self.registry.load().0 + 1;
        let span = job.span.clone();
        let actions = self.registry.apply(now, Event::Submitted { id, client, job })?;
        span.in_scope(|| tracing::debug!(position, "queued"));
        self.perform(actions);
        Ok(position)
    }

    fn look(&self, id: RunId) -> Option<Snapshot> {
        let (job, phase, position) = self.registry.job(id)?;
        Some(Snapshot {
            job: Arc::clone(job),
            phase: phase.clone(),
            position,
        })
    }

    fn apply(&mut self, event: Event<Arc<Job>, Arc<Ended>>) {
        match self.registry.apply(self.now(), event) {
            Ok(actions) => self.perform(actions),
            Err(error) => tracing::debug!(%error, "dropped an event that came too late"),
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(id) => self.start(id),
                Action::DeleteData(id) => {
                    let folder = JobFolder::path_of(&self.tools.jobs, id);
                    self.deletions.spawn_blocking(move || job::delete(&folder));
                }
            }
        }
    }

    fn start(&mut self, id: RunId) {
        let Some((job, _, _)) = self.registry.job(id) else {
            return;
        };
        let job = Arc::clone(job);
        let (sandbox, key) = (Arc::clone(&self.tools.sandbox), self.tools.key.clone());
        job.stage.send_replace(Stage::Running);
        job.span.in_scope(|| tracing::debug!("started"));
        let task = self
            .runs
            .spawn_blocking(move || job.span.in_scope(|| runner::run(&sandbox, &job, key.as_ref())));
        self.running.insert(task.id(), id);
    }

    fn run_ended(&mut self, run: Result<(TaskId, Finished), JoinError>) {
        let task = run.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(id) = self.running.remove(&task) else {
            return;
        };
        match run {
            Ok((_, finished)) => self.finish(id, finished),
            Err(error) => {
                let Some((job, _, _)) = self.registry.job(id) else {
                    return;
                };
                job.span
                    .in_scope(|| tracing::error!(%error, "a run's thread died"));
                let why = RunError::Internal(error.to_string());
                let finished = runner::never_run(job, why, self.tools.key.as_ref());
                self.finish(id, finished);
            }
        }
    }

    fn finish(&mut self, id: RunId, finished: Finished) {
        let Some((job, _, _)) = self.registry.job(id) else {
            return;
        };
        let job = Arc::clone(job);
        let line = finished.done_line();
        let receipt = &finished.ended.receipt;
        self.tools.meters.ended(job.class.0, receipt, finished.cpu);
        job.span.in_scope(|| {
            tracing::debug!(outcome = %receipt.outcome, exit_code = receipt.exit_code, "ended");
        });
        let Finished {
            verdict,
            cpu,
            bytes,
            ended,
        } = finished;
        self.apply(Event::Finished {
            id,
            verdict,
            cpu,
            bytes,
            report: Arc::new(ended),
        });
        job.close();
        // After the registry knows: whoever is told that the job ended finds it ended.
        job.stage.send_replace(Stage::Ended(line));
    }

    /// Ends every job: waiting ones at once, running ones as soon as all their processes are dead.
    async fn stop(mut self) {
        self.commands.close();
        for id in self.registry.active() {
            let Some((job, phase, _)) = self.registry.job(id) else {
                continue;
            };
            match phase {
                Phase::Running => job.cancel.cancel(),
                Phase::Queued => {
                    let key = self.tools.key.as_ref();
                    let finished = runner::never_run(job, RunError::Cancelled, key);
                    self.finish(id, finished);
                }
                Phase::Ended { .. } | Phase::Delivered { .. } => {}
            }
        }
        while let Some(run) = self.runs.join_next_with_id().await {
            self.run_ended(run);
        }
        while self.deletions.join_next().await.is_some() {}
    }
}

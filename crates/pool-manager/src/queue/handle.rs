//! The handle: how everybody else asks the engine. Clones are the same queue.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use sandrun_core::pool::{ClaimNumber, JobNumber};
use sandrun_store::queue::{Living, QueueStore, ReplicaId};
use sandrun_types::{Attempt, UnixSeconds};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};

use super::claims::Waiters;
use super::command::{Command, Reply, Submitted};
use super::engine::{Engine, remember};
use super::error::QueueError;
use super::follow::Followers;
use super::ids::IdKey;
use super::push::{Begun, Push, Pushes};
use super::runs::Replicas;
use super::settings::{Clock, QueueSettings};
use super::stats::{Board, QueueStats};
use super::words::{Claim, Completion, Failure, NodeView, Orders, Printed, Registration, Submission, Work};

/// Name under which the store keeps the key of ids.
const ID_KEY: &str = "id-key";

/// A running queue. Every answer is given after what it says is on disk.
#[derive(Debug, Clone)]
pub struct Queue {
    commands: Sender<Command>,
    ids: IdKey,
    settings: QueueSettings,
    clock: Clock,
    board: Arc<Board>,
    followers: Followers,
    pushes: Pushes,
    awaits_look: Arc<AtomicBool>,
}

/// The engine's thread, to be waited for after [`Queue::stop`].
#[derive(Debug)]
pub struct QueueThread {
    handle: JoinHandle<()>,
    /// Closed when the thread ends, however it does.
    ended: oneshot::Receiver<Infallible>,
}

impl QueueThread {
    /// Waits until the engine has ended. Blocks.
    pub fn join(self) {
        if self.handle.join().is_err() {
            tracing::error!("the queue's thread died");
        }
    }

    /// Is done when the engine has ended: told to, or because its thread died.
    pub async fn ended(&mut self) {
        match (&mut self.ended).await {
            Ok(never) => match never {},
            Err(_closed) => {}
        }
    }
}

impl Queue {
    /// Loads the queue and starts its thread. Blocks while it loads: call it where that is allowed.
    ///
    /// # Errors
    /// [`QueueError::Store`] where the store can't be read, or no thread can be started.
    pub fn start(
        store: Box<dyn QueueStore>,
        settings: QueueSettings,
        clock: Clock,
    ) -> Result<(Self, QueueThread), QueueError> {
        Self::start_replica(store, settings, clock, None)
    }

    /// As [`Self::start`], as this replica of a service whose leases are carried: each of its runs is carried by one of
    /// them. [`Self::living`] says which ones there are.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_replica(
        mut store: Box<dyn QueueStore>,
        settings: QueueSettings,
        clock: Clock,
        me: Option<ReplicaId>,
    ) -> Result<(Self, QueueThread), QueueError> {
        // the first call: it is what connects
        let all = store.load().map_err(|error| QueueError::from(&error))?;
        let kept = store
            .keep(ID_KEY, &rand::random::<[u8; 32]>())
            .map_err(|error| QueueError::from(&error))?;
        let key: [u8; 32] = kept
            .try_into()
            .map_err(|_| QueueError::Store("the key of its ids is not 32 bytes long".to_owned()))?;
        let ids = IdKey::new(key, settings.id_prefix);
        // nobody could be heard while the service was down: a restart ends no lease and loses no node
        let patient_until = UnixSeconds(clock.now() / 1_000).plus(u64::from(settings.node_timeout));
        let mut memory = remember(store.as_mut(), settings, ids, &all, patient_until)?;
        drop(all);
        if memory.pool.nodes().next().is_none() {
            memory.be_impatient();
        }
        let (commands, receiver) = channel();
        let (board, followers) = (Arc::new(Board::default()), Followers::default());
        board.write(|stats| {
            stats.counts = memory.pool.counts();
            stats.ever = memory.last_job;
        });
        let pushes = Pushes::default();
        let awaits_look = Arc::new(AtomicBool::new(false));
        let engine = Engine {
            store,
            commands: receiver,
            late: Vec::new(),
            settings,
            ids,
            clock: clock.clone(),
            board: Arc::clone(&board),
            durable: Arc::new(AtomicU64::new(memory.last_job)),
            is_troubled: Arc::default(),
            followers: followers.clone(),
            memory: Some(memory),
            waiters: Waiters::default(),
            pushes: pushes.clone(),
            replicas: Replicas::new(me, Arc::clone(&awaits_look)),
        };
        let (alive, ended) = oneshot::channel();
        let handle = std::thread::Builder::new()
            .name("queue".to_owned())
            .spawn(move || {
                let _alive: oneshot::Sender<Infallible> = alive;
                engine.run();
            })
            .map_err(|error| QueueError::Store(format!("its thread can't be started: {error}")))?;
        let queue = Self {
            commands,
            ids,
            settings,
            clock,
            board,
            followers,
            pushes,
            awaits_look,
        };
        Ok((queue, QueueThread { handle, ended }))
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .map_err(|_| QueueError::Stopped)?;
        answer.await.map_err(|_| QueueError::Stopped)?
    }

    /// Accepts jobs, each by itself: what one became does not depend on the others.
    ///
    /// # Errors
    /// [`QueueError`] where none of them was written; inside, why one was refused.
    pub async fn submit(&self, jobs: Vec<Submission>) -> Result<Submitted, QueueError> {
        self.ask(|reply| Command::Submit(jobs, reply)).await
    }

    /// Takes a node in; its id.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn register(&self, node: Registration) -> Result<String, QueueError> {
        self.ask(|reply| Command::Register(Box::new(node), reply)).await
    }

    /// A node is alive and works on these attempts.
    ///
    /// # Errors
    /// [`QueueError::UnknownNode`], and where the queue can't be written.
    pub async fn heartbeat(
        &self,
        node: String,
        jobs: Vec<(JobNumber, Attempt)>,
    ) -> Result<Orders, QueueError> {
        self.heartbeat_after(node, jobs, None).await
    }

    /// As [`Self::heartbeat`]; of what the node was given in its claims up to `settled` it has these attempts and no
    /// others.
    ///
    /// # Errors
    /// As [`Self::heartbeat`].
    pub async fn heartbeat_after(
        &self,
        node: String,
        jobs: Vec<(JobNumber, Attempt)>,
        settled: Option<ClaimNumber>,
    ) -> Result<Orders, QueueError> {
        self.ask(|reply| Command::Heartbeat {
            node,
            jobs,
            settled,
            reply,
        })
        .await
    }

    /// Work for a node: as soon as there is some, or none after it has waited as long as it wants to. Dropping the
    /// future ends the wait.
    ///
    /// # Errors
    /// [`QueueError::UnknownNode`], and where the queue can't be written.
    pub async fn claim(&self, claim: Claim) -> Result<Vec<Work>, QueueError> {
        self.ask(|reply| Command::Claim(claim, reply)).await
    }

    /// A node has run a job. A repeat of what was accepted is accepted.
    ///
    /// # Errors
    /// [`QueueError::Illegal`] for an unknown job or a stale attempt, [`QueueError::HoldsNone`].
    pub async fn complete(&self, completion: Completion) -> Result<(), QueueError> {
        self.ask(|reply| Command::Complete(Box::new(completion), reply))
            .await
    }

    /// An attempt came to nothing at its node.
    ///
    /// # Errors
    /// As [`Self::complete`].
    pub async fn fail(&self, failure: Failure) -> Result<(), QueueError> {
        self.ask(|reply| Command::Fail(failure, reply)).await
    }

    /// A running job has printed something.
    ///
    /// # Errors
    /// As [`Self::complete`].
    pub async fn print(&self, printed: Printed) -> Result<(), QueueError> {
        self.ask(|reply| Command::Print(printed, reply)).await
    }

    /// Takes a job back.
    ///
    /// # Errors
    /// [`QueueError::Illegal`] for an unknown job or one that has ended.
    pub async fn cancel(&self, job: JobNumber) -> Result<(), QueueError> {
        self.ask(|reply| Command::Cancel(job, reply)).await
    }

    /// Lets a node take nothing new, or take jobs again.
    ///
    /// # Errors
    /// [`QueueError::UnknownNode`].
    pub async fn set_draining(&self, node: String, draining: bool) -> Result<(), QueueError> {
        self.ask(|reply| Command::SetDraining {
            node,
            draining,
            reply,
        })
        .await
    }

    /// Leases that nobody claims, where the policy gives jobs to nodes: `Some` once, for whoever carries them. After a
    /// start they come with the first batch.
    #[must_use]
    pub fn assignments(&self) -> Option<UnboundedReceiver<Push>> {
        self.pushes.take()
    }

    /// An executor has taken an attempt that was carried to it.
    ///
    /// # Errors
    /// As [`Self::complete`].
    pub async fn begin(&self, begun: Begun) -> Result<(), QueueError> {
        self.ask(|reply| Command::Begin(begun, reply)).await
    }

    /// These replicas live: what others carried is taken over, and a node that none of them reaches is lost.
    pub fn living(&self, replicas: Living) {
        // an engine that has stopped carries nothing
        drop(self.commands.send(Command::Living(replicas)));
    }

    /// Whether the next look at who lives is of interest, also if it is the same ones: somebody carries a run who was
    /// never seen alive.
    #[must_use]
    pub fn awaits_look(&self) -> bool {
        self.awaits_look.load(Ordering::Relaxed)
    }

    /// This service can't reach a node: what it has goes to others, where no other replica reaches it. Nothing happens
    /// if it was lost before.
    ///
    /// # Errors
    /// [`QueueError::UnknownNode`].
    pub async fn lose(&self, node: String) -> Result<(), QueueError> {
        self.ask(|reply| Command::Lose(node, reply)).await
    }

    /// All nodes, lost ones among them.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn nodes(&self) -> Result<Vec<NodeView>, QueueError> {
        self.ask(Command::Nodes).await
    }

    /// Lets the engine look at the clock and at what other replicas have written.
    pub fn look(&self) {
        // an engine that has stopped looks at nothing
        drop(self.commands.send(Command::Look));
        self.followers.tell_all();
    }

    /// Ends the engine after what it was asked before; later calls get [`QueueError::Stopped`].
    pub fn stop(&self) {
        drop(self.commands.send(Command::Stop));
    }

    /// Moves whenever something of a job was written.
    #[must_use]
    pub fn follow(&self, job: JobNumber) -> watch::Receiver<u64> {
        self.followers.follow(job)
    }

    /// How the queue stands.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.board.read()
    }

    /// The key of its ids.
    #[must_use]
    pub const fn ids(&self) -> &IdKey {
        &self.ids
    }

    /// What was set.
    #[must_use]
    pub const fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// Its clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }
}

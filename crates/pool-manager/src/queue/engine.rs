//! The engine: one thread that owns the machine and the store's writing side.
//!
//! It takes a command, drains what else waits, applies all of it, and hands what was touched to the store as one batch
//! (group commit). While that is on its way to the disk the next batch is decided; nobody is answered before theirs is
//! there (`ending`). After a failed commit every caller of the batch, and of those that were decided upon it, gets an
//! error, and all that is in memory is loaded anew before the next one. Never decides anything: that is the machine's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use sandrun_core::pool::{Assignment, JobNumber};
use sandrun_store::queue::{Done, Foreign, JobState, QueueStore, QueueStoreError, Writes};
use sandrun_types::UnixSeconds;

use super::batch::Batch;
use super::claims::{Waiter, Waiters};
use super::command::{Command, Requests};
use super::ending::{Ending, answer};
use super::error::QueueError;
use super::follow::Followers;
use super::ids::IdKey;
use super::memory::Memory;
use super::push::{Push, Pushes};
use super::runs::Replicas;
use super::settings::{Clock, QueueSettings};
use super::stats::Board;

/// Most commands of one batch.
const BATCH: usize = 512;
/// Bytes of requests and files after which a batch takes no more commands.
const BATCH_BYTES: usize = 4 << 20;
/// How long it looks for more before it sleeps, letting others run: to be woken takes as long.
const LINGER: Duration = Duration::from_micros(30);
/// How long the engine sleeps where nothing is due; it wakes for every command.
const IDLE: Duration = Duration::from_secs(3_600);
/// How often it looks whether the store's own threads are there where nobody asks for anything.
const LOOK: Duration = Duration::from_secs(1);
/// How often it tries again to load after a failed commit where nobody asks for anything.
const RELOAD: Duration = Duration::from_secs(5);

/// What the thread works with.
pub(super) struct Engine {
    pub(super) store: Box<dyn QueueStore>,
    pub(super) commands: Receiver<Command>,
    /// Commands that came while a batch was written and can't join it: the next one begins with them.
    pub(super) late: Vec<Command>,
    pub(super) settings: QueueSettings,
    pub(super) ids: IdKey,
    pub(super) clock: Clock,
    pub(super) board: Arc<Board>,
    /// The highest number of a job that is on the disk.
    pub(super) durable: Arc<AtomicU64>,
    /// Whether the last batch was not written.
    pub(super) is_troubled: Arc<AtomicBool>,
    pub(super) followers: Followers,
    /// `None` after a failed commit, until it is loaded anew.
    pub(super) memory: Option<Memory>,
    pub(super) waiters: Waiters,
    pub(super) pushes: Pushes,
    /// This service among its replicas.
    pub(super) replicas: Replicas,
}

/// A memory of all that is open, with the ended jobs that others still wait for.
pub(super) fn remember(
    store: &mut dyn QueueStore,
    settings: QueueSettings,
    ids: IdKey,
    all: &Foreign,
    patient_until: UnixSeconds,
) -> Result<Memory, QueueError> {
    let mut memory = Memory::load(settings, ids, all, patient_until)?;
    for parent in memory.pool.missing_parents() {
        if let Some(row) = store.job(parent).map_err(|error| QueueError::from(&error))? {
            memory.put(&row)?;
        }
    }
    Ok(memory)
}

impl Engine {
    /// Works until it is told to stop, or all handles are gone.
    pub(super) fn run(mut self) {
        let mut is_over = false;
        while !is_over {
            let Some(commands) = self.next_commands() else {
                break;
            };
            is_over = commands.iter().any(|it| matches!(it, Command::Stop));
            if !self.may_rest(&commands) {
                self.work(commands);
            }
            is_over |= self.store.is_lame();
        }
        if self.store.is_lame() {
            tracing::error!(
                "a thread of the queue's store has died; what was acknowledged is on the disk: start the service again"
            );
        }
        let stopped = QueueError::Stopped;
        for command in self.late.drain(..).chain(self.commands.try_iter()) {
            command.refuse(&stopped);
        }
        for waiter in self.waiters.take() {
            drop(waiter.reply.send(Err(stopped.clone())));
        }
    }

    /// Waits for commands or for something that is due; `None` when nobody can send any.
    fn next_commands(&mut self) -> Option<Vec<Command>> {
        let mut commands = std::mem::take(&mut self.late);
        let began = Instant::now();
        self.drain(&mut commands);
        while commands.is_empty() && began.elapsed() < LINGER {
            std::thread::yield_now();
            self.drain(&mut commands);
        }
        if commands.is_empty() {
            match self.wait() {
                Ok(command) => commands.push(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.drain(&mut commands);
        Some(commands)
    }

    /// Waits for a command, or until something is due or the store is of no use any more.
    fn wait(&self) -> Result<Command, RecvTimeoutError> {
        let until = Instant::now() + self.sleep();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let waited = self.commands.recv_timeout(left.min(LOOK));
            if !matches!(waited, Err(RecvTimeoutError::Timeout)) || left <= LOOK || self.store.is_lame() {
                return waited;
            }
        }
    }

    /// Takes what waits, as much as a batch does.
    fn drain(&self, commands: &mut Vec<Command>) {
        let mut bytes: usize = commands.iter().map(Command::bytes).sum();
        while commands.len() < BATCH && bytes < BATCH_BYTES {
            let Ok(command) = self.commands.try_recv() else {
                return;
            };
            bytes += command.bytes();
            commands.push(command);
        }
    }

    /// Whether there is nothing but news of other replicas that nobody waits for: the next batch takes them in.
    fn may_rest(&self, commands: &[Command]) -> bool {
        !commands.is_empty()
            && commands.iter().all(|it| matches!(it, Command::Look))
            && self.settings.policy.assignment == Assignment::Claimed
            && self.waiters.len() == 0
            && self.memory.is_some()
            && !self.sleep().is_zero()
    }

    fn sleep(&self) -> Duration {
        let Some(memory) = &self.memory else { return RELOAD };
        let now = self.clock.now();
        let machine = memory.next_timeout().map(|at| at.0.saturating_mul(1_000));
        let machine = machine.map(|at| Duration::from_millis(at.saturating_sub(now)));
        let waiter = self.waiters.next_deadline();
        let waiter = waiter.map(|at| at.saturating_duration_since(Instant::now()));
        machine.into_iter().chain(waiter).fold(IDLE, Duration::min)
    }

    /// One batch.
    fn work(&mut self, commands: Vec<Command>) {
        let began = Instant::now();
        let now = self.clock.now();
        let mut batch = Batch::at(now);
        batch.durable = self.durable.load(Ordering::Acquire);
        let mut commands = commands;
        self.hear_of_replicas(&mut commands);
        batch.commands = commands.len() as u64;
        if self.store.is_behind() {
            self.memory = None;
        }
        let decided = self.prepare(&commands, &mut batch).and_then(|mut memory| {
            let decided = self.decide(&mut memory, &mut commands, &mut batch);
            if decided.is_ok() {
                self.memory = Some(memory);
            }
            decided
        });
        match decided {
            Ok(()) => {
                let requests = self.requests(&batch);
                let pushed = self.memory.as_mut().map(|memory| Pushes::of(memory, &requests));
                let (early, given) = (std::mem::take(&mut batch.early), batch.tally.take_claims());
                let gives_late = batch.gives_late;
                let board = Arc::clone(&self.board);
                let mut ending = self.ending(batch, pushed.unwrap_or_default(), began);
                if gives_late {
                    ending.requests.clone_from(&requests);
                }
                let of_store = |error| QueueError::from(&error);
                let is_urgent = ending.holds_somebody_up();
                let written: Done = Box::new(move |written| {
                    if written.is_ok() {
                        board.write(|stats| stats.add(&given));
                    }
                    answer(early, written.map(|()| requests).map_err(of_store));
                });
                let durable: Done = Box::new(move |written| ending.end(written.map_err(of_store)));
                if is_urgent {
                    self.store.when_durable(written, durable);
                } else {
                    self.store.when_durable_at_leisure(written, durable);
                }
            }
            Err(error) => {
                commands.drain(..).for_each(|command| command.refuse(&error));
                answer(std::mem::take(&mut batch.early), Err(error.clone()));
                self.ending(batch, Vec::new(), began).end(Err(error));
            }
        }
    }

    /// What is left to do of a batch once its fate is known.
    fn ending(&self, batch: Batch, pushed: Vec<Push>, began: Instant) -> Ending {
        Ending {
            began,
            counts: self.memory.as_ref().map(|it| it.pool.counts()),
            waiters: self.waiters.len() as u64,
            commands: batch.commands,
            tally: batch.tally,
            requests: Requests::new(),
            last_job: self.memory.as_ref().map_or(0, |it| it.last_job),
            durable: Arc::clone(&self.durable),
            is_troubled: Arc::clone(&self.is_troubled),
            staged: batch.staged,
            told: batch.told,
            pushed,
            pushes: self.pushes.clone(),
            board: Arc::clone(&self.board),
            followers: self.followers.clone(),
        }
    }

    /// Takes in who lives: it holds also where this batch is not written.
    fn hear_of_replicas(&mut self, commands: &mut Vec<Command>) {
        commands.retain_mut(|command| match command {
            Command::Living(living) => {
                self.replicas.hear(std::mem::take(living));
                false
            }
            Command::Submit(..)
            | Command::Register(..)
            | Command::Heartbeat { .. }
            | Command::Claim(..)
            | Command::Complete(..)
            | Command::Fail(..)
            | Command::Begin(..)
            | Command::Print(..)
            | Command::Cancel(..)
            | Command::SetDraining { .. }
            | Command::Lose(..)
            | Command::Nodes(_)
            | Command::Look
            | Command::Stop => true,
        });
    }

    /// The memory, loaded anew where it has to be, with all ended jobs that the commands are about.
    fn prepare(&mut self, commands: &[Command], batch: &mut Batch) -> Result<Memory, QueueError> {
        let mut memory = match self.memory.take() {
            Some(memory) => memory,
            None => {
                // what can't be read was not written either
                let unread = |error: QueueStoreError| match error.is_unknown() {
                    true => QueueError::Store(error.to_string()),
                    false => QueueError::from(&error),
                };
                let all = self.store.load().map_err(unread)?;
                let at_once = UnixSeconds::default();
                remember(self.store.as_mut(), self.settings, self.ids, &all, at_once)?
            }
        };
        memory.replicas.clone_from(&self.replicas);
        match self.fetch(&memory, commands, batch) {
            Ok(rows) => {
                rows.iter().try_for_each(|row| memory.put(row))?;
                Ok(memory)
            }
            Err(error) => {
                // nothing was changed: it stands as it stood
                self.memory = Some(memory);
                Err(QueueError::from(&error))
            }
        }
    }

    /// Reads jobs that are not in memory, and the jobs of clients' own keys.
    fn fetch(
        &mut self,
        memory: &Memory,
        commands: &[Command],
        batch: &mut Batch,
    ) -> Result<Vec<JobState>, QueueStoreError> {
        let jobs: BTreeSet<JobNumber> = commands.iter().flat_map(Command::jobs).collect();
        let mut rows = Vec::new();
        for job in jobs {
            if memory.pool.job(job).is_none() {
                rows.extend(self.store.job(job)?);
            }
        }
        for command in commands {
            let Command::Submit(submissions, _) = command else {
                continue;
            };
            for submission in submissions {
                let name = &submission.client;
                let mut client = memory.known_client(name).or(batch.clients.get(name).copied());
                if client.is_none() {
                    client = self.store.client(name)?;
                    batch.clients.extend(client.map(|client| (name.clone(), client)));
                }
                let (Some(key), Some(client)) = (&submission.idempotency, client) else {
                    continue;
                };
                if let Some(job) = self.store.by_idempotency(&submission.client, key)? {
                    batch.keys.insert((client, key.clone()), job);
                }
            }
        }
        Ok(rows)
    }

    /// Applies and hands over to be committed. What it takes out of `commands` is answered by the batch.
    fn decide(
        &mut self,
        memory: &mut Memory,
        commands: &mut Vec<Command>,
        batch: &mut Batch,
    ) -> Result<(), QueueError> {
        let waiters = &mut self.waiters;
        let (queue, late) = (&self.commands, &mut self.late);
        let mut failed = None;
        let decided = self.store.decide(&mut |foreign| {
            if let Err(error) = memory.take_in(&foreign) {
                failed = Some(error);
                return Writes::default();
            }
            let keys = foreign.keys.into_iter();
            batch
                .keys
                .extend(keys.map(|row| ((row.client, row.key), row.job)));
            // other replicas may have held the lock for a while: who has come meanwhile need not wait for the next turn
            let mut bytes: usize = commands.iter().map(Command::bytes).sum();
            while late.is_empty() && commands.len() < BATCH && bytes < BATCH_BYTES {
                match queue.try_recv() {
                    Ok(command) if memory.knows_all_of(&command) => {
                        bytes += command.bytes();
                        commands.push(command);
                    }
                    Ok(command) => late.push(command),
                    Err(_) => break,
                }
            }
            batch.commands = commands.len() as u64;
            let claims: Vec<Waiter> = commands
                .drain(..)
                .filter_map(|command| memory.obey(command, batch))
                .collect();
            memory.heed_replicas(batch);
            memory.tick(batch);
            for waiter in waiters.take().into_iter().chain(claims) {
                if let Some(waiter) = memory.serve(waiter, batch) {
                    waiters.wait(waiter);
                }
            }
            memory.push_all();
            memory.write(batch);
            std::mem::take(&mut batch.writes)
        });
        match (decided, failed) {
            (Err(error), _) => Err(QueueError::from(&error)),
            (Ok(()), Some(error)) => Err(error),
            (Ok(()), None) => Ok(()),
        }
    }

    /// Requests of the jobs that were leased in a batch; those that nodes claim are read by whoever answers them. One that
    /// can't be read goes to nobody: its lease runs out.
    fn requests(&mut self, batch: &Batch) -> Requests {
        if batch.leased.is_empty() {
            return Requests::new();
        }
        let numbers: Vec<JobNumber> = batch.leased.iter().copied().collect();
        let found = match self.settings.policy.assignment {
            Assignment::Claimed => self.store.requests_at_hand(&numbers),
            Assignment::Pushed(_) | Assignment::Tickets => self.store.requests(&numbers).map(|all| {
                let all = all.into_iter();
                all.map(|(job, request)| (job, Some(request))).collect()
            }),
        };
        match found {
            Ok(found) => found
                .into_iter()
                .map(|(job, request)| (job, request.map(Into::into)))
                .collect(),
            Err(error) => {
                tracing::error!(%error, jobs = numbers.len(), "requests of leased jobs can't be read");
                Requests::new()
            }
        }
    }
}

//! Bringing decided batches to the disk, by a thread of its own: the next ones are decided meanwhile, and all that was
//! written when a sync ends goes with the next one.
//!
//! A batch is written to the journal by whoever decided it, so that the end of this process takes nothing away from the
//! moment on that it was handed over; one that has to wait for something (bodies, a new file) is written by the thread,
//! and so are those behind it. After one that could not be written or synced all later ones are refused too, for they
//! were decided upon it, until the queue is loaded anew.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Shared;
use super::journal::{Journal, Record};
use crate::queue::{Doing, Done, QueueStoreError, Writes};

/// Batches on their way to the disk; who decides another one waits until there are fewer.
const AHEAD: usize = 64;
/// How long the thread looks for an order before it sleeps, letting others run: to be woken takes as long.
const LINGER: Duration = Duration::from_micros(30);
/// How long a batch that holds nobody up waits for one that does.
const PATIENCE: Duration = Duration::from_millis(2);
const DOING: Doing = "write a batch";

/// A batch that was decided.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) id: u64,
    pub(super) record: Record,
    pub(super) writes: Arc<Writes>,
}

/// Who waits for a batch.
pub(super) struct Waiting {
    /// Until it is written.
    pub(super) written: Done,
    /// Until it is on the disk.
    pub(super) durable: Done,
    /// Whether anybody is held up by that.
    pub(super) is_urgent: bool,
}

/// What the thread is asked to do.
enum Order {
    /// Write, unless there is nothing to write, then sync.
    Write(Option<Decided>, Waiting),
    /// Sync, at once where somebody is held up: it is written already, or there was nothing to write.
    Sync(Option<Decided>, Done, bool),
    /// All before it was refused or is on the disk: go on, from which number?
    Resume(SyncSender<u64>),
}

/// What both sides have.
#[derive(Debug)]
struct Common {
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Batches that the thread has yet to write.
    unwritten: AtomicUsize,
    is_behind: AtomicBool,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    /// Why nothing more is written.
    trouble: Option<Arc<QueueStoreError>>,
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Committer {
    common: Arc<Common>,
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(shared: Arc<Shared>, journal: Journal) -> Result<Self, QueueStoreError> {
        let (sender, orders) = sync_channel(AHEAD);
        let state = State {
            journal,
            trouble: None,
        };
        let common = Arc::new(Common {
            shared,
            state: Mutex::new(state),
            unwritten: AtomicUsize::new(0),
            is_behind: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&common);
        let thread = std::thread::Builder::new()
            .name("queue-journal".to_owned())
            .spawn(move || of_thread.run(&orders))
            .map_err(|_| QueueStoreError::Ending("start the thread of the journal"))?;
        Ok(Self {
            common,
            orders: Some(sender),
            thread: Some(thread),
        })
    }

    /// Whether a batch was refused: nothing more is written until [`Self::resume`].
    pub(super) fn is_behind(&self) -> bool {
        self.common.is_behind.load(Ordering::Acquire)
    }

    /// Whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Brings a batch to the disk, if there is one, and tells those who wait.
    pub(super) fn commit(&self, mut batch: Option<Decided>, waiting: Waiting) {
        let is_alone = self.common.unwritten.load(Ordering::Acquire) == 0;
        let is_written = is_alone
            && batch
                .as_mut()
                .is_none_or(|batch| self.common.may_write(batch) && self.common.write(batch).is_ok());
        if !is_written {
            // the thread writes it, or refuses it once it is known how those before it end
            self.common.unwritten.fetch_add(1, Ordering::AcqRel);
            self.send(Order::Write(batch, waiting));
            return;
        }
        let Waiting {
            written,
            durable,
            is_urgent,
        } = waiting;
        let order = Order::Sync(batch, durable, is_urgent);
        let is_sent = self.send(order);
        written(is_sent.then_some(()).ok_or(QueueStoreError::Ending(DOING)));
    }

    /// Waits until all was refused or is on the disk, and lets it go on; the number of the next batch.
    ///
    /// # Errors
    /// The thread has ended.
    pub(super) fn resume(&self) -> Result<u64, QueueStoreError> {
        let (sender, next) = sync_channel(1);
        self.send(Order::Resume(sender));
        next.recv().map_err(|_| QueueStoreError::Ending(DOING))
    }

    fn send(&self, order: Order) -> bool {
        let refused = match &self.orders {
            Some(orders) => orders.send(order).err().map(|refused| refused.0),
            None => Some(order),
        };
        let is_sent = refused.is_none();
        match refused {
            Some(Order::Write(batch, Waiting { written, durable, .. })) => {
                written(Err(QueueStoreError::Ending(DOING)));
                self.common.give_up(batch, durable);
            }
            Some(Order::Sync(batch, durable, _)) => self.common.give_up(batch, durable),
            // who asks sees that nobody answers
            Some(Order::Resume(_)) | None => {}
        }
        is_sent
    }

    /// Brings what is left to the disk and ends.
    pub(super) fn stop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                "the thread of the queue's journal died; nobody was told what it had not written"
            );
        }
    }
}

impl Common {
    fn state(&self) -> MutexGuard<'_, State> {
        // positions move only after what they are about is done
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a batch that nobody is there to bring to the disk, and all later ones.
    fn give_up(&self, batch: Option<Decided>, durable: Done) {
        self.is_behind.store(true, Ordering::Release);
        if let Some(batch) = batch {
            self.shared.settling.refuse(batch.id, &batch.writes);
        }
        durable(Err(QueueStoreError::Ending(DOING)));
    }

    /// Whether whoever decided it can write it at once, where nothing before it is unwritten.
    fn may_write(&self, batch: &Decided) -> bool {
        !batch.writes.needs_stored_bodies() && self.state().journal.has_room(&batch.record)
    }

    /// Writes a batch for which there is room, unless one before it was refused.
    fn write(&self, batch: &mut Decided) -> Result<(), Arc<QueueStoreError>> {
        let mut state = self.state();
        if let Some(error) = &state.trouble {
            return Err(Arc::clone(error));
        }
        let written = state.journal.write(&mut batch.record);
        written.map_err(|error| self.note(&mut state, error))
    }

    fn note(&self, state: &mut State, error: QueueStoreError) -> Arc<QueueStoreError> {
        let error = Arc::new(error);
        state.trouble = Some(Arc::clone(&error));
        self.is_behind.store(true, Ordering::Release);
        error
    }

    /// The thread: works until nobody can send an order.
    fn run(&self, orders: &Receiver<Order>) {
        // all of them before the first is done: what is synced for it is synced for the others
        while let Some(some) = next(orders) {
            let mut group = Group::default();
            let mut resume = None;
            for order in some {
                match order {
                    Order::Write(batch, waiting) => self.write_late(batch, waiting, &mut group),
                    Order::Sync(batch, durable, _) => group.unsynced.push((batch, durable)),
                    // the one who asks waits for the answer: nothing comes behind it
                    Order::Resume(sender) => resume = Some(sender),
                }
            }
            self.sync(&mut group.unsynced);
            if let Some(sender) = resume {
                let mut state = self.state();
                state.trouble = None;
                self.is_behind.store(false, Ordering::Release);
                // who asked may have gone
                let _ = sender.send(state.journal.last() + 1);
            }
        }
    }

    /// Writes a batch that has to wait for something, or that stands behind such a one.
    fn write_late(&self, mut batch: Option<Decided>, waiting: Waiting, group: &mut Group) {
        let result = batch.as_mut().map_or(Ok(()), |batch| {
            let prepared = self.prepare(batch, group);
            prepared.map_err(|error| self.note(&mut self.state(), error))?;
            self.write(batch)
        });
        self.unwritten.fetch_sub(1, Ordering::AcqRel);
        let Err(error) = result else {
            (waiting.written)(Ok(()));
            group.unsynced.push((batch, waiting.durable));
            return;
        };
        // what it changes is as those before it leave it: how do they end?
        self.sync(&mut group.unsynced);
        if let Some(batch) = batch {
            self.shared.settling.refuse(batch.id, &batch.writes);
        }
        (waiting.written)(Err(undone(&error)));
        (waiting.durable)(Err(undone(&error)));
    }

    /// Does what a batch waits for.
    fn prepare(&self, batch: &Decided, group: &mut Group) -> Result<(), QueueStoreError> {
        if self.is_behind.load(Ordering::Acquire) {
            return Ok(());
        }
        if !group.are_tables_synced && batch.writes.needs_stored_bodies() {
            // they are in the tables already: they have to be on the disk before what refers to them
            self.shared.sync_tables()?;
            group.are_tables_synced = true;
        }
        if !self.state().journal.has_room(&batch.record) {
            self.sync(&mut group.unsynced);
            let needed = self.state().journal.waits_for();
            self.shared.settling.durable(needed, DOING)?;
            self.state().journal.turn();
        }
        Ok(())
    }

    /// Brings all that is written to the disk, and tells those who wait for these; they are for the tables then.
    fn sync(&self, unsynced: &mut Vec<Unsynced>) {
        if unsynced.iter().any(|(batch, _)| batch.is_some()) {
            let (file, kept) = self.state().journal.unsynced();
            let synced = file.sync_data();
            let place = self.shared.place.check();
            let mut state = self.state();
            match (synced, place) {
                (Ok(()), Ok(())) => state.journal.synced(kept),
                (Err(error), _) => {
                    let error = state.journal.take_back(error);
                    self.note(&mut state, error);
                }
                // it is in a file that no start finds
                (Ok(()), Err(error)) => {
                    state.journal.take_back(io::Error::other("displaced"));
                    self.note(&mut state, error);
                }
            }
        }
        let (last, trouble) = {
            let state = self.state();
            (state.journal.last(), state.trouble.clone())
        };
        for (batch, durable) in unsynced.drain(..) {
            // what was written before the trouble and not taken back is kept
            let lost = trouble
                .as_ref()
                .filter(|_| batch.as_ref().is_none_or(|batch| batch.id > last));
            match (batch, lost) {
                (Some(batch), Some(_)) => self.shared.settling.refuse(batch.id, &batch.writes),
                (Some(batch), None) => {
                    let bytes = batch.record.len();
                    self.shared.settling.acknowledge(batch.id, batch.writes, bytes);
                }
                (None, _) => {}
            }
            durable(lost.map_or(Ok(()), |error| Err(undone(error))));
        }
    }
}

fn undone(error: &Arc<QueueStoreError>) -> QueueStoreError {
    QueueStoreError::Undone(Arc::clone(error))
}

/// The next orders, the first for which somebody is held up among them, or those that have been patient for long enough;
/// none where nobody can send any.
fn next(orders: &Receiver<Order>) -> Option<Vec<Order>> {
    let first = look(orders).or_else(|| orders.recv().ok())?;
    let mut some = vec![first];
    let until = Instant::now() + PATIENCE;
    loop {
        some.extend(orders.try_iter().take(AHEAD));
        if some.len() >= AHEAD || some.iter().any(Order::is_urgent) {
            return Some(some);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(some);
        }
        match look(orders).or_else(|| orders.recv_timeout(left).ok()) {
            Some(order) => some.push(order),
            None => return Some(some),
        }
    }
}

/// Looks for an order for a moment.
fn look(orders: &Receiver<Order>) -> Option<Order> {
    let began = Instant::now();
    while began.elapsed() < LINGER {
        if let Ok(order) = orders.try_recv() {
            return Some(order);
        }
        std::thread::yield_now();
    }
    None
}

impl Order {
    const fn is_urgent(&self) -> bool {
        match self {
            Self::Sync(_, _, is_urgent) => *is_urgent,
            Self::Write(..) | Self::Resume(_) => true,
        }
    }
}

/// A batch that is written, and who waits for it to be on the disk.
type Unsynced = (Option<Decided>, Done);

/// What the thread does in one go.
#[derive(Default)]
struct Group {
    /// Batches that are written.
    unsynced: Vec<Unsynced>,
    /// Whether the tables were brought to the disk as they were when the last of it was decided.
    are_tables_synced: bool,
}

#[cfg(test)]
impl Committer {
    /// Lets the journal's disk be full from now on.
    pub(super) fn fill_disk(&self) {
        self.common.state().journal.fill_disk();
    }
}

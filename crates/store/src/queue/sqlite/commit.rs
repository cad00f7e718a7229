//! Putting decided batches into the journal, by a thread of its own: the next ones are decided meanwhile, and all that
//! waits when a sync ends goes with the next one.
//!
//! Batches go in their order. After one that could not be written all later ones are refused too, for they were decided
//! upon it, until the queue is loaded anew.

use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::vec::IntoIter;

use super::Shared;
use super::journal::{Journal, Record};
use crate::queue::{Doing, Done, QueueStoreError, Writes};

/// Batches on their way to the disk; who decides another one waits until there are fewer.
const AHEAD: usize = 16;
const DOING: Doing = "write a batch";

/// A batch that was decided.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) id: u64,
    pub(super) record: Record,
    pub(super) writes: Arc<Writes>,
}

/// What the thread is asked to do.
enum Order {
    /// Write, and tell that this and all before it is on the disk.
    Write(Option<Decided>, Done),
    /// All before it was refused or written: go on, from which number?
    Resume(SyncSender<u64>),
    /// The disk is full from now on.
    #[cfg(test)]
    FillDisk,
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Committer {
    orders: Option<SyncSender<Order>>,
    is_behind: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(shared: Arc<Shared>, journal: Journal) -> Result<Self, QueueStoreError> {
        let (sender, orders) = sync_channel(AHEAD);
        let is_behind = Arc::new(AtomicBool::new(false));
        let work = Work {
            shared,
            journal,
            is_behind: Arc::clone(&is_behind),
            trouble: None,
        };
        let thread = std::thread::Builder::new()
            .name("queue-journal".to_owned())
            .spawn(move || work.run(&orders))
            .map_err(|_| QueueStoreError::Ending("start the thread of the journal"))?;
        Ok(Self {
            orders: Some(sender),
            is_behind,
            thread: Some(thread),
        })
    }

    /// Whether a batch was refused: nothing more is written until [`Self::resume`].
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    /// Writes a batch if there is one, and then tells `done`.
    pub(super) fn write(&self, batch: Option<Decided>, done: Done) {
        if let Err(Order::Write(_, done)) = self.send(Order::Write(batch, done)) {
            done(Err(QueueStoreError::Ending(DOING)));
        }
    }

    /// Waits until all was written or refused, and lets it go on; the number of the next batch.
    ///
    /// # Errors
    /// The thread has ended.
    pub(super) fn resume(&self) -> Result<u64, QueueStoreError> {
        let (sender, next) = sync_channel(1);
        let asked = self.send(Order::Resume(sender));
        let ending = || QueueStoreError::Ending(DOING);
        asked.map_err(|_| ending())?;
        next.recv().map_err(|_| ending())
    }

    fn send(&self, order: Order) -> Result<(), Order> {
        match &self.orders {
            Some(orders) => orders.send(order).map_err(|refused| refused.0),
            None => Err(order),
        }
    }

    /// Writes what is left and ends.
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

/// A batch, if there is one, and who waits for it.
type Waiting = (Option<Decided>, Done);

/// What the thread has.
struct Work {
    shared: Arc<Shared>,
    journal: Journal,
    is_behind: Arc<AtomicBool>,
    /// Why nothing more is written.
    trouble: Option<Arc<QueueStoreError>>,
}

impl Work {
    fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let mut waiting = Vec::new();
            let mut resume = None;
            for order in std::iter::once(first).chain(orders.try_iter()) {
                match order {
                    Order::Write(batch, done) => waiting.push((batch, done)),
                    // the one who asks waits for the answer: nothing comes behind it
                    Order::Resume(sender) => resume = Some(sender),
                    #[cfg(test)]
                    Order::FillDisk => self.journal.fill_disk(),
                }
            }
            self.write(waiting);
            if let Some(sender) = resume {
                self.trouble = None;
                self.is_behind.store(false, Ordering::Release);
                // who asked may have gone
                let _ = sender.send(self.journal.last() + 1);
            }
        }
    }

    fn write(&mut self, waiting: Vec<Waiting>) {
        let mut left = waiting.into_iter().peekable();
        while left.peek().is_some() {
            let some = self.fitting(&mut left);
            if self.trouble.is_none() {
                let records: Vec<&Decided> = some.iter().filter_map(|(batch, _)| batch.as_ref()).collect();
                self.trouble = self.append(&records).err().map(Arc::new);
            }
            self.tell(some);
        }
    }

    /// The first ones that fit into a file together, at least one.
    fn fitting(&self, left: &mut Peekable<IntoIter<Waiting>>) -> Vec<Waiting> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        let room = self.journal.room();
        while let Some(next) = left.next_if(|(batch, _)| {
            bytes += batch.as_ref().map_or(0, |batch| batch.record.len());
            some.is_empty() || bytes <= room
        }) {
            some.push(next);
        }
        some
    }

    fn append(&mut self, batches: &[&Decided]) -> Result<(), QueueStoreError> {
        if batches.is_empty() {
            return Ok(());
        }
        if batches.iter().any(|batch| batch.writes.has_blobs()) {
            // they are in the tables already: they have to be on the disk before what refers to them
            self.shared.sync_tables()?;
        }
        let records: Vec<&Record> = batches.iter().map(|batch| &batch.record).collect();
        let needed = self.journal.waits_for(&records);
        self.shared.settling.durable(needed, DOING)?;
        self.journal.append(&records)
    }

    /// Tells how it went, in the order of batches; what was written is for the tables from now on.
    fn tell(&self, some: Vec<Waiting>) {
        if self.trouble.is_some() {
            // before anybody is told: whoever hears of it finds the store behind
            self.is_behind.store(true, Ordering::Release);
        }
        for (batch, done) in some {
            match (&self.trouble, batch) {
                (Some(_), Some(batch)) => self.shared.settling.refuse(batch.id, &batch.writes),
                (None, Some(batch)) => {
                    let bytes = batch.record.len();
                    self.shared.settling.acknowledge(batch.id, batch.writes, bytes);
                }
                (_, None) => {}
            }
            done(match &self.trouble {
                Some(error) => Err(QueueStoreError::Undone(Arc::clone(error))),
                None => Ok(()),
            });
        }
    }
}

#[cfg(test)]
impl Committer {
    /// Lets the journal's disk be full from now on.
    pub(super) fn fill_disk(&self) {
        assert!(self.send(Order::FillDisk).is_ok());
    }
}

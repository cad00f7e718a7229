//! Brings decided batches to the disk, by a task of its own: the next ones are decided meanwhile, and all that was
//! written when a flush begins goes with it.
//!
//! A flush that fails says nothing about the batches: whether they are there is looked up, over a new connection. After
//! one that is not there the writer loads anew, as all later ones were decided upon it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::try_join;
use tokio::sync::mpsc;
use tokio_postgres::Config;

use super::batch::Place;
use super::rows::get;
use super::session::{RETURN, Role, Session, Value, limited};
use super::sql::{FLUSH, OLDEST, WRITERS};
use super::start_thread;
use crate::queue::{Doing, Done, QueueStoreError};

const DOING: Doing = "write a batch";
/// Batches on their way to the disk; who decides another one waits until there are fewer.
const AHEAD: usize = 64;
/// How long a flush may take: longer than an answer, as a disk may be slow.
const FLUSHED: Duration = Duration::from_secs(7);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);
const STATEMENTS: &[&str] = &[FLUSH, WRITERS, OLDEST];

/// A batch on its way, and who waits for it.
struct Order(Place, Done);

#[derive(Debug, Default)]
struct Common {
    /// Up to which batch all is known to be on the disk.
    durable: AtomicI64,
    is_behind: AtomicBool,
}

/// The way to the task.
#[derive(Debug)]
pub(super) struct Flusher {
    common: Arc<Common>,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the task, which connects when there is something to do.
    pub(super) fn start(config: Config) -> Result<Self, QueueStoreError> {
        let common = Arc::new(Common::default());
        let (orders, ordered) = mpsc::channel(AHEAD);
        let thread = start_thread("queue-flush", run(config, ordered, Arc::clone(&common)))?;
        Ok(Self {
            common,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Tells `done` once the batch and all before it are on the disk.
    pub(super) fn flush(&self, place: Place, done: Done) {
        if place.seq <= self.common.durable.load(Ordering::Acquire) {
            return done(Ok(()));
        }
        let Some(orders) = &self.orders else {
            return done(Err(QueueStoreError::Ending(DOING)));
        };
        if let Err(refused) = orders.blocking_send(Order(place, done)) {
            refused.0.1(Err(QueueStoreError::Ending(DOING)));
        }
    }

    /// Whether a batch may not be there: what was decided since counts for nothing.
    pub(super) fn is_behind(&self) -> bool {
        self.common.is_behind.load(Ordering::Acquire)
    }

    /// All is read anew.
    pub(super) fn begin_anew(&self) {
        self.common.durable.store(-1, Ordering::Release);
        self.common.is_behind.store(false, Ordering::Release);
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that brings batches to the disk died");
        }
    }
}

async fn run(config: Config, mut ordered: mpsc::Receiver<Order>, common: Arc<Common>) {
    let mut session = None;
    while let Some(first) = ordered.recv().await {
        let mut orders = vec![first];
        while let Ok(order) = ordered.try_recv() {
            orders.push(order);
        }
        match flush(&config, &mut session).await {
            Ok(()) => {
                let latest = orders.iter().map(|order| order.0.seq).max().unwrap_or(-1);
                common.durable.fetch_max(latest, Ordering::AcqRel);
                orders.into_iter().for_each(|order| order.1(Ok(())));
            }
            Err(error) => look_up(&config, orders, &common, error).await,
        }
    }
}

async fn flush(config: &Config, idle: &mut Option<Session>) -> Result<(), QueueStoreError> {
    limited(FLUSHED, DOING, async {
        let session = match idle.take() {
            Some(session) => session,
            None => Session::connect(config, Role::Reader(STATEMENTS), DOING).await?,
        };
        session.execute(FLUSH, &[], DOING).await?;
        *idle = Some(session);
        Ok(())
    })
    .await
}

/// Tells each by what is there.
async fn look_up(config: &Config, orders: Vec<Order>, common: &Common, error: QueueStoreError) {
    let seqs: Vec<i64> = orders.iter().map(|order| order.0.seq).collect();
    let looked = limited(RETURN, DOING, async {
        let session = connect(config, Role::Reader(STATEMENTS), DOING).await?;
        let found = whose(&session, &seqs, DOING).await?;
        session.execute(FLUSH, &[], DOING).await?;
        Ok(found)
    })
    .await;
    let error = Arc::new(error);
    for Order(place, done) in orders {
        let fate = looked.as_ref().map_or(Fate::Unknown, |found| found.fate(place));
        if fate != Fate::Written {
            common.is_behind.store(true, Ordering::Release);
        }
        done(match fate {
            Fate::Written => Ok(()),
            Fate::Gone => Err(QueueStoreError::Gone(DOING)),
            Fate::Unknown => Err(QueueStoreError::Undone(Arc::clone(&error))),
        });
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there.
    Written,
    /// It is not, and never will be.
    Gone,
    /// It can't be told.
    Unknown,
}

/// Which batches are there.
#[derive(Debug)]
pub(super) struct Found {
    writers: HashMap<i64, i64>,
    /// Those before this one are kept no longer.
    oldest: i64,
}

impl Found {
    pub(super) fn fate(&self, place: Place) -> Fate {
        match self.writers.get(&place.seq) {
            // all that is from before there were batches is there
            _ if place.writer == 0 => Fate::Written,
            Some(writer) if *writer == place.writer => Fate::Written,
            None if place.seq < self.oldest => Fate::Unknown,
            Some(_) | None => Fate::Gone,
        }
    }
}

/// Looks up whose the batches with these numbers are.
pub(super) async fn whose(session: &Session, seqs: &[i64], doing: Doing) -> Result<Found, QueueStoreError> {
    let asked: [Value<'_>; 1] = [&seqs];
    let (rows, oldest) = try_join!(
        session.query(WRITERS, &asked, doing),
        session.query(OLDEST, &[], doing)
    )?;
    let writers = rows
        .iter()
        .map(|row| Ok((get(row, 0, doing)?, get(row, 1, doing)?)));
    Ok(Found {
        writers: writers.collect::<Result<_, QueueStoreError>>()?,
        oldest: oldest.first().map_or(Ok(0), |row| get(row, 0, doing))?,
    })
}

/// Connects, and tries again until there is a server: who calls it sets a limit.
pub(super) async fn connect(
    config: &Config,
    role: Role<'_>,
    doing: Doing,
) -> Result<Session, QueueStoreError> {
    loop {
        match Session::connect(config, role, doing).await {
            Err(QueueStoreError::Lost { .. }) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}

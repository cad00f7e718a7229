//! Brings decided batches to the disk, by a task of its own: the next ones are decided meanwhile, and all that was
//! written when a flush begins goes with it.
//!
//! A flush that fails says nothing about the batches: whether they are there is looked up, over a new connection. After
//! one that is not there the writer loads anew, as all later ones were decided upon it. Nor does one over a connection
//! that is younger than a batch: the server may have crashed in between. A crash ends all connections, so an older one
//! that still stands says that there was none.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::try_join;
use tokio::sync::mpsc;
use tokio_postgres::Config;

use super::batch::Place;
use super::rows::get;
use super::session::{RETURN, Role, Session, Value, limited};
use super::sql::{FLUSH, OLDEST, WRITERS};
use super::start_thread;
use crate::queue::error::DatabaseError;
use crate::queue::{Doing, Done, QueueStoreError};

const DOING: Doing = "write a batch";
/// Batches on their way to the disk; who decides another one waits until there are fewer.
const AHEAD: usize = 64;
/// How long a flush may take: longer than an answer, as a disk may be slow.
const FLUSHED: Duration = Duration::from_secs(7);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);
const STATEMENTS: &[&str] = &[FLUSH, WRITERS, OLDEST];

/// A batch on its way, when it was begun, and who waits for it.
struct Order(Place, Instant, Done);

/// A connection, and since when it stands.
struct Standing {
    session: Session,
    since: Instant,
}

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

    /// Tells `done` once the batch, which was decided after `begun`, and all before it are on the disk.
    pub(super) fn flush(&self, place: Place, begun: Instant, done: Done) {
        if place.seq <= self.common.durable.load(Ordering::Acquire) {
            return done(Ok(()));
        }
        let Some(orders) = &self.orders else {
            return done(Err(QueueStoreError::Ending(DOING)));
        };
        if let Err(refused) = orders.blocking_send(Order(place, begun, done)) {
            refused.0.2(Err(QueueStoreError::Ending(DOING)));
        }
    }

    /// Whether a batch may not be there: what was decided since counts for nothing.
    pub(super) fn is_behind(&self) -> bool {
        self.common.is_behind.load(Ordering::Acquire)
    }

    /// Whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
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
    let mut idle = None;
    while let Some(first) = ordered.recv().await {
        // of the first one on: they come in their order
        let begun = first.1;
        let mut orders = vec![first];
        while let Ok(order) = ordered.try_recv() {
            orders.push(order);
        }
        let seqs: Vec<i64> = orders.iter().map(|order| order.0.seq).collect();
        let told = match flush(&config, &mut idle, &seqs, begun).await {
            Ok(found) => Ok(found),
            Err(error) => match look_up(&config, &seqs).await {
                Ok(found) => Ok(Some(found)),
                Err(_) => Err(Arc::new(error)),
            },
        };
        for order in orders {
            tell(order, &told, &common);
        }
    }
}

/// Brings all to the disk; what is found of the batches where the connection alone does not say that they are there.
async fn flush(
    config: &Config,
    idle: &mut Option<Standing>,
    seqs: &[i64],
    begun: Instant,
) -> Result<Option<Found>, QueueStoreError> {
    limited(FLUSHED, DOING, async {
        let standing = match idle.take() {
            Some(standing) => standing,
            None => Standing {
                session: Session::connect(config, Role::Reader(STATEMENTS), DOING).await?,
                since: Instant::now(),
            },
        };
        let Standing { session, since } = &standing;
        let found = if begun < *since {
            Some(whose(session, seqs, DOING).await?)
        } else {
            None
        };
        session.execute(FLUSH, &[], DOING).await?;
        *idle = Some(standing);
        Ok(found)
    })
    .await
}

/// What is there of them, over a new connection.
async fn look_up(config: &Config, seqs: &[i64]) -> Result<Found, QueueStoreError> {
    limited(RETURN, DOING, async {
        let session = connect(config, Role::Reader(STATEMENTS), DOING).await?;
        let found = whose(&session, seqs, DOING).await?;
        session.execute(FLUSH, &[], DOING).await?;
        Ok(found)
    })
    .await
}

/// Tells who waits for a batch what became of it; all are there where nothing had to be looked up.
fn tell(Order(place, _, done): Order, told: &Result<Option<Found>, Arc<QueueStoreError>>, common: &Common) {
    let fate = match told {
        Ok(Some(found)) => found.fate(place),
        Ok(None) => Fate::Written,
        Err(_) => Fate::Unknown,
    };
    if fate == Fate::Written {
        common.durable.fetch_max(place.seq, Ordering::AcqRel);
    } else {
        common.is_behind.store(true, Ordering::Release);
    }
    done(match (fate, told) {
        (Fate::Written, _) => Ok(()),
        (Fate::Gone, _) => Err(QueueStoreError::Gone(DOING)),
        (Fate::Unknown, Err(error)) => Err(QueueStoreError::Undone(Arc::clone(error))),
        // so many were written since that it is kept no longer
        (Fate::Unknown, Ok(_)) => Err(QueueStoreError::Lost {
            doing: DOING,
            source: DatabaseError::Closed,
        }),
    });
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

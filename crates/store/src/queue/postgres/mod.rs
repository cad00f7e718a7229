//! The queue in PostgreSQL, for several replicas at once.
//!
//! Owns the tables (all named `queue_…`, in the schema that the connection is in) and the lock that one writer at a time
//! holds. A batch is one row of the journal `queue_batch`, numbered without gaps: what is written while the lock is held,
//! and what the other replicas read of it. Nothing waits for the disk there; a task of its own brings batches to it,
//! many at a time (`flush`), and with them everything before: bodies, and others' batches that they were decided upon.
//! Another one brings them to the tables a moment later (`merge`), at once where somebody reads what is not there yet.

mod batch;
mod begin;
mod flush;
mod listen;
mod load;
mod merge;
mod merger;
mod news;
mod presence;
mod read;
mod rows;
mod schema;
mod session;
mod sql;
mod store;
mod sweep;
mod write;

use std::sync::Arc;
use std::thread;

use tokio::sync::watch;
use tokio_postgres::Config;

pub(super) use self::presence::join;
use super::{Doing, QueueReader, QueueStore, QueueStoreError};

/// What one writer at a time holds, for one transaction.
const WRITER_LOCK: i64 = 0x5a4d_7175_6575_6501;
/// What one migration at a time holds.
const SCHEMA_LOCK: i64 = 0x5a4d_7175_6575_6502;
/// What one who brings batches to the tables at a time holds. Who needs both takes this one first: it is the longer one.
const MERGE_LOCK: i64 = 0x5a4d_7175_6575_6503;
const OPEN: Doing = "open the queue in PostgreSQL";

/// Brings the tables up to date and opens both sides.
pub(super) async fn open(config: &Config) -> Result<(Box<dyn QueueStore>, QueueReader), QueueStoreError> {
    let config = session::configured(config);
    schema::migrate(&config).await?;
    let (wrote, written) = watch::channel(0);
    let merger = merger::Merger::start(config.clone())?;
    let store = store::PostgresStore::new(config.clone(), wrote, merger.clone())?;
    let reader = read::PostgresReader::new(config, written, merger).await?;
    Ok((Box::new(store), QueueReader::new(Arc::new(reader))))
}

/// A thread for what must not wait for anybody else, with a runtime of its own.
fn start_thread(
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<thread::JoinHandle<()>, QueueStoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|_| QueueStoreError::Ending(OPEN))?;
    let thread = thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || {
        runtime.block_on(work);
        runtime.shutdown_background();
    });
    started.map_err(|_| QueueStoreError::Ending(OPEN))
}

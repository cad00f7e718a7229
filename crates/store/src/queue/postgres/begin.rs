//! Beginning a batch: the writers' lock, and what others have written since.

use futures::try_join;
use sandrun_core::pool::JobNumber;

use super::batch::{Gathered, Last, Place};
use super::load::{catch_up, place_of};
use super::news::{self, NEWS};
use super::rows::get;
use super::session::{Session, Value};
use super::{WRITER_LOCK, sql};
use crate::queue::codec::unsigned;
use crate::queue::{Doing, Foreign, QueueStoreError};

const WRITE: Doing = "write a batch";

pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
/// Up to which batch jobs were looked at when some were removed last.
pub(super) const SWEPT: &str = "SELECT value FROM queue_kept WHERE name = 'swept'";
/// Notes that, in the transaction that removes them: all batches are in the tables then.
pub(super) const NOTE_SWEPT: &str = "INSERT INTO queue_kept (name, value)
    SELECT 'swept', INT8SEND(merged) FROM queue_counter WHERE id = 1
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
/// Open jobs.
pub(super) const STANDING: &str = "SELECT number FROM queue_job WHERE open ORDER BY number";

/// What the writer knows of the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// The latest batch that was taken in, or written.
    pub(super) place: Place,
    /// Highest numbers up to there.
    pub(super) last: Last,
}

/// Begins a batch: takes the lock and reads what others wrote since, all in one round trip. The lock has a statement of its
/// own: the next one sees what its former holder wrote. No commit waits for the disk, so that the lock is not held
/// meanwhile. Of what a crash of the server takes back in between, nobody was told but of leases, which end with it as if
/// they had run out; all that others decided upon it is behind it in the log and lost with it, and the crash ends their
/// connections too.
pub(super) async fn begin(session: &Session, seen: &mut Seen) -> Result<Foreign, QueueStoreError> {
    let since: [Value<'_>; 2] = [&seen.place.seq, &i64::MAX];
    let (.., batches) = try_join!(
        session.simple("BEGIN", WRITE),
        session.query(LOCK, &[&WRITER_LOCK], WRITE),
        session.query(sql::SINCE, &since, WRITE),
    )?;
    let first = batches.first().map(|row| place_of(row, WRITE)).transpose()?;
    let mut tables = Foreign::default();
    match first {
        Some(first) if first.seq == seen.place.seq && seen.place.writer != 0 => {
            if first != seen.place {
                return Err(QueueStoreError::Gone(WRITE));
            }
        }
        Some(first) if first.seq > seen.place.seq + 1 => {
            // behind the batches in time, and under them in what counts
            let rows = session.query(NEWS, &since, WRITE).await?;
            tables = news::foreign(&rows, WRITE)?;
            tables.standing = standing(session, seen.place).await?;
        }
        // the latest ones are never forgotten
        None if seen.place.writer != 0 => return Err(QueueStoreError::Gone(WRITE)),
        Some(_) | None => {}
    }
    let mut gathered = Gathered::default();
    (seen.place, seen.last) = catch_up(&batches, &mut gathered, (seen.place, seen.last), WRITE)?;
    Ok(gathered.upon(tables, seen.last))
}

/// Which jobs are open, where some have been removed since a batch: nothing else says of those that they have ended.
async fn standing(session: &Session, seen: Place) -> Result<Option<Vec<JobNumber>>, QueueStoreError> {
    let rows = session.query(SWEPT, &[], WRITE).await?;
    let swept = rows.first().map(|row| get::<&[u8]>(row, 0, WRITE)).transpose()?;
    // of one that can't be read it is not known: it may have been now
    let swept = swept.map(|bytes| bytes.try_into().map_or(i64::MAX, i64::from_be_bytes));
    if swept.is_none_or(|swept| swept <= seen.seq) {
        return Ok(None);
    }
    let rows = session.query(STANDING, &[], WRITE).await?;
    let numbers = rows
        .iter()
        .map(|row| Ok(JobNumber(unsigned(get(row, 0, WRITE)?))));
    numbers.collect::<Result<_, _>>().map(Some)
}

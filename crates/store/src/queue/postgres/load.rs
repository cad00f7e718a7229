//! All that is open, as one moment has it: the tables, and upon them the batches that they do not hold yet.

use futures::try_join;
use tokio_postgres::Row;

use super::batch::{Gathered, Last, Place};
use super::rows::{client_row, get, job_state, node_row, state_columns};
use super::session::{Session, Value};
use super::sql::{COUNTERS, SINCE};
use crate::queue::{Doing, Foreign, QueueStoreError};

const DOING: Doing = "load the queue";

const OPEN_JOBS: &str = concat!(
    "SELECT ",
    state_columns!(),
    " FROM queue_job j WHERE j.open ORDER BY j.number"
);
const ALL_CLIENTS: &str = "SELECT number, name FROM queue_client ORDER BY number";
const ALL_NODES: &str = "SELECT number, id, endpoint, announced, heard, completed, failed, snapshot FROM queue_node ORDER BY number";

/// What a connection that loads has to have prepared.
pub(super) const STATEMENTS: &[&str] = &[COUNTERS, OPEN_JOBS, ALL_NODES, ALL_CLIENTS, SINCE];

/// Reads all of it.
pub(super) async fn load(session: &Session) -> Result<(Foreign, Place, Last), QueueStoreError> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let ((), counters) = try_join!(session.simple(begin, DOING), session.query(COUNTERS, &[], DOING))?;
    let (merged, last) = counted(&counters)?;
    let since: [Value<'_>; 2] = [&merged, &i64::MAX];
    let (batches, jobs, nodes, clients, ()) = try_join!(
        session.query(SINCE, &since, DOING),
        session.query(OPEN_JOBS, &[], DOING),
        session.query(ALL_NODES, &[], DOING),
        session.query(ALL_CLIENTS, &[], DOING),
        session.simple("COMMIT", DOING),
    )?;
    let tables = Foreign {
        jobs: list(&jobs, job_state)?,
        nodes: list(&nodes, node_row)?,
        clients: list(&clients, client_row)?,
        ..Foreign::default()
    };
    let before = Place {
        seq: merged,
        writer: 0,
    };
    let mut gathered = Gathered::default();
    let (place, last) = catch_up(&batches, &mut gathered, (before, last), DOING)?;
    let mut all = gathered.upon(tables, last);
    all.jobs.retain(|job| job.open);
    all.keys.clear();
    Ok((all, place, last))
}

/// Adds batches, each as [`SINCE`] gives it; where that leaves one, from where it was `before`.
pub(super) fn catch_up(
    batches: &[Row],
    gathered: &mut Gathered,
    before: (Place, Last),
    doing: Doing,
) -> Result<(Place, Last), QueueStoreError> {
    let (mut place, mut last) = before;
    for row in batches {
        place = place_of(row, doing)?;
        last = last.max(Last::of(row, 2, doing)?);
        if let Some(news) = get::<Option<&[u8]>>(row, 5, doing)? {
            gathered.add(news, doing)?;
        }
    }
    Ok((place, last))
}

/// A batch's place, as [`SINCE`] gives it.
pub(super) fn place_of(row: &Row, doing: Doing) -> Result<Place, QueueStoreError> {
    Ok(Place {
        seq: get(row, 0, doing)?,
        writer: get(row, 1, doing)?,
    })
}

/// Up to which batch the tables hold all, and the highest numbers up to there.
fn counted(counters: &[Row]) -> Result<(i64, Last), QueueStoreError> {
    let row = counters.first().ok_or(QueueStoreError::Unreadable {
        doing: DOING,
        what: "the table queue_counter",
    })?;
    Ok((get(row, 0, DOING)?, Last::of(row, 1, DOING)?))
}

fn list<T>(
    rows: &[Row],
    read: impl Fn(&Row, Doing) -> Result<T, QueueStoreError>,
) -> Result<Vec<T>, QueueStoreError> {
    rows.iter().map(|row| read(row, DOING)).collect()
}

//! Brings batches to the tables, many at a time and what several of them changed once: by whichever replica gets to it.

use futures::try_join;

use super::batch::{self, Last};
use super::rows::get;
use super::session::{LONG, Session, Value, limited};
use super::sql::{
    ANSWERS, BARE_ANSWERS, CLIENTS, EMPTY, FORGET, LOGS, MERGED, NEW_JOBS, NODES, PARENTS, STATES, UNMERGED,
    USES,
};
use super::{MERGE_LOCK, write};
use crate::queue::{Doing, QueueStoreError, Writes};

/// Most batches that one transaction brings.
const BATCHES: i64 = 1024;
/// As many bytes of them, but for the last one.
const BYTES: i64 = 16 << 20;
/// Latest batches that stay for the other replicas to catch up with; who is further behind reads the tables.
const KEPT: i64 = 4096;
/// Bytes of outputs and requests above which a batch that stays does not keep them: nobody catches up with these.
const LARGE: usize = 256 << 10;
/// The lock, where it is free.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock($1)";

/// What a connection that merges has to have prepared.
pub(super) const STATEMENTS: &[&str] = &[
    TRY_LOCK,
    UNMERGED,
    CLIENTS,
    NEW_JOBS,
    PARENTS,
    USES,
    STATES,
    NODES,
    BARE_ANSWERS,
    ANSWERS,
    LOGS,
    MERGED,
    EMPTY,
    FORGET,
];

/// Brings all that was written before; where `is_patient` waits for whoever is at it, else leaves it to them.
pub(super) async fn merge(session: &Session, is_patient: bool, doing: Doing) -> Result<(), QueueStoreError> {
    // one batch may be large: who waits gives up before
    while limited(LONG, doing, bring_some(session, is_patient, doing)).await? {}
    Ok(())
}

/// One transaction; whether there may be more.
async fn bring_some(session: &Session, is_patient: bool, doing: Doing) -> Result<bool, QueueStoreError> {
    // the lock in a statement of its own: the next one sees what its former holder wrote
    if is_patient {
        let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({MERGE_LOCK})");
        session.simple(&begin, doing).await?;
    } else {
        let ((), got) = try_join!(
            session.simple("BEGIN", doing),
            session.query(TRY_LOCK, &[&MERGE_LOCK], doing)
        )?;
        if !got.first().map_or(Ok(false), |row| get(row, 0, doing))? {
            session.simple("COMMIT", doing).await?;
            return Ok(false);
        }
    }
    let is_more = bring(session, doing).await?;
    session.simple("COMMIT", doing).await?;
    Ok(is_more)
}

/// Brings some batches in the open transaction, which holds the lock; whether there may be more.
pub(super) async fn bring(session: &Session, doing: Doing) -> Result<bool, QueueStoreError> {
    let rows = session.query(UNMERGED, &[&BYTES, &BATCHES], doing).await?;
    let Some(latest) = rows.last() else {
        return Ok(false);
    };
    let seq: i64 = get(latest, 0, doing)?;
    let last = Last::of(latest, 1, doing)?;
    let mut writes = Writes::default();
    let mut large: Vec<i64> = Vec::new();
    for row in &rows {
        let (news, rest): (&[u8], &[u8]) = (get(row, 4, doing)?, get(row, 5, doing)?);
        if rest.len() > LARGE {
            large.push(get(row, 0, doing)?);
        }
        batch::append(&mut writes, news, rest, Last::of(row, 1, doing)?, doing)?;
    }
    let counters: [Value<'_>; 4] = [&seq, &last.job, &last.node, &last.client];
    let outdated = seq - KEPT;
    let outdated: [Value<'_>; 1] = [&outdated];
    try_join!(
        write::write(session, &writes, seq, doing),
        session.execute(MERGED, &counters, doing),
        empty(session, &large, doing),
        session.execute(FORGET, &outdated, doing),
    )?;
    Ok(true)
}

async fn empty(session: &Session, batches: &[i64], doing: Doing) -> Result<u64, QueueStoreError> {
    if batches.is_empty() {
        return Ok(0);
    }
    session.execute(EMPTY, &[&batches], doing).await
}

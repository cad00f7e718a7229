//! Removing what nobody asks for any more, in SQLite. Each function works in the caller's transaction.

use rusqlite::{Connection, params};

use crate::queue::UnixMillis;
use crate::queue::codec::signed;

/// Bodies, or chunks, that one transaction looks at.
const SOME: u32 = 64;

/// Removes up to `limit` jobs that ended before `before` and are no open job's parents; how many.
pub(super) fn jobs(
    connection: &Connection,
    before: UnixMillis,
    now: UnixMillis,
    limit: u32,
) -> rusqlite::Result<u64> {
    let gone: Vec<i64> = connection
        .prepare_cached(
            "SELECT number FROM job WHERE open = 0 AND ended < ?1 AND NOT EXISTS (
                 SELECT 1 FROM parent JOIN job AS child ON child.number = parent.job
                 WHERE parent.parent = job.number AND child.open = 1)
             ORDER BY ended LIMIT ?2",
        )?
        .query_map(params![signed(before), limit], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for job in &gone {
        connection
            .prepare_cached(
                "UPDATE blob SET refs = refs - 1, touched = MAX(touched, ?2)
                 WHERE hash IN (SELECT hash FROM blob_use WHERE job = ?1)",
            )?
            .execute(params![job, signed(now)])?;
        for table in ["blob_use", "log", "answer", "parent", "request"] {
            connection
                .prepare_cached(&format!("DELETE FROM {table} WHERE job = ?1"))?
                .execute([job])?;
        }
        connection
            .prepare_cached("DELETE FROM job WHERE number = ?1")?
            .execute([job])?;
    }
    Ok(gone.len() as u64)
}

/// Removes clients that no job is of; how many.
pub(super) fn clients(connection: &Connection) -> rusqlite::Result<u64> {
    let gone = connection
        .prepare_cached(
            "DELETE FROM client WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.client = client.number)",
        )?
        .execute([])?;
    Ok(gone as u64)
}

/// Removes nodes that were last heard of before `before`; how many.
pub(super) fn nodes(connection: &Connection, before: UnixMillis) -> rusqlite::Result<u64> {
    let gone = connection
        .prepare_cached("DELETE FROM node WHERE heard < ?1")?
        .execute([signed(before)])?;
    Ok(gone as u64)
}

/// Takes the names off some bodies that nobody refers to; their chunks go later, a few at a time.
pub(super) fn disown(connection: &Connection, before: UnixMillis) -> rusqlite::Result<u64> {
    let disowned = connection
        .prepare_cached(
            "UPDATE blob SET hash = NULL, touched = 0 WHERE id IN (
                 SELECT id FROM blob WHERE refs = 0 AND hash IS NOT NULL AND touched < ?1 ORDER BY touched LIMIT ?2)",
        )?
        .execute(params![signed(before), SOME])?;
    Ok(disowned as u64)
}

/// Removes some chunks of bodies without a name; whether there was anything to remove.
pub(super) fn chunks(connection: &Connection, before: UnixMillis) -> rusqlite::Result<bool> {
    let nameless = "SELECT id FROM blob WHERE hash IS NULL AND touched < ?1 ORDER BY id LIMIT ?2";
    let chunks = connection
        .prepare_cached(&format!(
            "DELETE FROM chunk WHERE rowid IN (
                 SELECT rowid FROM chunk WHERE blob IN ({nameless}) LIMIT ?2)"
        ))?
        .execute(params![signed(before), SOME])?;
    let blobs = connection
        .prepare_cached(&format!(
            "DELETE FROM blob WHERE id IN ({nameless}) AND NOT EXISTS (SELECT 1 FROM chunk WHERE blob = blob.id)"
        ))?
        .execute(params![signed(before), SOME])?;
    Ok(chunks + blobs > 0)
}

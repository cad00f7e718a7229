//! Bodies in SQLite. Each function works in the caller's transaction.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::queue::codec::signed;
use crate::queue::reader::StoredBlob;
use crate::queue::{BlobHash, UnixMillis};

/// Notes that a body was put once more; whether it is there.
fn touch(connection: &Connection, hash: BlobHash, now: UnixMillis) -> rusqlite::Result<bool> {
    let touched = connection
        .prepare_cached("UPDATE blob SET touched = MAX(touched, ?2) WHERE hash = ?1")?
        .execute(params![hash.0, signed(now)])?;
    Ok(touched > 0)
}

/// A new body's row, or without a name an upload's.
pub(super) fn insert(
    connection: &Connection,
    hash: Option<BlobHash>,
    size: u64,
    now: UnixMillis,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT INTO blob (hash, size, touched) VALUES (?1, ?2, ?3)")?
        .insert(params![hash.map(|hash| hash.0), signed(size), signed(now)])
}

pub(super) fn put_chunk(
    connection: &Connection,
    blob: i64,
    number: u32,
    data: &[u8],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO chunk (blob, number, data) VALUES (?1, ?2, ?3)")?
        .execute(params![blob, number, data])?;
    Ok(())
}

pub(super) fn put_whole(
    connection: &Connection,
    hash: BlobHash,
    body: &[u8],
    now: UnixMillis,
) -> rusqlite::Result<()> {
    if touch(connection, hash, now)? {
        return Ok(());
    }
    let id = insert(connection, Some(hash), body.len() as u64, now)?;
    if body.is_empty() {
        return Ok(());
    }
    put_chunk(connection, id, 0, body)
}

/// Names an upload, or gives it up for a body of this name that is there already; false where it was swept.
pub(super) fn name(
    connection: &Connection,
    blob: StoredBlob,
    hash: BlobHash,
    now: UnixMillis,
) -> rusqlite::Result<bool> {
    let there: Option<i64> = connection
        .prepare_cached("SELECT 1 FROM blob WHERE id = ?1 AND hash IS NULL AND touched > 0")?
        .query_row([blob.id], |row| row.get(0))
        .optional()?;
    if there.is_none() {
        return Ok(false);
    }
    if touch(connection, hash, now)? {
        // the next sweep takes it
        connection.execute("UPDATE blob SET touched = 0 WHERE id = ?1", [blob.id])?;
        return Ok(true);
    }
    connection
        .prepare_cached("UPDATE blob SET hash = ?2, size = ?3, touched = ?4 WHERE id = ?1")?
        .execute(params![blob.id, hash.0, signed(blob.size), signed(now)])?;
    Ok(true)
}

//! The floor that a durable queue is measured against: commits of one row by one writer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How long it is measured.
const SPAN: Duration = Duration::from_secs(2);
/// Bytes of a row.
const ROW: usize = 1_024;

/// Commits a second of one 1 KiB row each by the product's own binding (write-ahead log, synchronous FULL), in a new
/// database in `directory`.
///
/// # Errors
/// A directory that can't be written.
pub(super) fn commits_per_second(directory: &Path) -> anyhow::Result<f64> {
    let path = directory.join("floor.sqlite");
    let database = sandrun_store::open_database(
        &path,
        &["CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)"],
    )
    .context("the floor's database")?;
    let mut insert = database.prepare("INSERT INTO row (body) VALUES (?1)")?;
    let body = vec![b'x'; ROW];
    let (start, mut commits) = (Instant::now(), 0u32);
    while start.elapsed() < SPAN {
        insert.execute([&body])?;
        commits += 1;
    }
    let rate = f64::from(commits) / start.elapsed().as_secs_f64();
    drop(insert);
    drop(database);
    for end in ["", "-wal", "-shm"] {
        let file = directory.join(format!("floor.sqlite{end}"));
        if file.exists() {
            std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    Ok(rate)
}

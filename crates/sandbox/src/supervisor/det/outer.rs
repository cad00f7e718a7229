//! Writes of the job's output that a stop from outside has cut short.
//!
//! The kernel ends such a write with what it has written so far; the job must not learn of the stop, so that the rest is
//! written in its name.

use std::io;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::calls::pieces;
use super::run::Engine;
use super::task::Task;

/// Bytes that are written at once.
const PIECE: u64 = 65_536;
/// Most that one call writes, see write(2).
const MOST: u64 = 0x7fff_f000;

impl Engine {
    /// Writes what is left of the call that a task has just been interrupted in, if it is such a one.
    pub(super) fn finish_output(&mut self, task: &mut Task) -> io::Result<()> {
        if ![libc::SYS_write, libc::SYS_writev].contains(&task.call()) {
            return Ok(());
        }
        let pieces = pieces::of(task, task.call())?;
        let total = pieces::total(&pieces).min(MOST);
        let Ok(mut done @ 1..) = u64::try_from(task.result()) else {
            return Ok(());
        };
        if done >= total {
            return Ok(());
        }
        let file = self.world.file(task, task.int(0))?;
        let stat = fstat(&file)?;
        if !self.world.is_outer(stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        while done < total && !self.world.orders.are_to_stop() {
            let Some((address, length)) = pieces::from(&pieces, done) else {
                break;
            };
            let length = usize::try_from(length.min(total - done).min(PIECE)).unwrap_or(0);
            let Ok(bytes) = task.read_bytes(address, length) else {
                break;
            };
            match rustix::io::write(&file, &bytes) {
                Ok(written) => done += u64::try_from(written).unwrap_or(0),
                Err(Errno::INTR) => {}
                // nobody reads it any more
                Err(_) => break,
            }
        }
        task.set_result(i64::try_from(done).unwrap_or(i64::MAX));
        Ok(())
    }
}

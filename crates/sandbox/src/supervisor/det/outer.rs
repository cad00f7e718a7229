//! Writes of the job's output that a stop from outside has cut short.
//!
//! The kernel ends such a write with what it has written so far; the job must not learn of the stop, so that the rest is
//! written in its name.

use std::io;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::calls::vector;
use super::run::Engine;
use super::task::Task;

/// Bytes that are written at once.
const PIECE: u64 = 65_536;
/// Most that one call writes, see write(2).
const MOST: u64 = 0x7fff_f000;

impl Engine {
    /// Writes what is left of the call that a task has just been interrupted in, if it is such a one.
    pub(super) fn finish_output(&mut self, task: &mut Task) -> io::Result<()> {
        let pieces = match task.call() {
            libc::SYS_write => vec![(task.argument(1), task.argument(2))],
            libc::SYS_writev => vector(task, task.argument(1), task.argument(2))?,
            _ => return Ok(()),
        };
        let total: u64 = pieces
            .iter()
            .map(|(_, length)| *length)
            .fold(0, u64::saturating_add);
        let total = total.min(MOST);
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
            let (address, length) = piece(&pieces, done);
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

/// What is left of the piece in which this byte of all lies.
fn piece(pieces: &[(u64, u64)], mut skip: u64) -> (u64, u64) {
    for (address, length) in pieces {
        if skip < *length {
            return (address.wrapping_add(skip), length - skip);
        }
        skip -= length;
    }
    (0, 0)
}

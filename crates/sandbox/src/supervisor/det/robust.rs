//! Locks of a leader that ends before its other threads. It stands still instead of dying, so that what the kernel does
//! to a dead task's locks is done here, see set_robust_list(2).

use std::io;

use super::calls::{futex_key, wake_key};
use super::task::Task;
use super::world::World;

/// Locks of one list, as in the kernel.
const MOST: u32 = 2048;
/// The owner's number in a lock's word; somebody waits for it; its owner has died with it.
const OWNER: u32 = 0x3fff_ffff;
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
/// In an entry's address: the lock hands on its owner's priority, and nobody is woken.
const PRIORITY: u64 = 1;

/// Where an entry lies, as a list says it.
#[derive(Debug, Clone, Copy)]
struct Named(u64);

impl Named {
    const fn at(self) -> u64 {
        self.0 & !PRIORITY
    }
}

impl World {
    /// Marks all locks that a task holds as lost, and wakes one that waits for each.
    pub(super) fn abandon_locks(&mut self, task: &Task) {
        if task.robust_list != 0 {
            // a list that cannot be read ends there, as in the kernel
            let _ = self.abandon(task, task.robust_list);
        }
    }

    fn abandon(&mut self, task: &Task, head: u64) -> io::Result<()> {
        let next = |at: u64| task.read_u64(at).map(Named);
        let mut entry = next(head)?;
        let offset = task.read_u64(head.wrapping_add(8))?;
        let pending = next(head.wrapping_add(16))?;
        for _ in 0..MOST {
            if entry.at() == head {
                break;
            }
            let following = next(entry.at());
            if entry.at() != pending.at() {
                self.abandon_one(task, entry, offset, false)?;
            }
            entry = following?;
        }
        if pending.at() != 0 {
            self.abandon_one(task, pending, offset, true)?;
        }
        Ok(())
    }

    /// One lock; one that was `pending` may have been let go of, and nobody woken.
    fn abandon_one(&mut self, task: &Task, entry: Named, offset: u64, pending: bool) -> io::Result<()> {
        let at = entry.at().wrapping_add(offset);
        if !at.is_multiple_of(4) {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        let word = task.read_u32(at)?;
        let wakes = entry.0 & PRIORITY == 0;
        if pending && wakes && word == 0 {
            self.wake_one(task, at);
            return Ok(());
        }
        if word & OWNER != task.id {
            return Ok(());
        }
        task.write(at, &(word & WAITERS | OWNER_DIED).to_ne_bytes())?;
        if wakes && word & WAITERS != 0 {
            self.wake_one(task, at);
        }
        Ok(())
    }

    fn wake_one(&mut self, task: &Task, at: u64) {
        if let Ok(key) = futex_key(self, task, at, false) {
            wake_key(self, key, 1, u32::MAX);
        }
    }
}

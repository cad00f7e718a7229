//! `lseek` to places that a file system knows: the end of a directory, and where a file has holes.

use std::io;

use rustix::fs::OFlags;

use super::stat::Place;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// `lseek` to anywhere but a given place. A node's copy of a file of the system may have holes or not: all of it is
/// data, and behind that one hole, as on a file system that knows of none.
pub(super) fn lseek(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let whence = task.int(2);
    if ![libc::SEEK_END, libc::SEEK_DATA, libc::SEEK_HOLE].contains(&whence) {
        return Ok(Entry::Pass);
    }
    let file = world.open_file(task, task.int(0))?;
    if file.flags().contains(OFlags::PATH) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let (real, place) = world.look_at(task, &file)?;
    match real.mode & libc::S_IFMT {
        libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        libc::S_IFREG if place == Place::System && whence != libc::SEEK_END => {
            // a negative one is as far away
            let offset = task.argument(1);
            if offset >= real.size {
                return Err(io::Error::from_raw_os_error(libc::ENXIO));
            }
            if whence == libc::SEEK_HOLE {
                task.set_argument(1, real.size);
            }
            task.set_argument(2, u64::from(libc::SEEK_SET.unsigned_abs()));
            Ok(Entry::Pass)
        }
        _ => Ok(Entry::Pass),
    }
}

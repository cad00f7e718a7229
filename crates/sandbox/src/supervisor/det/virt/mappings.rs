//! `mmap` of memory that no limit of the kernel's counts, or that not every kernel has.

use std::io;

use super::stat::Real;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// Flags of the mappings that are looked at: shared ones, those of large pages, and those that newer kernels may drop
/// (`MAP_DROPPABLE`, a kind of its own).
pub(in super::super) const LOOKED_AT: u32 = libc::MAP_SHARED.cast_unsigned() | HUGE | DROPPABLE;
const HUGE: u32 = libc::MAP_HUGETLB.cast_unsigned();
const DROPPABLE: u32 = 8;

/// ENOMEM where the job's memory would not hold it: how much a machine lets programs share depends on its own size; and
/// for large pages, which few machines have set aside.
pub(super) fn map(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let flags = task.int(3).cast_unsigned();
    let has = |flag: i32| flags & flag.cast_unsigned() != 0;
    let is_large = flags & HUGE != 0 && has(libc::MAP_ANONYMOUS);
    let is_too_long = has(libc::MAP_SHARED) && task.argument(1) > world.det.memory_bytes;
    let error = if flags & libc::MAP_TYPE.cast_unsigned() == DROPPABLE {
        libc::EINVAL
    } else if is_large || is_too_long && is_of_no_file(world, task) {
        libc::ENOMEM
    } else {
        return Ok(Entry::Pass);
    };
    observe::denied(world, task, error);
    Err(io::Error::from_raw_os_error(error))
}

/// Whether it asks for fresh memory, by its flags or by the device that stands for it.
fn is_of_no_file(world: &mut World, task: &Task) -> bool {
    task.int(3) & libc::MAP_ANONYMOUS != 0
        || world
            .file(task, task.int(4))
            .and_then(Real::of)
            .is_ok_and(|real| {
                real.mode & libc::S_IFMT == libc::S_IFCHR && real.device_file == libc::makedev(1, 5)
            })
}

//! `madvise`: pages that the kernel may take when it likes are taken at once, so that what they hold is no chance.

use std::io;

use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[Rule(libc::SYS_madvise, When::If(2, u32::MAX, FREE), free)];

/// `MADV_FREE`.
const FREE: u32 = 8;
/// `MADV_DONTNEED`.
const DROP: u64 = 4;

fn free(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    task.set_argument(2, DROP);
    Ok(Entry::Pass)
}

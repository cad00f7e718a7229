//! `readlink` of what `/proc` links to, and links to it.

use std::io;

use super::{opens, paths, process_files};
use crate::supervisor::det::observe;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// `readlink`, `readlinkat`: looked at only where the name may be one of `/proc`.
pub(super) fn readlink(_: &mut World, task: &mut Task) -> io::Result<Entry> {
    let path = task.read_text(task.argument(path_argument(task)), paths::MAX)?;
    let may_be = |part: &[u8]| path.windows(part.len()).any(|window| window == part);
    let is_number = !path.is_empty() && path.iter().all(u8::is_ascii_digit);
    if is_number || may_be(b"fd/") || may_be(b"ns/") || path.starts_with(b"/dev/std") {
        return Ok(Entry::Make(seen));
    }
    Ok(Entry::Pass)
}

/// `symlink`, `symlinkat`: no other name for a file of `/proc` that is told in another form than the kernel's.
pub(super) fn symlink(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let target = task.read_text(task.argument(0), paths::MAX)?;
    if target.windows(5).any(|part| part == b"proc/") && opens::has_our_name(&target) {
        observe::denied(world, task, libc::EACCES);
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(Entry::Pass)
}

fn path_argument(task: &Task) -> usize {
    usize::from(task.call() == libc::SYS_readlinkat)
}

fn seen(world: &mut World, task: &mut Task) -> io::Result<()> {
    let Ok(length) = usize::try_from(task.result()) else {
        return Ok(());
    };
    let first = path_argument(task);
    let (place, room) = (task.argument(first + 1), task.argument(first + 2));
    let text = task.read_bytes(place, length)?;
    let job = world.places(task)?.job;
    let Some(mut told) = process_files::link(&text, job, &mut world.virt.inodes) else {
        return Ok(());
    };
    // The buffer's size is an `int`; what does not fit is cut off, as the kernel does it.
    told.truncate(usize::try_from(room & 0x7fff_ffff).unwrap_or(0));
    task.write(place, &told)?;
    task.set_result(i64::try_from(told.len()).unwrap_or(0));
    Ok(())
}

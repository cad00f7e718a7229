//! `readlink` of what `/proc` links to; links and directories by which other names reach it.

use std::io;

use super::{names, paths, process_files, walk};
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// `readlink`, `readlinkat`: looked at only where the name may be one of `/proc`.
pub(super) fn readlink(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let argument = path_argument(task);
    let path = task.read_text(task.argument(argument), paths::MAX)?;
    let dir = if argument == 0 {
        libc::AT_FDCWD
    } else {
        task.int(0)
    };
    names::there(world, task, dir, argument, false)?;
    let may_be = |part: &[u8]| path.windows(part.len()).any(|window| window == part);
    let is_number = !path.is_empty() && path.iter().all(u8::is_ascii_digit);
    if is_number || may_be(b"fd/") || may_be(b"ns/") || path.starts_with(b"/dev/std") {
        return Ok(Entry::Make(seen));
    }
    Ok(Entry::Pass)
}

/// `symlink`, `symlinkat`: one that may lead out of the job's own directories makes names mean something else than they
/// say, so that all of them are looked up from then on.
pub(super) fn symlink(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (dir, name) = match task.call() {
        libc::SYS_symlinkat => (task.int(1), 2),
        _ => (libc::AT_FDCWD, 1),
    };
    names::there(world, task, dir, name, false)?;
    let target = task.read_text(task.argument(0), paths::MAX)?;
    let goes_up = target.split(|byte| *byte == b'/').any(|part| part == b"..");
    let is_plain = |start: &[u8]| target.starts_with(start);
    let stays = match target.first() {
        Some(b'/') => is_plain(b"/usr/") || is_plain(b"/work/") || is_plain(b"/tmp/"),
        Some(_) | None => true,
    };
    if goes_up || !stays {
        world.virt.indirect = true;
    }
    Ok(Entry::Pass)
}

/// `chdir`: from `/`, `/proc` and `/dev`, or below them, relative names are not what they seem either.
pub(super) fn chdir(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let path = task.read_text(task.argument(0), paths::MAX)?;
    names::there(world, task, libc::AT_FDCWD, 0, true)?;
    let is_elsewhere = |path: &[u8]| walk::names_the_systems(path) || names::is_of_image(path);
    if !world.virt.indirect {
        let start = paths::absolute(world, task, libc::AT_FDCWD, &path)?;
        world.virt.indirect = is_elsewhere(&path) || is_elsewhere(&start);
    }
    Ok(Entry::Pass)
}

/// `fchdir`: likewise. Directories of `/proc` and `/dev` are known from their opening.
pub(super) fn fchdir(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if let Ok(path) = paths::of_file(world, task, task.int(0))
        && names::is_of_image(&path)
    {
        world.virt.indirect = true;
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

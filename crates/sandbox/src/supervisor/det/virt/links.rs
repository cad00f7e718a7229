//! `readlink` of what `/proc` links to; links and directories by which other names reach it.

use std::io;

use super::walk::{self, Manner};
use super::{names, paths, process_files};
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
    let is_below = dir != libc::AT_FDCWD && !path.starts_with(b"/");
    if !(is_below || world.virt.indirect || may_be(b"fd/") || may_be(b"ns/")) {
        return Ok(Entry::Pass);
    }
    let manner = Manner {
        follow: false,
        in_root: false,
    };
    // what cannot be found the kernel does not find either
    let path = walk::canonical(world, task, dir, &path, manner).unwrap_or_default();
    let Some(name) = path.strip_prefix(b"/proc/") else {
        return Ok(Entry::Pass);
    };
    let (place, room) = buffer(task);
    world.virt.link = Some(Link {
        name: name.to_vec(),
        before: task.read_some(place, room.min(paths::MAX)),
    });
    Ok(Entry::Make(seen))
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

/// Where a call wants a link's text, and how much there may be of it: the kernel takes that for an `int`.
fn buffer(task: &Task) -> (u64, usize) {
    let first = path_argument(task);
    let room = usize::try_from(task.argument(first + 2) & 0x7fff_ffff).unwrap_or(0);
    (task.argument(first + 1), room)
}

/// A link of `/proc` that a task is asking for.
#[derive(Debug)]
pub(super) struct Link {
    /// Its path below `/proc`.
    name: Vec<u8>,
    /// What was in the memory that its text is wanted in.
    before: Vec<u8>,
}

fn seen(world: &mut World, task: &mut Task) -> io::Result<()> {
    let Some(Link { name, mut before }) = world.virt.link.take() else {
        return Ok(());
    };
    let (place, room) = buffer(task);
    if task.result() == -i64::from(libc::EFAULT) {
        // a part of the real text may be there
        let _ = task.write(place, &before);
    }
    let Ok(length) = usize::try_from(task.result()) else {
        return Ok(());
    };
    // the kernel may have cut it off
    let text = paths::link(world, &String::from_utf8_lossy(&name))?;
    let job = world.places(task)?.job;
    let Some(mut told) = process_files::link(&text, job, &mut world.virt.inodes) else {
        return Ok(());
    };
    told.truncate(room);
    // behind it there is what was there: how long the real text is depends on the machine
    before.truncate(length.max(told.len()));
    let covered = told.len().min(before.len());
    before[..covered].copy_from_slice(&told[..covered]);
    before.extend_from_slice(&told[covered..]);
    task.write(place, &before)?;
    task.set_result(i64::try_from(told.len()).unwrap_or(0));
    Ok(())
}

//! `stat` and its kin.

use std::io;

use super::constants;
use super::inodes::Stamp;
use super::named::Named;
use super::stat::{self, Place, Real, STAT_BYTES, STATFS_BYTES, STATX_BYTES};
use super::walk::{self, Manner};
use super::{names, paths};
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// `fstat`: answered from here, without the call.
pub(super) fn fstat(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let told = tell_open(world, task, task.int(0))?;
    task.write(task.argument(1), &told.to_stat())?;
    Ok(Entry::Done(0))
}

/// `newfstatat`, which is `fstat` with an empty path.
pub(super) fn newfstatat(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if is_open_file(world, task, task.int(3))? {
        let told = tell_open(world, task, task.int(0))?;
        task.write(task.argument(2), &told.to_stat())?;
        return Ok(Entry::Done(0));
    }
    names::there(world, task, task.int(0), 1, follows(task.int(3)))?;
    Ok(Entry::Make(seen))
}

/// `statx`, likewise.
pub(super) fn statx(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if is_open_file(world, task, task.int(2))? {
        let told = tell_open(world, task, task.int(0))?;
        task.write(task.argument(4), &told.to_statx())?;
        return Ok(Entry::Done(0));
    }
    names::there(world, task, task.int(0), 1, follows(task.int(2)))?;
    Ok(Entry::Make(seen))
}

/// `stat`, `lstat`.
pub(super) fn stat(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    names::there(world, task, libc::AT_FDCWD, 0, task.call() != libc::SYS_lstat)?;
    Ok(Entry::Make(seen))
}

fn follows(flags: i32) -> bool {
    flags & libc::AT_SYMLINK_NOFOLLOW == 0
}

/// `statfs`, `fstatfs`.
pub(super) fn statfs(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if task.call() == libc::SYS_statfs {
        names::there(world, task, libc::AT_FDCWD, 0, true)?;
    }
    Ok(Entry::Make(seen_system))
}

/// Whether a call names an open file: an empty path, a flag that allows it, and no current directory.
fn is_open_file(world: &mut World, task: &Task, flags: i32) -> io::Result<bool> {
    if flags & libc::AT_EMPTY_PATH == 0 || task.int(0) == libc::AT_FDCWD {
        return Ok(false);
    }
    // Newer kernels take no path for an empty one.
    if task.argument(1) == 0 {
        return Ok(true);
    }
    constants::is_empty(world, task, task.argument(1))
}

fn tell_open(world: &mut World, task: &Task, fd: i32) -> io::Result<stat::Told> {
    let file = world.open_file(task, fd)?;
    let (real, place) = world.look_at(task, &file)?;
    if place == Place::Job && real.mode & libc::S_IFMT == libc::S_IFREG {
        world.held.keep(task.process, fd, &file, real.inode);
    }
    let named = if place == Place::System && real.mode & libc::S_IFMT == libc::S_IFREG {
        let path = paths::of_file(world, task, fd)?;
        world.named(&real, &path)
    } else {
        Named::default()
    };
    world.tell(task, &file, &real, named)
}

/// Puts what the job is told over what the kernel has said.
fn seen(world: &mut World, task: &mut Task) -> io::Result<()> {
    let (dir, path, place, flags) = match task.call() {
        libc::SYS_newfstatat => (task.int(0), 1, 2, task.int(3)),
        libc::SYS_statx => (task.int(0), 1, 4, task.int(2)),
        libc::SYS_lstat => (libc::AT_FDCWD, 0, 1, libc::AT_SYMLINK_NOFOLLOW),
        _ => (libc::AT_FDCWD, 0, 1, 0),
    };
    let is_wide = task.call() == libc::SYS_statx;
    let place = task.argument(place);
    if task.result() != 0 {
        let length = if is_wide { STATX_BYTES } else { STAT_BYTES };
        return forget_part(task, place, length);
    }
    let real = if is_wide {
        let mut bytes = [0; STATX_BYTES];
        task.read(place, &mut bytes)?;
        Real::from_statx(&bytes)
    } else {
        let mut bytes = [0; STAT_BYTES];
        task.read(place, &mut bytes)?;
        Real::from_stat(&bytes)
    };
    let path = task
        .read_text(task.argument(path), paths::MAX)
        .unwrap_or_default();
    let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
    let is_linked = real.has_names() && world.places(task)?.of(&real) == Place::System;
    let manner = Manner {
        follow,
        in_root: false,
    };
    let named = if (is_linked || stat::may_keep_time(&path))
        && let Ok(path) = walk::canonical(world, task, dir, &path, manner)
    {
        world.named(&real, &path)
    } else {
        Named::default()
    };
    let (told, stamp) = world.tell_real(task, &real, named)?;
    if stamp == Stamp::Set {
        world.notice_path(task, dir, &path, follow, real.inode);
    }
    if is_wide {
        task.write(place, &told.to_statx())
    } else {
        task.write(place, &told.to_stat())
    }
}

/// Of an answer that the kernel could not write as a whole, a part may be there.
fn forget_part(task: &Task, place: u64, length: usize) -> io::Result<()> {
    if task.result() == -i64::from(libc::EFAULT) {
        let _ = task.write(place, &vec![0; length]);
    }
    Ok(())
}

/// Where the file of a `statfs` or `fstatfs` lies.
fn place_of(world: &mut World, task: &Task) -> io::Result<Place> {
    let file = if task.call() == libc::SYS_fstatfs {
        world.file(task, task.int(0))?
    } else {
        let path = task.read_text(task.argument(0), paths::MAX)?;
        let manner = Manner {
            follow: true,
            in_root: false,
        };
        let path = walk::canonical(world, task, libc::AT_FDCWD, &path, manner)?;
        paths::open(world, task, &path, false)?
    };
    Ok(world.look_at(task, &file)?.1)
}

fn seen_system(world: &mut World, task: &mut Task) -> io::Result<()> {
    let place = task.argument(1);
    if task.result() != 0 {
        return forget_part(task, place, STATFS_BYTES);
    }
    let mut bytes = [0; STATFS_BYTES];
    task.read(place, &mut bytes)?;
    let lies = place_of(world, task)?;
    task.write(place, &stat::statfs(&bytes, lies))
}

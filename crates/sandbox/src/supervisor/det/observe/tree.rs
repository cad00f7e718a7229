//! Changes of the tree of files.

use std::fs::File;
use std::io;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sandrun_types::{NodeKind, TaskEvent, TracePath, TreeChange};

use super::contents::{self, Need};
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::virt::{Place, paths};
use crate::supervisor::det::{Task, World};

/// `RENAME_EXCHANGE`.
const EXCHANGE: i32 = 2;

/// A call that changes the tree if it works.
pub(super) fn watch(world: &mut World, _: &mut Task) -> io::Result<Entry> {
    world.virt.tree_changes();
    Ok(Entry::Watch(changed))
}

/// One that may take a file's last name away: what was written to the file is told before.
pub(super) fn watch_loss(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (dir, path) = match task.call() {
        libc::SYS_unlink => (libc::AT_FDCWD, task.argument(0)),
        libc::SYS_unlinkat => (task.int(0), task.argument(1)),
        libc::SYS_rename => (libc::AT_FDCWD, task.argument(1)),
        _ => (task.int(2), task.argument(3)),
    };
    world.virt.tree_changes();
    // What is not there cannot be lost.
    let _ = lost(world, task, dir, path);
    Ok(Entry::Watch(changed))
}

fn lost(world: &mut World, task: &Task, dir: i32, path: u64) -> io::Result<()> {
    let path = task.read_text(path, paths::MAX)?;
    let file = paths::open_at(world, task, dir, &path, false)?;
    let (real, place) = world.look_at(task, &file)?;
    if place != Place::Job || real.mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(());
    }
    world.notice(&real, &file)?;
    if !world.virt.is_unreported(real.inode) {
        return Ok(());
    }
    let path = paths::absolute(world, task, dir, &path)?;
    let need = if real.links == 1 { Need::Last } else { Need::Now };
    let content = contents::of(world, (real.inode, real.size), need, |world| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let root = world.root(task)?;
        let file =
            paths::resolved(|| openat2(root, path.as_slice(), flags, Mode::empty(), ResolveFlags::IN_ROOT))?;
        Ok(File::from(file))
    })?;
    if let Some(content) = content {
        contents::written(world, task, &path, real.inode, content);
    }
    Ok(())
}

fn changed(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != 0 {
        return Ok(());
    }
    if let Some(change) = change(world, task)? {
        world.observe.record(task.id, TaskEvent::Tree(change));
    }
    Ok(())
}

fn change(world: &World, task: &Task) -> io::Result<Option<TreeChange>> {
    let cwd = libc::AT_FDCWD;
    let at = |dir: i32, argument: usize| -> io::Result<TracePath> {
        let path = task.read_text(task.argument(argument), paths::MAX)?;
        Ok(TracePath::of(&paths::absolute(world, task, dir, &path)?))
    };
    let directory = |path| TreeChange::Made {
        kind: NodeKind::Directory,
        path,
    };
    let renamed = |from, path| TreeChange::Renamed { from, path };
    Ok(Some(match task.call() {
        libc::SYS_mkdir => directory(at(cwd, 0)?),
        libc::SYS_mkdirat => directory(at(task.int(0), 1)?),
        libc::SYS_mknod => made(task.int(1), at(cwd, 0)?),
        libc::SYS_mknodat => made(task.int(2), at(task.int(0), 1)?),
        libc::SYS_symlink => symlinked(task, at(cwd, 1)?)?,
        libc::SYS_symlinkat => symlinked(task, at(task.int(1), 2)?)?,
        libc::SYS_link => TreeChange::Linked {
            from: at(cwd, 0)?,
            path: at(cwd, 1)?,
        },
        libc::SYS_linkat => TreeChange::Linked {
            from: at(task.int(0), 1)?,
            path: at(task.int(2), 3)?,
        },
        libc::SYS_rmdir => TreeChange::RemovedDirectory { path: at(cwd, 0)? },
        libc::SYS_unlink => TreeChange::Removed { path: at(cwd, 0)? },
        libc::SYS_unlinkat if task.int(2) & libc::AT_REMOVEDIR != 0 => TreeChange::RemovedDirectory {
            path: at(task.int(0), 1)?,
        },
        libc::SYS_unlinkat => TreeChange::Removed {
            path: at(task.int(0), 1)?,
        },
        libc::SYS_rename => renamed(at(cwd, 0)?, at(cwd, 1)?),
        libc::SYS_renameat2 if task.int(4) & EXCHANGE != 0 => TreeChange::Exchanged {
            from: at(task.int(0), 1)?,
            path: at(task.int(2), 3)?,
        },
        libc::SYS_renameat | libc::SYS_renameat2 => renamed(at(task.int(0), 1)?, at(task.int(2), 3)?),
        libc::SYS_chmod => mode(task.int(1), at(cwd, 0)?),
        libc::SYS_fchmodat | libc::SYS_fchmodat2 => mode(task.int(2), at(task.int(0), 1)?),
        libc::SYS_fchmod => mode(
            task.int(1),
            TracePath::of(named(&paths::of_file(world, task, task.int(0))?)),
        ),
        libc::SYS_truncate => TreeChange::Resized {
            length: task.argument(1),
            path: at(cwd, 0)?,
        },
        libc::SYS_bind => return bound(world, task),
        _ => return Ok(None),
    }))
}

/// A path as it is; of a pipe's or socket's name the kind alone, without the machine's number.
fn named(path: &[u8]) -> &[u8] {
    let kind = path.split(|byte| *byte == b':').next();
    kind.filter(|_| path.first() != Some(&b'/')).unwrap_or(path)
}

fn made(mode: i32, path: TracePath) -> TreeChange {
    let kind = match u32::try_from(mode).unwrap_or(0) & libc::S_IFMT {
        libc::S_IFIFO => NodeKind::Fifo,
        libc::S_IFSOCK => NodeKind::Socket,
        _ => NodeKind::File,
    };
    TreeChange::Made { kind, path }
}

fn symlinked(task: &Task, path: TracePath) -> io::Result<TreeChange> {
    let target = TracePath::of(&task.read_text(task.argument(0), paths::MAX)?);
    Ok(TreeChange::Symlinked { target, path })
}

fn mode(mode: i32, path: TracePath) -> TreeChange {
    let mode = u16::try_from(mode & 0o7777).unwrap_or(0);
    TreeChange::Mode { mode, path }
}

/// A socket got a name, if it is one of a file.
fn bound(world: &World, task: &Task) -> io::Result<Option<TreeChange>> {
    /// `struct sockaddr_un`: the family, then the path.
    const LONGEST: u64 = 110;
    let length = task.argument(2).min(LONGEST);
    let address = task.read_bytes(task.argument(1), usize::try_from(length).unwrap_or(0))?;
    let path = match address.as_slice() {
        [1, 0, path @ ..] if path.first().is_some_and(|byte| *byte != 0) => path,
        _ => return Ok(None),
    };
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    let path = paths::absolute(world, task, libc::AT_FDCWD, &path[..end])?;
    Ok(Some(TreeChange::Made {
        kind: NodeKind::Socket,
        path: TracePath::of(&path),
    }))
}

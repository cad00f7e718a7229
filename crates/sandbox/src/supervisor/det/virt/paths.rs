//! Paths as a task means them: made absolute, and opened from here as the job itself would.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};

use super::inodes::Inode;
use super::stat::Real;
use crate::supervisor::det::{Task, World};

/// Longest path.
pub(in super::super) const MAX: usize = 4096;

/// What a directory is called whose path is longer than [`MAX`].
const DEEP: &[u8] = b"/(too deep)";

/// The directory that a task is in.
fn current(world: &World, task: &Task) -> io::Result<Vec<u8>> {
    link(world, &format!("{}/cwd", task.id))
}

/// The same, kept until the tree of files changes. Whoever asks finds out by himself if the task went elsewhere.
fn likely_current(world: &mut World, task: &Task) -> io::Result<Rc<[u8]>> {
    if let Some(path) = world.virt.directory(task.process) {
        return Ok(path);
    }
    let path: Rc<[u8]> = Rc::from(current(world, task)?);
    world.virt.keep_directory(task.process, &path);
    Ok(path)
}

/// Opens the file that a task has opened last for writing once more, for reading, and says what its path is; if that is
/// the file with this inode, which has one name.
pub(in super::super) fn open_named(
    world: &mut World,
    task: &Task,
    inode: Inode,
) -> Option<(Rc<[u8]>, Again)> {
    // Opening a pipe would be noticed at its other end.
    let (dir, name) = task.named.take().filter(|_| !world.has_fifos)?;
    let path = match (name.first(), dir) {
        (Some(b'/'), _) => normal(&name),
        (Some(_), libc::AT_FDCWD) => {
            let directory = likely_current(world, task).ok()?;
            normal(&[&directory, b"/".as_slice(), &name].concat())
        }
        _ => return None,
    };
    let file = open_again(world, task, &path, inode);
    if file.is_none() {
        world.virt.forget_directory(task.process);
    }
    Some((Rc::from(path), file?))
}

/// A file that was opened once more, and what the kernel says of it.
pub(in super::super) struct Again {
    pub(in super::super) file: OwnedFd,
    pub(in super::super) real: Real,
}

/// Opens a file of the job for reading by a path without links, if it has this inode.
pub(in super::super) fn open_again(
    world: &mut World,
    task: &Task,
    path: &[u8],
    inode: Inode,
) -> Option<Again> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let end = path.iter().rposition(|byte| *byte == b'/')?;
    let (directory, name) = (&path[..end], &path[end + 1..]);
    let file = openat(parent(world, task, directory)?, name, flags, Mode::empty()).ok()?;
    let real = Real::of(&file).ok()?;
    (real.inode == inode).then_some(Again { file, real })
}

/// A directory by a path without links, kept until the tree of files changes: files that are closed one after the other
/// often lie in the same one.
fn parent<'a>(world: &'a mut World, task: &Task, path: &[u8]) -> Option<&'a OwnedFd> {
    let known = world.virt.parent.take().filter(|(known, _)| **known == *path);
    let found = match known {
        Some(found) => found,
        None => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let whole = if path.is_empty() { b"/".as_slice() } else { path };
            let root = world.root(task).ok()?;
            let file = resolved(|| openat2(root, whole, flags, Mode::empty(), resolve)).ok()?;
            (Box::from(path), file)
        }
    };
    Some(&world.virt.parent.insert(found).1)
}

/// The path of a task's open file, as the kernel tells it.
pub(in super::super) fn of_file(world: &World, task: &Task, fd: i32) -> io::Result<Vec<u8>> {
    link(world, &format!("{}/fd/{fd}", task.id))
}

/// What a link of the job's `/proc` says.
pub(in super::super) fn link(world: &World, name: &str) -> io::Result<Vec<u8>> {
    Ok(readlinkat(&world.proc, name, Vec::with_capacity(256))?.into_bytes())
}

/// The path that a task names relative to `dir` (or `AT_FDCWD`), absolute but otherwise as it is.
pub(super) fn joined(world: &World, task: &Task, dir: i32, path: &[u8]) -> io::Result<Vec<u8>> {
    if path.first() == Some(&b'/') {
        return Ok(path.to_vec());
    }
    let start = match dir {
        libc::AT_FDCWD => current(world, task),
        fd => of_file(world, task, fd),
    };
    let mut whole = match start {
        // what is done there works, but there is no name for it
        Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => DEEP.to_vec(),
        start => start?,
    };
    if !path.is_empty() {
        whole.push(b'/');
        whole.extend_from_slice(path);
    }
    Ok(whole)
}

/// The same without empty parts, `.` and `..`; symbolic links stay as they are named.
pub(in super::super) fn absolute(world: &World, task: &Task, dir: i32, path: &[u8]) -> io::Result<Vec<u8>> {
    Ok(normal(&joined(world, task, dir, path)?))
}

/// Takes empty parts, `.` and `..` out of an absolute path.
pub(in super::super) fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let mut whole = Vec::with_capacity(path.len());
    for part in &parts {
        whole.push(b'/');
        whole.extend_from_slice(part);
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole
}

/// Opens the job's root directory.
pub(super) fn open_root(world: &World, task: &Task) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(
        &world.proc,
        format!("{}/root", task.id),
        flags,
        Mode::empty(),
    )?)
}

/// Finds the file that a task names; it cannot be read or written through this.
pub(in super::super) fn open_at(
    world: &mut World,
    task: &Task,
    dir: i32,
    path: &[u8],
    follow: bool,
) -> io::Result<OwnedFd> {
    let path = joined(world, task, dir, path)?;
    open(world, task, &path, follow)
}

/// The same by an absolute path.
pub(in super::super) fn open(
    world: &mut World,
    task: &Task,
    path: &[u8],
    follow: bool,
) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let flags = if follow { flags } else { flags | OFlags::NOFOLLOW };
    let path = CString::new(path)?;
    let root = world.root(task)?;
    Ok(resolved(|| {
        openat2(root, path.as_c_str(), flags, Mode::empty(), ResolveFlags::IN_ROOT)
    })?)
}

/// Asks again as long as a rename anywhere on the machine keeps the kernel from being sure of the path.
pub(in super::super) fn resolved<T>(mut ask: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    const MOST: u32 = 10_000;
    for _ in 0..MOST {
        match ask() {
            Err(rustix::io::Errno::AGAIN) => std::thread::yield_now(),
            other => return other,
        }
    }
    ask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_normal() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/./b//c/../d", "/a/b/d"),
            ("/../../x", "/x"),
            ("/a/..", "/"),
            ("/work/", "/work"),
        ] {
            assert_eq!(normal(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}

//! Paths as a task means them: made absolute, and opened from here as the job itself would.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};

use crate::supervisor::det::{Task, World};

/// Longest path.
pub(in super::super) const MAX: usize = 4096;

/// What a directory is called whose path is longer than [`MAX`].
const DEEP: &[u8] = b"/(too deep)";

/// The directory that a task is in.
fn current(world: &World, task: &Task) -> io::Result<Vec<u8>> {
    link(world, &format!("{}/cwd", task.id))
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

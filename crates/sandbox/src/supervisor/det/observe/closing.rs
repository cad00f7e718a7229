//! Files that tasks close: what was read and written through them.
//!
//! A file is told as written when it is closed by whoever, or lost (see [`super::tree`]), and was changed since it was
//! last told; by which descriptor does not matter, so a shell's redirections and mappings are seen as well.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Dir, Mode, OFlags, fcntl_getfl, openat};
use sandrun_types::{TaskEvent, TracePath};

use super::contents::{self, Need};
use crate::supervisor::det::held::OpenFile;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::virt::inodes::Inode;
use crate::supervisor::det::virt::paths::{self, Again};
use crate::supervisor::det::virt::{Place, Real};
use crate::supervisor::det::{Task, World};

/// `close`.
pub(super) fn close(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    closed(world, task, task.int(0));
    Ok(Entry::Pass)
}

/// `dup2`, `dup3`: the new number's old file is closed.
pub(super) fn replace(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if task.int(0) != task.int(1) {
        closed(world, task, task.int(1));
    }
    Ok(Entry::Pass)
}

/// `close_range`.
pub(super) fn close_range(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const ONLY_AT_EXEC: i32 = 4;
    if task.int(2) & ONLY_AT_EXEC == 0 {
        let number = |argument| task.argument(argument) & 0xffff_ffff;
        let (first, last) = (number(0), number(1));
        for fd in open_files(world, task)? {
            if u64::try_from(fd).is_ok_and(|fd| first <= fd && fd <= last) {
                closed(world, task, fd);
            }
        }
    }
    Ok(Entry::Pass)
}

/// `exit_group`: everything is closed.
pub(super) fn exit_group(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    for fd in open_files(world, task)? {
        closed(world, task, fd);
    }
    Ok(Entry::Pass)
}

/// `mmap` of a shared mapping: what is written through it is looked for from now on.
pub(super) fn map(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const ANONYMOUS: i32 = libc::MAP_ANONYMOUS;
    if task.int(3) & (ANONYMOUS | libc::MAP_SHARED) == libc::MAP_SHARED
        && let Ok(file) = world.file(task, task.int(4))
        && let Ok((real, Place::Job)) = world.look_at(task, &file)
        && fcntl_getfl(&file).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
    {
        world.virt.map(real.inode);
    }
    Ok(Entry::Pass)
}

/// Numbers of a task's open files, ascending.
fn open_files(world: &World, task: &Task) -> io::Result<Vec<i32>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(&world.proc, format!("{}/fd", task.id), flags, Mode::empty())?;
    let mut numbers = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse::<i32>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A file that can be read from here.
enum Readable {
    /// The job's own, which is open for reading.
    Same(Rc<OpenFile>),
    /// Opened once more.
    Again(OwnedFd),
}

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Same(file) => file.as_fd(),
            Self::Again(file) => file.as_fd(),
        }
    }
}

/// A file that cannot be looked at (there is none by this number) makes no event.
fn closed(world: &mut World, task: &Task, fd: i32) {
    let _ = tell(world, task, fd);
    world.held.close(task.process, fd);
}

fn tell(world: &mut World, task: &Task, fd: i32) -> io::Result<()> {
    let file = world.open_file(task, fd)?;
    let flags = file.flags();
    let is_readable = flags & OFlags::RWMODE != OFlags::WRONLY && !flags.contains(OFlags::PATH);
    // one whose number is known needs no look by itself
    let known = file.inode().filter(|_| !is_readable);
    let mut again = known.and_then(|inode| by_its_name(world, task, inode));
    let real = match &again {
        Some(again) => again.real,
        None => match world.look_at(task, &file)? {
            (real, Place::Job) if real.mode & libc::S_IFMT == libc::S_IFREG => real,
            _ => return Ok(()),
        },
    };
    world.notice(&real, &file)?;
    let is_written = world.virt.is_unreported(real.inode);
    let is_read = flags & OFlags::RWMODE == OFlags::RDONLY && !flags.contains(OFlags::PATH);
    if !is_written && !is_read {
        return Ok(());
    }
    if !is_readable && again.is_none() && real.links == 1 {
        again = by_its_name(world, task, real.inode);
    }
    let path = path_of(world, task, fd, &real)?;
    let content = contents::of(world, (real.inode, real.size), Need::Now, |world| {
        if is_readable {
            return Ok(Readable::Same(file));
        }
        again = again
            .take()
            .or_else(|| paths::open_again(world, task, &path, real.inode));
        if let Some(again) = again {
            return Ok(Readable::Again(again.file));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let name = format!("{}/fd/{fd}", task.id);
        Ok(Readable::Again(openat(&world.proc, name, flags, Mode::empty())?))
    })?;
    let Some(content) = content else {
        return Ok(());
    };
    if is_written {
        contents::written(world, task, &path, real.inode, content);
    }
    if is_read {
        let path = TracePath::of(&path);
        world
            .observe
            .record(task.id, TaskEvent::FileRead { path, content });
    }
    Ok(())
}

/// A file of the job's, opened by the name that the task has named last, if that is its only one.
fn by_its_name(world: &mut World, task: &Task, inode: Inode) -> Option<Again> {
    if world.virt.path(inode).is_some() {
        return None;
    }
    let (path, again) = paths::open_named(world, task, inode)?;
    if again.real.links != 1 {
        return None;
    }
    world.virt.keep_path(inode, &path);
    Some(again)
}

/// The path of an open file. One that never had a name is named by its number, as the kernel does it, but a virtual one.
fn path_of(world: &mut World, task: &Task, fd: i32, real: &Real) -> io::Result<Rc<[u8]>> {
    if let Some(path) = world.virt.path(real.inode) {
        return Ok(path);
    }
    let path = paths::of_file(world, task, fd)?;
    if real.links > 0 {
        // Which of several names it was opened by, the kernel has to say each time.
        let path = Rc::from(path);
        if real.links == 1 {
            world.virt.keep_path(real.inode, &path);
        }
        return Ok(path);
    }
    let number = format!("/#{} (deleted)", real.inode.number);
    Ok(match path.strip_suffix(number.as_bytes()) {
        Some(directory) => {
            let number = world.virt.number(real.inode);
            Rc::from([directory, format!("/#{number} (deleted)").as_bytes()].concat())
        }
        None => Rc::from(path),
    })
}

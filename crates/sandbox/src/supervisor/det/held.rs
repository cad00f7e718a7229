//! Files of the job that the tracer keeps a copy of, so that the next look at them is quick.
//!
//! Owns the copies, each for as long as the job's own number stands for that file: whoever sees the number closed, the
//! process executed or ended says so here. Never holds what can block, as the other end would not see it closed.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{OFlags, fcntl_getfl};

use super::hash::Numbered;
use super::task::TaskId;
use super::virt::inodes::Inode;

/// Most copies at a time; a process has not many files open that it looks at again.
const MOST: usize = 128;

/// A copy of a job's open file.
#[derive(Debug)]
pub(in crate::supervisor) struct OpenFile {
    file: OwnedFd,
    flags: OFlags,
    /// Which one it is, once somebody has found out that it is a regular file of the job's own.
    inode: Cell<Option<Inode>>,
}

impl OpenFile {
    /// A copy, whose flags are asked for here.
    pub(super) fn new(file: OwnedFd) -> std::io::Result<Self> {
        let flags = fcntl_getfl(&file)?;
        Ok(Self {
            file,
            flags,
            inode: Cell::new(None),
        })
    }

    /// Which regular file of the job's own it is, if that is known.
    pub(super) const fn inode(&self) -> Option<Inode> {
        self.inode.get()
    }

    /// How it was opened: for reading, for writing, for neither.
    pub(super) const fn flags(&self) -> OFlags {
        self.flags
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// All copies.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Held {
    files: Numbered<(TaskId, i32), Rc<OpenFile>>,
    /// Tables of files are not one for each process, so that numbers say nothing.
    is_off: bool,
}

impl Held {
    /// The copy of a process's file.
    pub(super) fn get(&self, process: TaskId, fd: i32) -> Option<Rc<OpenFile>> {
        self.files.get(&(process, fd)).cloned()
    }

    /// Keeps one, which is this regular file of the job's own.
    pub(super) fn keep(&mut self, process: TaskId, fd: i32, file: &Rc<OpenFile>, inode: Inode) {
        file.inode.set(Some(inode));
        if self.is_off {
            return;
        }
        if self.files.len() >= MOST {
            self.files.clear();
        }
        self.files.insert((process, fd), Rc::clone(file));
    }

    /// A number is about to be closed.
    pub(super) fn close(&mut self, process: TaskId, fd: i32) {
        self.files.remove(&(process, fd));
    }

    /// All of a process's numbers may stand for something else, or for nothing.
    pub(super) fn forget(&mut self, process: TaskId) {
        self.files.retain(|(owner, _), _| *owner != process);
    }

    /// A task was made with these flags of clone(2).
    pub(super) fn cloned(&mut self, flags: i32) {
        if (flags & libc::CLONE_FILES == 0) != (flags & libc::CLONE_THREAD == 0) {
            self.is_off = true;
            self.files.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INODE: Inode = Inode { device: 1, number: 2 };

    fn file() -> Rc<OpenFile> {
        let file = std::fs::File::open("/dev/null").unwrap();
        Rc::new(OpenFile::new(file.into()).unwrap())
    }

    #[test]
    fn a_copy_goes_with_its_number_its_process_and_its_table() {
        let mut held = Held::default();
        for (process, fd) in [(2, 3), (2, 4), (5, 3)] {
            held.keep(process, fd, &file(), INODE);
        }
        held.close(2, 3);
        assert!(held.get(2, 3).is_none() && held.get(2, 4).is_some() && held.get(5, 3).is_some());
        held.forget(2);
        assert!(held.get(2, 4).is_none() && held.get(5, 3).is_some());
        held.cloned(libc::CLONE_THREAD | libc::CLONE_FILES);
        held.cloned(libc::CLONE_VM);
        assert!(held.get(5, 3).is_some());
        held.cloned(libc::CLONE_FILES);
        held.keep(5, 3, &file(), INODE);
        assert!(held.get(5, 3).is_none());
    }

    #[test]
    fn copies_are_few() {
        let mut held = Held::default();
        for fd in 0..1000 {
            held.keep(2, fd, &file(), INODE);
            assert!(held.files.len() <= MOST);
        }
        assert!(held.get(2, 999).is_some());
    }
}

//! Files that are made in place of the kernel's own. They are files in memory, open for reading and writing; what the job
//! is told is how it has opened them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::inodes::Inode;
use super::stat::Real;
use crate::supervisor::det::World;

/// Flags of an open that stay with the file and that nobody can set later.
const STAYS: i32 = libc::O_SYNC | libc::O_NOFOLLOW;
/// Those that can be.
const SETTABLE: OFlags = OFlags::APPEND.union(OFlags::NONBLOCK);

/// Made files, each with the flags that it was opened with and that the kernel does not keep for it.
#[derive(Debug, Default)]
pub(super) struct Made(BTreeMap<Inode, i32>);

impl World {
    /// A file was made for an open with these flags.
    pub(super) fn note_made(&mut self, file: impl AsFd, flags: i32) -> io::Result<()> {
        let inode = Real::of(&file)?.inode;
        let asked = OFlags::from_bits_retain(flags.cast_unsigned()) & SETTABLE;
        if !asked.is_empty() {
            fcntl_setfl(&file, fcntl_getfl(&file)? | asked)?;
        }
        self.virt.made.0.insert(inode, flags & STAYS);
        Ok(())
    }

    /// Whether any was made.
    pub(in super::super) fn has_made(&self) -> bool {
        !self.virt.made.0.is_empty()
    }

    /// How the job has opened a made file, of which the kernel says `flags`; `None` for another file.
    pub(in super::super) fn made_flags(&self, inode: Inode, flags: i32) -> Option<i32> {
        let stays = self.virt.made.0.get(&inode)?;
        Some(flags & !libc::O_ACCMODE | stays)
    }
}

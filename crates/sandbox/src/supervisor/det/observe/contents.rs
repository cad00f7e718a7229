//! Contents of files, hashed once as long as nobody writes.

use std::io;
use std::os::fd::AsFd;

use rustix::io::pread;
use sandrun_types::{FileHash, Sha256Hex, TaskEvent, TracePath};
use sha2::{Digest as _, Sha256};

use crate::supervisor::det::virt::inodes::Inode;
use crate::supervisor::det::{Task, World};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// A file up to this length needs no memory of its own to be read into.
const SMALL: usize = 1024;

/// Whether a file's content has to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// There will be other occasions.
    Now,
    /// This is the last one.
    Last,
}

/// What a file of the job holds now. `open` opens it for reading; it is asked only where the content is not known.
/// `None` if it was hashed so often already that this time it is left out.
pub(super) fn of<F: AsFd>(
    world: &mut World,
    (inode, length): (Inode, u64),
    need: Need,
    open: impl FnOnce(&mut World) -> io::Result<F>,
) -> io::Result<Option<FileHash>> {
    if let Some(content) = world.virt.content(inode) {
        return Ok(Some(content));
    }
    if need == Need::Now && !world.virt.may_hash(inode, length) {
        return Ok(None);
    }
    let file = open(world)?;
    let content = hash(world, &file, length)?;
    world.virt.hashed(inode, content);
    Ok(Some(content))
}

/// All of a file that has this length, wherever its offset stands. Nobody writes meanwhile: no task runs. An error
/// where the job has to end before.
pub(super) fn hash(world: &mut World, file: impl AsFd, length: u64) -> io::Result<FileHash> {
    world.spend_on_hashing(length)?;
    let mut hasher = Sha256::new();
    let mut done = 0;
    let size = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
    let (mut small, mut large) = ([0; SMALL], Vec::new());
    let piece = if size <= SMALL {
        &mut small[..size]
    } else {
        large.resize(size, 0);
        large.as_mut_slice()
    };
    while done < length {
        if world.orders.are_to_stop() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let read = pread(&file, &mut *piece, done)?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
        done += u64::try_from(read).unwrap_or(0);
    }
    Ok(FileHash {
        length: done,
        sha256: Sha256Hex(hasher.finalize().into()),
    })
}

/// Tells that a task has written a file, if its content is another one than was told last.
pub(super) fn written(world: &mut World, task: &Task, path: &[u8], inode: Inode, content: FileHash) {
    if !world.virt.report(inode, content) {
        return;
    }
    let path = TracePath::of(path);
    world
        .observe
        .record(task.id, TaskEvent::FileWritten { path, content });
}

//! `getdents64` and `getdents`: whole directories, sorted.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, RawDir, SeekFrom, seek, statat};

use super::inodes::Inode;
use super::listing::{Entry as Name, Form, MOST, Page};
use super::stat::{Place, Real};
use super::{names, paths, process_files};
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// Bytes of a directory that are read at once.
const BUFFER: usize = 64 * 1024;
/// `getdents64`.
pub(super) fn getdents64(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    list(world, task, Form::Wide)
}

/// `getdents`.
pub(super) fn getdents(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    list(world, task, Form::Old)
}

fn list(world: &mut World, task: &Task, form: Form) -> io::Result<Entry> {
    let directory = world.file(task, task.int(0))?;
    let (real, place) = world.look_at(task, &directory)?;
    let position = seek(&directory, SeekFrom::Current(0))?;
    let room = usize::try_from(task.argument(2) & 0xffff_ffff).unwrap_or(0);
    // The lists are lent out while the directory is read.
    let mut listings = std::mem::take(&mut world.virt.listings);
    let page = listings.page((real.inode, position), room, form, || {
        read(world, task, &directory, &real, place)
    });
    world.virt.listings = listings;
    match page? {
        Page::TooSmall => Ok(Entry::Done(-i64::from(libc::EINVAL))),
        Page::Records(bytes, next) => {
            task.write(task.argument(1), &bytes)?;
            seek(&directory, SeekFrom::Start(next))?;
            Ok(Entry::Done(i64::try_from(bytes.len()).unwrap_or(0)))
        }
    }
}

fn read(
    world: &mut World,
    task: &Task,
    directory: &OwnedFd,
    real: &Real,
    place: Place,
) -> io::Result<Vec<Name>> {
    seek(directory, SeekFrom::Start(0))?;
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut raw = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        if names.len() >= MOST {
            return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
        }
        let name = entry.file_name().to_bytes();
        names.push(Name {
            inode: entry.ino(),
            kind: kind_number(entry.file_type()),
            name: name.to_vec(),
        });
    }
    if place == Place::Proc {
        let path = paths::of_file(world, task, task.int(0))?;
        names.retain(|entry| is_shown(&path, &entry.name));
    }
    for entry in &mut names {
        if !entry.kind_is_known()
            && let Ok(stat) = statat(directory, entry.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
        {
            entry.kind = kind_number(rustix::fs::FileType::from_raw_mode(stat.st_mode));
        }
    }
    number(world, &mut names, real, place);
    Ok(names)
}

/// Numbers as `stat` tells them where the job can make files. Elsewhere a file system's own listing may disagree with
/// its own `stat`, so that numbers are made from the names, and no number is spent.
fn number(world: &mut World, names: &mut [Name], real: &Real, place: Place) {
    if place == Place::Job {
        names.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in names {
            entry.inode = world.virt.inodes.number(Inode {
                device: real.inode.device,
                number: entry.inode,
            });
        }
    } else {
        let directory = world.virt.inodes.number(real.inode);
        for entry in names {
            entry.inode = fnv(directory, &entry.name);
        }
    }
}

/// FNV-1a, 64 bits, in the upper half of what an inode number can be.
fn fnv(seed: u64, name: &[u8]) -> u64 {
    let bytes = seed.to_le_bytes();
    let hash = bytes
        .iter()
        .chain(name)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    hash >> 1 | 1 << 62
}

/// Whether a directory of `/proc` lists a name: those that every kernel has.
fn is_shown(directory: &[u8], name: &[u8]) -> bool {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if name == b"." || name == b".." {
        return true;
    }
    let parts: Vec<&[u8]> = directory.split(|byte| *byte == b'/').skip(1).collect();
    match parts.as_slice() {
        [b"proc"] => is_number(name) || names::TOP.contains(&name),
        [b"proc", process] if is_number(process) => process_files::is_listed(name),
        [b"proc", process, b"task", thread] if is_number(process) && is_number(thread) => {
            process_files::is_listed(name) && name != b"task"
        }
        _ => true,
    }
}

fn kind_number(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType;
    match kind {
        FileType::RegularFile => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::Socket => libc::DT_SOCK,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_shows_what_every_kernel_has() {
        assert!(is_shown(b"/proc", b"12") && is_shown(b"/proc", b"self") && !is_shown(b"/proc", b"kallsyms"));
        assert!(is_shown(b"/proc/2", b"maps") && !is_shown(b"/proc/2", b"patch_state"));
        assert!(is_shown(b"/proc/2/task/3", b"stat") && !is_shown(b"/proc/2/task/3", b"task"));
        assert!(is_shown(b"/proc/2/fd", b"255") && is_shown(b"/proc/sys/vm", b"anything"));
    }

    #[test]
    fn made_numbers_are_no_given_ones() {
        assert!(fnv(1000, b"a") >= 1 << 62);
        assert_ne!(fnv(1000, b"a"), fnv(1001, b"a"));
        assert!(i64::try_from(fnv(1, b"x")).is_ok());
    }
}

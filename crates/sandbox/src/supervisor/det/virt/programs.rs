//! Programs that a task is about to execute: those alone that every kernel of the class loads alike.
//!
//! A 32-bit program would be loaded by some kernels only, and would change to the machine's own code from there. Owns
//! which file is a program; whether a task may execute it is the kernel's matter.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::stat::Real;
use super::walk::{self, Manner};
use super::{inodes::Inode, names, paths};
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// So much of a file says what it is, as in the kernel.
const HEAD: usize = 256;
/// Files that the kernel looks at: a program behind so many scripts less one is executed.
const MOST_FILES: usize = 6;
/// Class (64 bits), machine and size of a program header of ELF files that this architecture's loader takes.
const CLASS: u8 = 2;
const MACHINE: u16 = libc::EM_X86_64;
const HEADER_BYTES: u16 = 56;
/// Size of a program header of a file of the x32 interface, which some kernels have a loader for.
const NARROW_HEADER_BYTES: u16 = 32;

/// What a file is to the kernel that executes it.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A program.
    Program,
    /// A text with this interpreter; none where the kernel has an error for it.
    Script(Option<Vec<u8>>),
    /// Neither, whatever else the machine might have a loader for.
    Other,
}

/// `execve`, `execveat`.
pub(super) fn execute(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (dir, path_at, flags) = match task.call() {
        libc::SYS_execveat => (task.int(0), task.argument(1), task.int(4)),
        _ => (libc::AT_FDCWD, task.argument(0), 0),
    };
    let mut path = task.read_text(path_at, paths::MAX)?;
    if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
        return Ok(Entry::Pass);
    }
    let mut start = dir;
    for _ in 0..MOST_FILES {
        names::is_there(world, task, start, &path, true)?;
        // what cannot be found or executed the kernel has an error for
        let Ok(Some(file)) = open(world, task, start, &path) else {
            return Ok(Entry::Pass);
        };
        match kind(&head(&file)?) {
            Kind::Program | Kind::Script(None) => return Ok(Entry::Pass),
            Kind::Other => return Err(io::Error::from_raw_os_error(libc::ENOEXEC)),
            Kind::Script(Some(interpreter)) => (start, path) = (libc::AT_FDCWD, interpreter),
        }
    }
    Ok(Entry::Pass)
}

/// Opens a regular file that somebody may execute.
fn open(world: &mut World, task: &Task, dir: i32, path: &[u8]) -> io::Result<Option<OwnedFd>> {
    let manner = Manner {
        follow: true,
        in_root: false,
    };
    let path = walk::canonical(world, task, dir, path, manner)?;
    let real = Real::of(paths::open(world, task, &path, false)?)?;
    if real.mode & libc::S_IFMT != libc::S_IFREG || real.mode & 0o111 == 0 {
        return Ok(None);
    }
    again(world, task, &path, real.inode)
}

/// Opens it once more for reading, if it is still the same.
fn again(world: &mut World, task: &Task, path: &[u8], inode: Inode) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let root = world.root(task)?;
    let file = paths::resolved(|| openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT))?;
    Ok((Real::of(&file)?.inode == inode).then_some(file))
}

/// The beginning of a file, with zeros behind its end.
fn head(file: &OwnedFd) -> io::Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    let mut done = 0;
    while done < HEAD {
        let at = u64::try_from(done).unwrap_or(0);
        match rustix::io::pread(file, &mut head[done..], at)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(head)
}

fn kind(head: &[u8; HEAD]) -> Kind {
    let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    if head.starts_with(b"#!") {
        return Kind::Script(interpreter(&head[2..]));
    }
    // what the usual loader finds fault with, another one may take: none looks at the class
    let is_narrow = number(42) == NARROW_HEADER_BYTES && number(44) != 0;
    let is_wide = head[4] == CLASS && number(18) == MACHINE && number(54) == HEADER_BYTES;
    if head.starts_with(b"\x7fELF") && is_wide && !is_narrow {
        Kind::Program
    } else {
        Kind::Other
    }
}

/// The interpreter that the first line of a script names, behind `#!`.
fn interpreter(line: &[u8]) -> Option<Vec<u8>> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = line.split(|byte| *byte == b'\n').next()?;
    let from = line.iter().position(|byte| !is_blank(byte))?;
    let name = line[from..].split(|byte| is_blank(byte) || *byte == 0).next()?;
    (!name.is_empty()).then(|| name.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Kind {
        let mut head = [0; HEAD];
        head[..bytes.len()].copy_from_slice(bytes);
        kind(&head)
    }

    #[test]
    fn programs_of_this_architecture_and_scripts_are_executed() {
        let mut program = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0\
            \0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\x0d\0";
        assert_eq!(of(&program), Kind::Program);
        // of the x32 interface as well; then of another class, and of another machine's headers
        for (at, bytes) in [(42, [32, 0, 1]), (4, [1, 1, 1]), (54, [32, 0, 13])] {
            let mut other = program;
            other[at..at + 3].copy_from_slice(&bytes);
            assert_eq!(of(&other), Kind::Other, "{at}");
        }
        // a table of sections two megabytes away
        program[42] = 32;
        assert_eq!(of(&program), Kind::Program);
        assert_eq!(of(b"\x7fELF\x01\x01\x01"), Kind::Other);
        assert_eq!(of(b""), Kind::Other);
        let named = |name: &[u8]| Kind::Script(Some(name.to_vec()));
        assert_eq!(of(b"#!/bin/sh\n"), named(b"/bin/sh"));
        assert_eq!(of(b"#! \t/usr/bin/env python3\n"), named(b"/usr/bin/env"));
        assert_eq!(of(b"#!\n/bin/sh"), Kind::Script(None));
        assert_eq!(of(b"#!"), Kind::Script(None));
    }
}

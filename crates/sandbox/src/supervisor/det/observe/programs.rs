//! Programs that tasks execute.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Mode, OFlags, openat};
use sandrun_types::{FileHash, Sha256Hex, TaskEvent, TracePath, list_hash};
use sha2::{Digest as _, Sha256};

use super::contents::{self, Need};
use crate::supervisor::det::virt::inodes::Inode;
use crate::supervisor::det::virt::{Place, Real, paths};
use crate::supervisor::det::{Task, World};

/// Programs of the system that are longer than this are known by their beginning and their end.
const WHOLE: u64 = 1 << 20;
/// So much of each.
const SAMPLE: usize = 64 * 1024;

/// Programs of the system that were hashed, which nobody can write while a job runs.
pub(super) type Known = BTreeMap<Inode, FileHash>;

/// A task became another program, which has not run yet.
pub(in super::super) fn executed(world: &mut World, task: &Task) -> io::Result<()> {
    let path = TracePath::of(&paths::link(world, &format!("{}/exe", task.id))?);
    let program = program(world, task)?;
    let argv = list_hash(&list(world, &format!("{}/cmdline", task.id))?);
    let env = list_hash(&list(world, &format!("{}/environ", task.id))?);
    world.observe.record(
        task.id,
        TaskEvent::Exec {
            path,
            program,
            argv,
            env,
        },
    );
    Ok(())
}

fn open(world: &World, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(File::from(openat(&world.proc, name, flags, Mode::empty())?))
}

/// Texts that end with zeros.
fn list(world: &World, name: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    open(world, name)?.read_to_end(&mut bytes)?;
    if bytes.pop().is_none() {
        return Ok(Vec::new());
    }
    Ok(bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

fn program(world: &mut World, task: &Task) -> io::Result<FileHash> {
    let file = open(world, &format!("{}/exe", task.id))?;
    let (real, place) = world.look_at(task, &file)?;
    if place == Place::System {
        return system_program(world, &real, &file);
    }
    if place == Place::Job {
        world.notice(&real, &file)?;
        let content = contents::of(world, (real.inode, real.size), Need::Last, |_| file.try_clone())?;
        if let Some(content) = content {
            return Ok(content);
        }
    }
    contents::hash(world, &file, real.size)
}

fn system_program(world: &mut World, real: &Real, file: &File) -> io::Result<FileHash> {
    if let Some(known) = world.observe.programs.get(&real.inode) {
        return Ok(*known);
    }
    let hash = if real.size <= WHOLE {
        contents::hash(world, file, real.size)?
    } else {
        sample(file, real.size)?
    };
    world.observe.programs.insert(real.inode, hash);
    Ok(hash)
}

fn sample(file: &File, length: u64) -> io::Result<FileHash> {
    let mut bytes = vec![0; 2 * SAMPLE];
    let (first, last) = bytes.split_at_mut(SAMPLE);
    file.read_exact_at(first, 0)?;
    let end = length.saturating_sub(u64::try_from(SAMPLE).unwrap_or(0));
    file.read_exact_at(last, end)?;
    Ok(FileHash {
        length,
        sha256: Sha256Hex(Sha256::digest(&bytes).into()),
    })
}

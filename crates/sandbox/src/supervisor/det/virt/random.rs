//! Entropy for the job: `getrandom`, `/dev/random`, `/dev/urandom`, and the 16 bytes of a fresh program.

use std::io;

use sandrun_types::EntropySource;

use super::auxiliary;
use super::entropy::MAX_DRAW;
use super::stat::Real;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::vdso::Auxiliary;
use crate::supervisor::det::{Task, World};

/// Bytes that are drawn and written at once.
const PIECE: usize = 64 * 1024;
/// Most pieces of one `readv`.
const MAX_VECTORS: u64 = 1024;

/// A fresh program: its entropy, and what else of its auxiliary vector depends on the machine.
pub(in super::super) fn executed(world: &mut World, task: &Task, vector: &[Auxiliary]) -> io::Result<()> {
    for entry in vector {
        if let Some(value) = auxiliary::fixed(entry.kind) {
            task.write(entry.at, &value.to_ne_bytes())?;
        }
        if entry.kind == auxiliary::RANDOM {
            draw(world, task, EntropySource::Auxiliary, entry.value, 16)?;
        }
    }
    Ok(())
}

/// `getrandom`.
pub(super) fn getrandom(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    // GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE; the last two exclude each other.
    let flags = task.argument(2);
    if flags & !7 != 0 || flags & 6 == 6 {
        return Ok(Entry::Done(-i64::from(libc::EINVAL)));
    }
    let drawn = draw(
        world,
        task,
        EntropySource::Call,
        task.argument(0),
        task.argument(1),
    )?;
    Ok(Entry::Done(drawn))
}

/// Reading at one place.
pub(super) fn read(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if !is_device(world, task, task.int(0)) {
        return Ok(Entry::Pass);
    }
    let drawn = draw(
        world,
        task,
        EntropySource::Device,
        task.argument(1),
        task.argument(2),
    )?;
    Ok(Entry::Done(drawn))
}

/// Reading into several places.
pub(super) fn readv(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    if !is_device(world, task, task.int(0)) {
        return Ok(Entry::Pass);
    }
    let mut total = 0;
    for vector in 0..task.argument(2).min(MAX_VECTORS) {
        let at = task.argument(1).saturating_add(vector * 16);
        let (base, length) = (task.read_u64(at)?, task.read_u64(at.saturating_add(8))?);
        let room = i64::try_from(MAX_DRAW).unwrap_or(0) - total;
        let length = length.min(u64::try_from(room).unwrap_or(0));
        total += draw(world, task, EntropySource::Device, base, length)?;
    }
    Ok(Entry::Done(total))
}

/// Copying inside the kernel, from the file of argument 1, works for no entropy: programs then read it.
pub(super) fn second_is_not_entropy(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    Ok(refused(world, task, 1))
}

fn refused(world: &mut World, task: &Task, argument: usize) -> Entry {
    if is_device(world, task, task.int(argument)) {
        Entry::Done(-i64::from(libc::EINVAL))
    } else {
        Entry::Pass
    }
}

/// Whether a file is a device of entropy.
fn is_device(world: &mut World, task: &Task, fd: i32) -> bool {
    let (random, urandom) = (libc::makedev(1, 8), libc::makedev(1, 9));
    world.virt.device_opened
        && world.file(task, fd).and_then(Real::of).is_ok_and(|real| {
            real.mode & libc::S_IFMT == libc::S_IFCHR
                && (real.device_file == random || real.device_file == urandom)
        })
}

/// Draws for a task's process into its memory, and tells so. What was drawn before a fault counts, as in the kernel.
fn draw(world: &mut World, task: &Task, source: EntropySource, at: u64, length: u64) -> io::Result<i64> {
    let wanted = usize::try_from(length).unwrap_or(MAX_DRAW).min(MAX_DRAW);
    let mut bytes = vec![0; wanted.min(PIECE)];
    let mut done = 0;
    while done < wanted {
        let piece = &mut bytes[..(wanted - done).min(PIECE)];
        world.entropy().draw(task.process, piece);
        let place = at.saturating_add(u64::try_from(done).unwrap_or(0));
        match task.write(place, piece) {
            Ok(()) => done += piece.len(),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    let drawn = u64::try_from(done).unwrap_or(0);
    observe::drawn(world, task, source, drawn);
    Ok(i64::try_from(done).unwrap_or(0))
}

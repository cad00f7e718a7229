//! The job sets its files' times: they go into the table, and the files keep the mark of untouched ones.

use std::io;

use super::inodes::FileTime;
use super::stat::Place;
use super::state::set_untouched;
use super::{names, paths};
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

const UTIME_NOW: u32 = 0x3fff_ffff;
const UTIME_OMIT: u32 = 0x3fff_fffe;

/// How a call names its file: directory, path's address (0: the directory itself is the file), whether links are
/// followed.
type Named = (i32, u64, bool);

/// `utimensat`.
pub(super) fn utimensat(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    look_first(world, task)
}

/// `futimesat`.
pub(super) fn futimesat(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    look_first(world, task)
}

/// `utimes`.
pub(super) fn utimes(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    look_first(world, task)
}

/// `utime`.
pub(super) fn utime(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    look_first(world, task)
}

/// The call itself hides whether the file was written before it.
fn look_first(world: &mut World, task: &Task) -> io::Result<Entry> {
    let (dir, path, follow) = named(task);
    let argument = usize::from(matches!(task.call(), libc::SYS_utimensat | libc::SYS_futimesat));
    if path != 0 {
        names::there(world, task, dir, argument, follow)?;
    }
    if let Ok(file) = named_file(world, task)
        && let Ok((real, Place::Job)) = world.look_at(task, &file)
    {
        world.notice(&real, &file)?;
    }
    Ok(Entry::Make(set))
}

fn named(task: &Task) -> Named {
    match task.call() {
        libc::SYS_utimensat => (
            task.int(0),
            task.argument(1),
            task.int(3) & libc::AT_SYMLINK_NOFOLLOW == 0,
        ),
        libc::SYS_futimesat => (task.int(0), task.argument(1), true),
        _ => (libc::AT_FDCWD, task.argument(0), true),
    }
}

fn named_file(world: &mut World, task: &Task) -> io::Result<std::os::fd::OwnedFd> {
    let (dir, path, follow) = named(task);
    if path == 0 {
        return world.file(task, dir);
    }
    let path = task.read_text(path, paths::MAX)?;
    if path.is_empty() && dir != libc::AT_FDCWD {
        return world.file(task, dir);
    }
    paths::open_at(world, task, dir, &path, follow)
}

fn set(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != 0 {
        return Ok(());
    }
    let Ok(file) = named_file(world, task) else {
        return Ok(());
    };
    let (real, place) = world.look_at(task, &file)?;
    if place != Place::Job {
        return Ok(());
    }
    let (accessed, modified) = times(world, task)?;
    world.virt.inodes.set_times(real.inode, accessed, modified);
    set_untouched(&file)
}

/// The times that a call names: of access and of change; `None` leaves one as it is.
fn times(world: &mut World, task: &Task) -> io::Result<(Option<FileTime>, Option<FileTime>)> {
    let now = world.file_time();
    let place = match task.call() {
        libc::SYS_utimensat | libc::SYS_futimesat => task.argument(2),
        _ => task.argument(1),
    };
    if place == 0 {
        return Ok((Some(now), Some(now)));
    }
    let word = |index: u64| task.read_u64(place.saturating_add(index * 8));
    let seconds = |index: u64| word(index).map(u64::cast_signed);
    let small = |index: u64| word(index).map(|value| u32::try_from(value).unwrap_or(0));
    Ok(match task.call() {
        libc::SYS_utimensat => (one(seconds(0)?, small(1)?, now), one(seconds(2)?, small(3)?, now)),
        libc::SYS_utime => (one(seconds(0)?, 0, now), one(seconds(1)?, 0, now)),
        _ => (
            one(seconds(0)?, small(1)?.saturating_mul(1000), now),
            one(seconds(2)?, small(3)?.saturating_mul(1000), now),
        ),
    })
}

const fn one(seconds: i64, nanos: u32, now: FileTime) -> Option<FileTime> {
    match nanos {
        UTIME_NOW => Some(now),
        UTIME_OMIT => None,
        nanos => Some(FileTime { seconds, nanos }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_and_omit_are_no_times() {
        let now = FileTime {
            seconds: 50,
            nanos: 5,
        };
        assert_eq!(one(7, UTIME_NOW, now), Some(now));
        assert_eq!(one(7, UTIME_OMIT, now), None);
        assert_eq!(
            one(-7, 9, now),
            Some(FileTime {
                seconds: -7,
                nanos: 9
            })
        );
    }
}

//! Opening named pipes: the kernel lets one end wait for the other, here the task does.

use std::io;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, openat, statat};

use super::buffers::size_pipe;
use crate::supervisor::det::table::{Entry, Rule, When};
use crate::supervisor::det::task::Task;
use crate::supervisor::det::wait::{On, Signals, Wait};
use crate::supervisor::det::world::World;

pub(super) const RULES: &[Rule] = &[
    Rule(libc::SYS_mknod, When::Always, make),
    Rule(libc::SYS_mknodat, When::Always, make),
    Rule(libc::SYS_open, When::Always, open),
    Rule(libc::SYS_openat, When::Always, openat_call),
    Rule(libc::SYS_openat2, When::Always, openat2_call),
    Rule(libc::SYS_creat, When::Always, creat),
];

/// Longest path, with its NUL.
const LONGEST: usize = 4096;

fn make(world: &mut World, _: &mut Task) -> io::Result<Entry> {
    world.has_fifos = true;
    Ok(Entry::Pass)
}

/// What an open asks for, in whichever form the call has it.
struct Asked {
    dir: i32,
    path_at: u64,
    flags: i32,
    mode: u64,
}

fn open(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let asked = Asked {
        dir: libc::AT_FDCWD,
        path_at: task.argument(0),
        flags: task.int(1),
        mode: task.argument(2),
    };
    decide(world, task, &asked)
}

fn openat_call(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let asked = Asked {
        dir: task.int(0),
        path_at: task.argument(1),
        flags: task.int(2),
        mode: task.argument(3),
    };
    decide(world, task, &asked)
}

fn openat2_call(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let how = task.argument(2);
    let asked = Asked {
        dir: task.int(0),
        path_at: task.argument(1),
        flags: i32::try_from(task.read_u64(how)?).unwrap_or(libc::O_PATH),
        mode: task.read_u64(how.saturating_add(8))?,
    };
    decide(world, task, &asked)
}

fn creat(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let asked = Asked {
        dir: libc::AT_FDCWD,
        path_at: task.argument(0),
        flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
        mode: task.argument(1),
    };
    decide(world, task, &asked)
}

/// Decides about an open.
fn decide(world: &mut World, task: &mut Task, asked: &Asked) -> io::Result<Entry> {
    let flags = asked.flags;
    if !world.has_fifos || flags & (libc::O_NONBLOCK | libc::O_PATH | libc::O_DIRECTORY) != 0 {
        return Ok(Entry::Pass);
    }
    let text = task.read_text(asked.path_at, LONGEST)?;
    let from = if text.starts_with(b"/") {
        format!("{}/root", task.id)
    } else if asked.dir == libc::AT_FDCWD {
        format!("{}/cwd", task.id)
    } else {
        format!("{}/fd/{}", task.id, asked.dir)
    };
    let mut name = from.into_bytes();
    name.push(b'/');
    name.extend(text);
    let is_fifo = statat(&world.proc, name.as_slice(), AtFlags::empty())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if !is_fifo {
        return Ok(Entry::Pass);
    }
    if let Some(answer) = world.trace_blocking(task)? {
        return Ok(answer);
    }
    if flags & libc::O_ACCMODE == libc::O_RDWR {
        return Ok(Entry::Make(opened_both));
    }
    // every form of the call becomes the same one
    task.registers.orig_rax = u64::try_from(libc::SYS_openat).unwrap_or(0);
    task.set_argument(0, u64::from(asked.dir.cast_unsigned()));
    task.set_argument(1, asked.path_at);
    task.set_argument(2, u64::from((flags | libc::O_NONBLOCK).unsigned_abs()));
    task.set_argument(3, asked.mode);
    Ok(Entry::Make(if flags & libc::O_ACCMODE == libc::O_WRONLY {
        opened_to_write
    } else {
        opened_to_read
    }))
}

/// A named pipe's device and inode, from a fresh descriptor whose own flags are put right. `None` for a failed open.
fn opened(world: &mut World, task: &Task) -> io::Result<Option<(u64, u64)>> {
    let Ok(number) = i32::try_from(task.result()) else {
        return Ok(None);
    };
    if number < 0 {
        return Ok(None);
    }
    let fd = world.file(task, number)?;
    size_pipe(world, &fd)?;
    let mut flags = fcntl_getfl(&fd)?;
    flags.remove(OFlags::NONBLOCK);
    fcntl_setfl(&fd, flags)?;
    let stat = fstat(&fd)?;
    Ok(Some((stat.st_dev, stat.st_ino)))
}

fn opened_both(world: &mut World, task: &mut Task) -> io::Result<()> {
    if let Some((device, inode)) = opened(world, task)? {
        wake(world, device, inode);
    }
    Ok(())
}

fn wake(world: &mut World, device: u64, inode: u64) {
    world.wake_all(|on| on.is_of_others() || matches!(on, On::Writer(d, i) if (*d, *i) == (device, inode)));
}

fn opened_to_write(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == -i64::from(libc::ENXIO) {
        task.again = Some(Wait {
            on: On::Others,
            until: None,
            signals: Signals::Make,
        });
        return Ok(());
    }
    opened_both(world, task)
}

fn opened_to_read(world: &mut World, task: &mut Task) -> io::Result<()> {
    let Some((device, inode)) = opened(world, task)? else {
        return Ok(());
    };
    world.wake_all(On::is_of_others);
    if !has_writer(world, device, inode) {
        let on = On::Writer(device, inode);
        task.hold = Some(Wait {
            on,
            until: None,
            signals: Signals::Make,
        });
    }
    Ok(())
}

/// Whether any process has a pipe open for writing.
fn has_writer(world: &World, device: u64, inode: u64) -> bool {
    let writes = |process: &u32| -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&world.proc, format!("{process}/fd"), flags, Mode::empty())?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Ok(stat) = statat(&directory, name, AtFlags::empty()) else {
                continue;
            };
            // the link itself may be written to exactly if its file may
            let link = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if (stat.st_dev, stat.st_ino) == (device, inode) && link.st_mode & 0o200 != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    };
    world
        .processes
        .keys()
        .any(|process| writes(process).unwrap_or(false))
}

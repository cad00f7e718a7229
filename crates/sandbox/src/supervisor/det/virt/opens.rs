//! Opening what is no file of the machine: the job's `/proc`, and devices of entropy.
//!
//! The content of such a file is made here. The open becomes a `memfd_create`, so the job gets an ordinary descriptor
//! of its own, and the content is written before it goes on.

use std::io;

use rustix::fs::{Mode, OFlags, SeekFrom, openat, seek};
use sandrun_types::EntropySource;

use super::paths;
use super::process_files::{self, Form};
use super::stat::Place;
use crate::supervisor::det::clock::SECOND;
use crate::supervisor::det::observe;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// What a path stands for.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// A device of entropy.
    Entropy,
    /// A fresh identity.
    Uuid,
    /// The job's identity.
    BootId,
    /// Seconds since the job's boot.
    Uptime,
    /// A file of a process's or thread's directory: the directory below `/proc`, and the name.
    Process(String, String),
    /// What there is to know of an open file: its place below `/proc`.
    OpenFile(String),
}

/// `open`, `openat`, `openat2`.
pub(super) fn open(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (dir, path_at, flags) = match task.call() {
        libc::SYS_open => (libc::AT_FDCWD, task.argument(0), task.int(1)),
        libc::SYS_openat2 => {
            let how = task.read_u64(task.argument(2))?;
            (
                task.int(0),
                task.argument(1),
                i32::try_from(how).unwrap_or(libc::O_PATH),
            )
        }
        _ => (task.int(0), task.argument(1), task.int(2)),
    };
    let path = task.read_text(path_at, paths::MAX)?;
    if !may_be_virtual(&path) || flags & libc::O_PATH != 0 {
        let writes = flags & libc::O_ACCMODE == libc::O_WRONLY;
        task.named.replace(writes.then_some((dir, path)));
        return Ok(Entry::Pass);
    }
    let path = paths::absolute(world, task, dir, &path)?;
    let Some(target) = target(&path, task) else {
        return not_by_another_name(world, task, &path, flags);
    };
    if target == Target::Entropy {
        // From now on reads of this process, and of those that it makes, are looked at.
        world.virt.device_opened = true;
        return Ok(world.trace_blocking(task)?.unwrap_or(Entry::Pass));
    }
    // What is written to them is the kernel's matter.
    if flags & (libc::O_ACCMODE | libc::O_DIRECTORY) != 0 {
        return Ok(Entry::Pass);
    }
    let Some(content) = content(world, task, &target)? else {
        return Ok(Entry::Pass);
    };
    let cloexec = if flags & libc::O_CLOEXEC == 0 { 0 } else { 1 };
    world.virt.opening.insert(task.id, content);
    task.registers.orig_rax = u64::try_from(libc::SYS_memfd_create).unwrap_or(0);
    task.set_argument(0, path_at);
    task.set_argument(1, cloexec);
    Ok(Entry::Make(opened))
}

/// A quick look at a path that a task names: whether it may be one of ours.
fn may_be_virtual(path: &[u8]) -> bool {
    let starts = |start: &[u8]| path.starts_with(start);
    if starts(b"/proc/") || starts(b"/dev/") || path == b"/etc/mtab" {
        return true;
    }
    let is_plain_system = starts(b"/usr/") && !path.windows(3).any(|part| part == b"/..");
    !is_plain_system && has_our_name(path)
}

/// Whether the last part of a path is a name of ours.
pub(super) fn has_our_name(path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = std::str::from_utf8(last).unwrap_or_default();
    matches!(name, "random" | "urandom" | "uuid" | "boot_id" | "uptime")
        || process_files::form(name).is_some_and(|form| !matches!(form, Form::Absent))
}

/// A file of `/proc` by a detour (through a link to its directory, through `/proc/<id>/root`) would be the kernel's own:
/// it is refused. Any other file by a name of ours is what it is.
fn not_by_another_name(world: &mut World, task: &Task, path: &[u8], flags: i32) -> io::Result<Entry> {
    if !has_our_name(path) {
        return Ok(Entry::Pass);
    }
    let absent = Err(io::Error::from_raw_os_error(libc::ENOENT));
    let Ok(file) = paths::open(world, task, path, true) else {
        // What cannot be found from here is not there, and then the job is told so, or lies behind a link that is
        // another for every process, as `/proc/self` is.
        return if flags & libc::O_CREAT == 0 {
            absent
        } else {
            Ok(Entry::Pass)
        };
    };
    let (real, place) = world.look_at(task, &file)?;
    if place == Place::Proc && real.mode & libc::S_IFMT == libc::S_IFREG {
        observe::denied(world, task, libc::ENOENT);
        return absent;
    }
    Ok(Entry::Pass)
}

/// What an absolute path stands for.
fn target(path: &[u8], task: &Task) -> Option<Target> {
    let path = std::str::from_utf8(path).ok()?;
    match path {
        "/dev/random" | "/dev/urandom" => return Some(Target::Entropy),
        "/proc/sys/kernel/random/uuid" => return Some(Target::Uuid),
        "/proc/sys/kernel/random/boot_id" => return Some(Target::BootId),
        "/proc/uptime" => return Some(Target::Uptime),
        "/proc/mounts" | "/etc/mtab" => {
            return Some(Target::Process(task.process.to_string(), "mounts".to_owned()));
        }
        _ => {}
    }
    let parts: Vec<&str> = path.strip_prefix("/proc/")?.split('/').collect();
    let number = |text: &str| match text {
        "self" => Some(task.process.to_string()),
        text => Some(text.to_owned()).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())),
    };
    match parts.as_slice() {
        ["thread-self", name] => Some(Target::Process(
            format!("{}/task/{}", task.process, task.id),
            (*name).to_owned(),
        )),
        [process, name] => Some(Target::Process(number(process)?, (*name).to_owned())),
        [process, "fdinfo", fd] => Some(Target::OpenFile(format!("{}/fdinfo/{fd}", number(process)?))),
        [process, "task", thread, name] => {
            let directory = format!("{}/task/{}", number(process)?, number(thread)?);
            Some(Target::Process(directory, (*name).to_owned()))
        }
        _ => None,
    }
}

/// What the file holds; `None` where the kernel's own file is good.
fn content(world: &mut World, task: &Task, target: &Target) -> io::Result<Option<Vec<u8>>> {
    Ok(match target {
        Target::Entropy => None,
        Target::Uuid => {
            let text = world.entropy().uuid(task.process);
            observe::drawn(world, task, EntropySource::Device, 16);
            Some(text.into_bytes())
        }
        Target::BootId => Some(world.entropy().boot_id().into_bytes()),
        Target::Uptime => {
            let hundredths = world.clock.now() / (SECOND / 100);
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            Some(format!("{whole}.{rest:02} 0.00\n").into_bytes())
        }
        Target::OpenFile(path) => {
            let text = real(world, path)?;
            Some(process_files::open_file(&String::from_utf8_lossy(&text)).into_bytes())
        }
        Target::Process(directory, name) => process_file(world, task, directory, name)?,
    })
}

/// The kernel's text of a file of the job's `/proc`.
fn real(world: &World, path: &str) -> io::Result<Vec<u8>> {
    let file = openat(&world.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes)?;
    Ok(bytes)
}

fn process_file(world: &mut World, task: &Task, directory: &str, name: &str) -> io::Result<Option<Vec<u8>>> {
    let is_first = directory.split('/').next() == Some("1");
    let path = format!("{directory}/{name}");
    let text = match process_files::form(name) {
        None if is_first && (name == "cmdline" || name == "comm") => Vec::new(),
        None => return Ok(None),
        Some(Form::Absent) => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
        Some(Form::Fixed(text)) => {
            // Of a process that there is.
            real(world, &format!("{directory}/comm"))?;
            text.as_bytes().to_vec()
        }
        Some(Form::Of(function)) => function(&String::from_utf8_lossy(&real(world, &path)?)).into_bytes(),
        Some(Form::Auxiliary) => process_files::auxv(real(world, &path)?),
        Some(Form::Mappings { sizes }) => {
            let text = real(world, &format!("{directory}/maps"))?;
            let job = world.places(task)?.job;
            let text = String::from_utf8_lossy(&text);
            process_files::mappings(&text, sizes, job, &mut world.virt.inodes).into_bytes()
        }
    };
    Ok(Some(if is_first {
        process_files::of_first(name, text)
    } else {
        text
    }))
}

/// The file is there: its content.
fn opened(world: &mut World, task: &mut Task) -> io::Result<()> {
    let content = world.virt.opening.remove(&task.id).unwrap_or_default();
    let Ok(fd) = i32::try_from(task.result()) else {
        return Ok(());
    };
    if fd < 0 {
        return Ok(());
    }
    let file = world.file(task, fd)?;
    let mut rest = content.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    seek(&file, SeekFrom::Start(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_looked_at() {
        for path in [
            "/usr/lib/python3.11/stat",
            "/work/main.py",
            "data/table.csv",
            "/usr/lib/libc.so.6",
            "maps.txt",
        ] {
            assert!(!may_be_virtual(path.as_bytes()), "{path}");
        }
        for path in [
            "/proc/self/stat",
            "status",
            "self/maps",
            "/dev/urandom",
            "/usr/../proc/self/stat",
            "//proc/uptime",
        ] {
            assert!(may_be_virtual(path.as_bytes()), "{path}");
        }
    }
}

//! Opening what is no file of the machine: the job's `/proc`, and devices of entropy.
//!
//! The content of such a file is made here. The open becomes a `memfd_create`, so the job gets an ordinary descriptor
//! of its own, and the content is written before it goes on.

use std::io;

use rustix::fs::{AtFlags, Mode, OFlags, SealFlags, SeekFrom, fcntl_add_seals, openat, seek, statat};
use sandrun_types::EntropySource;

use super::inodes::Inode;
use super::process_files::{self, Form};
use super::stat::{Place, Real};
use super::walk::{self, Manner};
use super::{names, paths};
use crate::supervisor::det::calls::outer_opened;
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
    /// Something of a process's that not every kernel has, or tells alike.
    Absent,
}

/// What an open asks for.
struct Asked {
    dir: i32,
    path_at: u64,
    flags: i32,
    resolve: u64,
}

/// Flags of `openat2`'s `resolve`.
const NO_MAGIC_LINKS: u64 = 2;
const NO_LINKS: u64 = 4;
const BENEATH: u64 = 8;
const IN_ROOT: u64 = 16;
const CACHED: u64 = 32;

/// `open`, `openat`, `openat2`, `creat`.
pub(super) fn open(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let refuse = |error| Err(io::Error::from_raw_os_error(error));
    let asked = asked(task, task.call())?;
    if asked.resolve & CACHED != 0 {
        // What the machine remembers is its own matter: this asks to be asked again without it.
        return refuse(libc::EAGAIN);
    }
    let reaches = asked.flags & libc::O_PATH == 0;
    if reaches && asked.flags & libc::O_DIRECT != 0 {
        // Whether a file can be used past the machine's memory is up to its file system, and to the kernel.
        observe::denied(world, task, libc::EINVAL);
        return refuse(libc::EINVAL);
    }
    let path = task.read_text(asked.path_at, paths::MAX)?;
    if reaches && asked.flags & libc::O_NOATIME != 0 && is_of_system(world, task, &asked, &path) {
        return refuse(libc::EPERM);
    }
    let writes = asked.flags & (libc::O_ACCMODE | libc::O_TRUNC | libc::O_CREAT) != 0;
    let may_be_of_image = writes && reaches && may_be_of_image(world, &asked, &path);
    let answer = decide(world, task, &asked, path)?;
    if !matches!(answer, Entry::Pass) {
        return Ok(answer);
    }
    // A rename anywhere on the machine makes the kernel unsure of a path that must not leave its directory.
    let may_be_unsure = asked.resolve & (BENEATH | IN_ROOT) != 0;
    Ok(match (may_be_of_image, may_be_unsure) {
        (true, _) => Entry::Watch(read_only),
        (false, true) => Entry::Watch(again_if_unsure),
        (false, false) => Entry::Pass,
    })
}

/// Whether an `openat` is made as it is, and nobody waits for it; found out without doing anything about it.
pub(in super::super) fn is_plain(world: &mut World, task: &Task) -> bool {
    const LOOKED_AT: i32 = libc::O_PATH | libc::O_DIRECT | libc::O_NOATIME;
    let mut plain = || {
        let asked = asked(task, libc::SYS_openat).ok()?;
        if asked.flags & LOOKED_AT != 0 || world.virt.indirect || world.has_fifos {
            return None;
        }
        let path = world.look_at_text(task, asked.path_at, paths::MAX).ok()?;
        let writes = asked.flags & (libc::O_ACCMODE | libc::O_TRUNC | libc::O_CREAT) != 0;
        let is_plain =
            means_what_it_says(world, &asked, &path) && !(writes && may_be_of_image(world, &asked, &path));
        is_plain.then(|| remember(task, &asked, path))
    };
    plain().is_some()
}

/// Whether a path leads to no file that is made here.
fn means_what_it_says(world: &World, asked: &Asked, path: &[u8]) -> bool {
    let is_plain_system = path.starts_with(b"/usr/") && !goes_up(path);
    is_plain_system || !world.virt.indirect && asked.resolve == 0 && !may_be_virtual(path)
}

/// Keeps the name of a file that is opened for writing.
fn remember(task: &Task, asked: &Asked, path: Vec<u8>) {
    let writes = asked.flags & libc::O_ACCMODE == libc::O_WRONLY && asked.resolve == 0;
    task.named.replace(writes.then_some((asked.dir, path)));
}

fn asked(task: &Task, call: libc::c_long) -> io::Result<Asked> {
    Ok(match call {
        libc::SYS_open => Asked {
            dir: libc::AT_FDCWD,
            path_at: task.argument(0),
            flags: task.int(1),
            resolve: 0,
        },
        libc::SYS_creat => Asked {
            dir: libc::AT_FDCWD,
            path_at: task.argument(0),
            flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
            resolve: 0,
        },
        libc::SYS_openat2 => {
            let how = task.argument(2);
            Asked {
                dir: task.int(0),
                path_at: task.argument(1),
                flags: i32::try_from(task.read_u64(how)?).unwrap_or(libc::O_PATH),
                resolve: task.read_u64(how.saturating_add(16))?,
            }
        }
        _ => Asked {
            dir: task.int(0),
            path_at: task.argument(1),
            flags: task.int(2),
            resolve: 0,
        },
    })
}

fn again_if_unsure(_: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() == -i64::from(libc::EAGAIN) {
        task.retry_unseen();
    }
    Ok(())
}

/// How the last part of the path of an open is taken.
fn manner(asked: &Asked) -> Manner {
    Manner {
        follow: asked.flags & libc::O_NOFOLLOW == 0 && asked.resolve & NO_LINKS == 0,
        in_root: asked.resolve & IN_ROOT != 0,
    }
}

/// Whether a task names a file of the system or of an image. An image's belong to the service's own user, who may be
/// the job's.
fn is_of_system(world: &mut World, task: &Task, asked: &Asked, path: &[u8]) -> bool {
    let file = walk::canonical(world, task, asked.dir, path, manner(asked))
        .and_then(|path| paths::open(world, task, &path, false));
    file.and_then(|file| world.look_at(task, &file))
        .is_ok_and(|(_, place)| place == Place::System)
}

/// A quick look at what a task names: whether it may be a file of an environment's image.
fn may_be_of_image(world: &World, asked: &Asked, path: &[u8]) -> bool {
    let is_from_a_directory = asked.dir != libc::AT_FDCWD && !path.starts_with(b"/");
    world.virt.indirect || is_from_a_directory || names::is_of_image(path) || goes_up(path)
}

/// An image is the service's own user's, who may be the job's: to that one the kernel says otherwise why not.
fn read_only(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != -i64::from(libc::EROFS) {
        return again_if_unsure(world, task);
    }
    // At a call's exit its number is gone.
    let asked = asked(task, task.call_at_entry())?;
    let path = task.read_text(asked.path_at, paths::MAX)?;
    let path = walk::canonical(world, task, asked.dir, &path, manner(&asked))?;
    if names::is_of_image(&path) {
        task.set_result(-i64::from(libc::EACCES));
    }
    Ok(())
}

fn decide(world: &mut World, task: &mut Task, asked: &Asked, path: Vec<u8>) -> io::Result<Entry> {
    if means_what_it_says(world, asked, &path) {
        remember(task, asked, path);
        return Ok(Entry::Pass);
    }
    // What cannot be walked to, the kernel itself has an error for.
    let Ok(path) = walk::canonical(world, task, asked.dir, &path, manner(asked)) else {
        return Ok(Entry::Pass);
    };
    if names::is_absent(&path) {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if asked.flags & libc::O_PATH == 0 && is_outer(world, &path) {
        if asked.flags & libc::O_ACCMODE == libc::O_WRONLY {
            return Ok(Entry::Make(outer_opened));
        }
        // whoever read there would take from the service what the job has written
        observe::denied(world, task, libc::EACCES);
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    let Some(target) = target(&path, task) else {
        // A directory of the system's, from which names are not what they seem.
        if walk::names_the_systems(&path) && is_directory(world, task, &path) {
            world.virt.indirect = true;
        }
        return Ok(Entry::Pass);
    };
    if asked.flags & libc::O_PATH != 0 {
        return Ok(Entry::Pass);
    }
    if target == Target::Entropy {
        // From now on reads of this process, and of those that it makes, are looked at.
        world.virt.device_opened = true;
        return Ok(world.trace_blocking(task)?.unwrap_or(Entry::Pass));
    }
    virtual_file(world, task, asked, &target)
}

fn virtual_file(world: &mut World, task: &mut Task, asked: &Asked, target: &Target) -> io::Result<Entry> {
    let refuse = |error| Err(io::Error::from_raw_os_error(error));
    if asked.resolve & !NO_MAGIC_LINKS & !IN_ROOT != 0 {
        // No directory of the job's own holds them.
        return refuse(libc::EXDEV);
    }
    let Some(content) = content(world, task, target)? else {
        if is_directory_of(target) {
            world.virt.indirect = true;
        }
        return Ok(Entry::Pass);
    };
    if asked.flags & libc::O_DIRECTORY != 0 {
        return refuse(libc::ENOTDIR);
    }
    if asked.flags & libc::O_ACCMODE != libc::O_RDONLY {
        observe::denied(world, task, libc::EACCES);
        return refuse(libc::EACCES);
    }
    let cloexec = if asked.flags & libc::O_CLOEXEC == 0 { 0 } else { 1 };
    if !world.virt.may_make(content.len()) {
        return refuse(libc::ENOMEM);
    }
    world.virt.opening.insert(task.id, content);
    task.registers.orig_rax = u64::try_from(libc::SYS_memfd_create).unwrap_or(0);
    task.set_argument(0, asked.path_at);
    task.set_argument(1, cloexec | u64::from(libc::MFD_ALLOW_SEALING));
    Ok(Entry::Make(opened))
}

/// Whether a path without links stands for a pipe that the job's output goes out by.
fn is_outer(world: &World, path: &[u8]) -> bool {
    let name = path.strip_prefix(b"/proc/").unwrap_or_default();
    let mut parts = name.rsplit(|byte| *byte == b'/');
    let is_number = parts
        .next()
        .is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    is_number
        && parts.next() == Some(b"fd".as_slice())
        && statat(&world.proc, name, AtFlags::empty())
            .is_ok_and(|stat| world.is_outer(stat.st_dev, stat.st_ino))
}

/// Whether it is a directory of a process's, from which names are not what they seem.
fn is_directory_of(target: &Target) -> bool {
    matches!(target, Target::Process(_, name) if ["cwd", "root", "task"].contains(&name.as_str()))
}

fn is_directory(world: &mut World, task: &Task, path: &[u8]) -> bool {
    let file = paths::open(world, task, path, false).and_then(|file| Real::of(&file));
    file.is_ok_and(|real| real.mode & libc::S_IFMT == libc::S_IFDIR)
}

pub(super) fn goes_up(path: &[u8]) -> bool {
    path.windows(3).any(|part| part == b"/..") || path.starts_with(b"..")
}

/// A quick look at a path that a task names: whether it may be one of ours.
fn may_be_virtual(path: &[u8]) -> bool {
    let starts = |start: &[u8]| path.starts_with(start);
    starts(b"/proc/")
        || starts(b"/dev/")
        || path == b"/etc/mtab"
        || path == b"/"
        || goes_up(path)
        || has_our_name(path)
}

/// Whether the last part of a path is a name of ours.
fn has_our_name(path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = std::str::from_utf8(last).unwrap_or_default();
    matches!(
        name,
        "random" | "urandom" | "uuid" | "boot_id" | "uptime" | "proc" | "dev"
    ) || process_files::form(name).is_some_and(|form| !matches!(form, Form::Absent))
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
        [_, "fd" | "cwd" | "root", ..] | [_, "task", _] => None,
        [_, "task", _, "fd" | "fdinfo" | "cwd" | "root", ..] => None,
        [process, _, _, ..] if number(process).is_some() => Some(Target::Absent),
        _ => None,
    }
}

/// What the file holds; `None` where the kernel's own file is good.
fn content(world: &mut World, task: &Task, target: &Target) -> io::Result<Option<Vec<u8>>> {
    Ok(match target {
        Target::Entropy => None,
        Target::Absent => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
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
            let file = statat(&world.proc, path.replacen("fdinfo", "fd", 1), AtFlags::empty());
            let told = |flags| {
                let stat = file.as_ref().ok()?;
                let (device, number) = (stat.st_dev, stat.st_ino);
                world.made_flags(Inode { device, number }, flags)
            };
            Some(process_files::open_file(&String::from_utf8_lossy(&text), told).into_bytes())
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
        // the sandbox's own process lets nobody see where it lies
        Some(Form::Auxiliary | Form::Mappings { .. }) if is_first => {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
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
            let named = world.named_in(task, &text);
            process_files::mappings(&text, sizes, job, &named, &mut world.virt.inodes).into_bytes()
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
    // it was opened for reading, and no limit of the job counts what it holds
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    let asked = asked(task, task.call_at_entry())?;
    world.note_made(&file, asked.flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_looked_at() {
        for path in [
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
            "../proc/kallsyms",
            "//proc/uptime",
        ] {
            assert!(may_be_virtual(path.as_bytes()), "{path}");
        }
    }
}

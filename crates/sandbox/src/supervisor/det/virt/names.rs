//! Names below `/proc`: there are those of the lists and no others, by whatever call somebody asks.

use std::io;

use super::opens;
use super::paths;
use super::process_files::{self, Form};
use super::walk::{self, Manner};
use crate::environment;
use crate::supervisor::det::table::Entry;
use crate::supervisor::det::{Task, World};

/// Names at the top of `/proc` that every job has.
pub(super) const TOP: [&[u8]; 13] = [
    b"cmdline",
    b"cpuinfo",
    b"filesystems",
    b"loadavg",
    b"meminfo",
    b"mounts",
    b"self",
    b"stat",
    b"swaps",
    b"sys",
    b"thread-self",
    b"uptime",
    b"version",
];

/// `access`, `faccessat`, `faccessat2`.
pub(super) fn access(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    let (dir, path, flags) = match task.call() {
        libc::SYS_access => (libc::AT_FDCWD, 0, 0),
        libc::SYS_faccessat => (task.int(0), 1, 0),
        _ => (task.int(0), 1, task.int(3)),
    };
    there(world, task, dir, path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?;
    let mode = task.int(path + 1);
    Ok(if mode & libc::W_OK == 0 {
        Entry::Pass
    } else {
        Entry::Watch(read_only)
    })
}

/// Nobody may write to an image, which is the service's own user's, who may be the job's: to that one the kernel says
/// otherwise why not.
fn read_only(world: &mut World, task: &mut Task) -> io::Result<()> {
    if task.result() != -i64::from(libc::EROFS) {
        return Ok(());
    }
    let (dir, path) = match task.call_at_entry() {
        libc::SYS_access => (libc::AT_FDCWD, 0),
        _ => (task.int(0), 1),
    };
    let path = task.read_text(task.argument(path), paths::MAX)?;
    let manner = Manner {
        follow: true,
        in_root: false,
    };
    if is_of_image(&walk::canonical(world, task, dir, &path, manner)?) {
        task.set_result(-i64::from(libc::EACCES));
    }
    Ok(())
}

/// Calls that change what a path, or two, stand for.
pub(super) fn change(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    const CWD: i32 = libc::AT_FDCWD;
    let [one, two] = [task.int(0), task.int(2)];
    let is_set = |argument: usize, flag: i32| task.int(argument) & flag != 0;
    let (first, second) = match task.call() {
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_truncate => ((CWD, 0, true), None),
        libc::SYS_fchmodat => ((one, 1, true), None),
        libc::SYS_fchmodat2 => ((one, 1, !is_set(3, libc::AT_SYMLINK_NOFOLLOW)), None),
        libc::SYS_fchownat => ((one, 1, !is_set(4, libc::AT_SYMLINK_NOFOLLOW)), None),
        libc::SYS_link | libc::SYS_rename => ((CWD, 0, false), Some((CWD, 1))),
        libc::SYS_linkat => ((one, 1, is_set(4, libc::AT_SYMLINK_FOLLOW)), Some((two, 3))),
        libc::SYS_renameat | libc::SYS_renameat2 => ((one, 1, false), Some((two, 3))),
        libc::SYS_unlinkat | libc::SYS_mkdirat | libc::SYS_mknodat => ((one, 1, false), None),
        // lchown, unlink, mkdir, rmdir, mknod
        _ => ((CWD, 0, false), None),
    };
    there(world, task, first.0, first.1, first.2)?;
    if let Some((dir, argument)) = second {
        there(world, task, dir, argument, false)?;
    }
    Ok(Entry::Pass)
}

/// Calls that name a socket by its file.
pub(super) fn address(world: &mut World, task: &mut Task) -> io::Result<Entry> {
    /// Bytes of a `sockaddr_un`; its path begins behind the family.
    const MOST: u64 = 110;
    const FAMILY: usize = 2;
    let (at, length) = match task.call() {
        libc::SYS_sendto => (task.argument(4), task.argument(5)),
        libc::SYS_sendmsg => {
            let header = task.argument(1);
            let length = task.read_u32(header.wrapping_add(8))?;
            (task.read_u64(header)?, length.into())
        }
        _ => (task.argument(1), task.argument(2)),
    };
    if at == 0 {
        return Ok(Entry::Pass);
    }
    let length = usize::try_from(length.min(MOST)).unwrap_or(0);
    let bytes = task.read_bytes(at, length)?;
    let path = bytes.get(FAMILY..).unwrap_or_default();
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    if !path.is_empty() {
        is_there(world, task, libc::AT_FDCWD, path, true)?;
    }
    Ok(Entry::Pass)
}

/// ENOENT where the path of this argument stands for something below `/proc` that the machine may have, but no job has.
pub(super) fn there(
    world: &mut World,
    task: &Task,
    dir: i32,
    argument: usize,
    follow: bool,
) -> io::Result<()> {
    // what cannot be read or walked to, the kernel itself has an error for
    let Ok(path) = task.read_text(task.argument(argument), paths::MAX) else {
        return Ok(());
    };
    is_there(world, task, dir, &path, follow)
}

/// The same of a path that was read.
pub(super) fn is_there(
    world: &mut World,
    task: &Task,
    dir: i32,
    path: &[u8],
    follow: bool,
) -> io::Result<()> {
    if path.starts_with(b"/usr/") && !opens::goes_up(path) {
        return Ok(());
    }
    if !world.virt.indirect && !path.windows(4).any(|part| part == b"proc") {
        return Ok(());
    }
    let manner = Manner {
        follow,
        in_root: false,
    };
    match walk::canonical(world, task, dir, path, manner) {
        Ok(path) if is_absent(&path) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether a path is one of an environment's image, as far as it says so itself.
pub(super) fn is_of_image(path: &[u8]) -> bool {
    let rest = path.strip_prefix(environment::IMAGE.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether a path without links is below `/proc`, and none of what jobs have there.
pub(super) fn is_absent(path: &[u8]) -> bool {
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let is_unknown = |name: &[u8]| {
        let form = std::str::from_utf8(name).map(process_files::form);
        name != b"ns" && matches!(form, Ok(Some(Form::Absent)) | Err(_))
    };
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    match parts.as_slice() {
        [b"proc", b"self" | b"thread-self", name, ..] => is_unknown(name),
        [b"proc", process, b"task", _, name, ..] if is_number(process) => is_unknown(name),
        [b"proc", process, name, ..] if is_number(process) => is_unknown(name),
        [b"proc", top, ..] if !top.is_empty() => !is_number(top) && !TOP.contains(top),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_names_are_there() {
        for path in [
            "/",
            "/proc",
            "/proc/",
            "/proc/12",
            "/proc/2/status",
            "/proc/2/task/3/stat",
            "/proc/2/fd/7",
            "/proc/2/ns/net",
            "/proc/sys/kernel/ostype",
            "/proc/meminfo",
            "/proc/self",
            "/work/proc/pressure",
        ] {
            assert!(!is_absent(path.as_bytes()), "{path}");
        }
        for path in [
            "/proc/config.gz",
            "/proc/pressure",
            "/proc/pressure/cpu",
            "/proc/net",
            "/proc/2/net/dev",
            "/proc/2/ksm_stat",
            "/proc/2/task/2/children",
            "/proc/2/attr/current",
        ] {
            assert!(is_absent(path.as_bytes()), "{path}");
        }
    }
}

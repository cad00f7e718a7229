//! Names below `/proc`: there are those of the lists and no others, by whatever call somebody asks.

use std::io;

use super::opens;
use super::paths;
use super::process_files::{self, Form};
use super::walk::{self, Manner};
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
    if path.starts_with(b"/usr/") && !opens::goes_up(&path) {
        return Ok(());
    }
    if !world.virt.indirect && !path.windows(4).any(|part| part == b"proc") {
        return Ok(());
    }
    let manner = Manner {
        follow,
        in_root: false,
    };
    match walk::canonical(world, task, dir, &path, manner) {
        Ok(path) if is_absent(&path) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        Ok(_) | Err(_) => Ok(()),
    }
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

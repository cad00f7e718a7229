//! Where a path leads: link by link, as the kernel walks for the task that names it.
//!
//! The kernel cannot be asked to: what `/proc/self` says depends on who asks.

use std::io;

use rustix::fs::readlinkat;

use super::paths;
use crate::supervisor::det::{Task, World};

/// Links that are followed, as in the kernel.
const MOST_LINKS: u32 = 40;
/// Parts that a path can have with all its links.
const MOST_PARTS: usize = 1 << 16;

/// How the last part is taken, and where names begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// The last part may be a link that is followed.
    pub(super) follow: bool,
    /// Nothing above the directory of the call can be named: it is the root.
    pub(super) in_root: bool,
}

/// The path without a link in it of what a task names relative to `dir`. A link that stands for no path (to a pipe, to
/// a file without a name) stays as it is.
pub(super) fn canonical(
    world: &mut World,
    task: &Task,
    dir: i32,
    path: &[u8],
    manner: Manner,
) -> io::Result<Vec<u8>> {
    let start = if path.starts_with(b"/") && !manner.in_root {
        Vec::new()
    } else {
        paths::joined(world, task, dir, b"")?
    };
    let mut done = parts(&start);
    let floor = if manner.in_root { done.len() } else { 0 };
    let mut rest = parts(path);
    rest.reverse();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == b"." {
            continue;
        }
        if part == b".." {
            if done.len() > floor {
                done.pop();
            }
            continue;
        }
        done.push(part);
        if rest.is_empty() && !manner.follow {
            break;
        }
        let Some(target) = link(world, task, &done)? else {
            continue;
        };
        links += 1;
        if links > MOST_LINKS || rest.len() > MOST_PARTS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        if target.starts_with(b"/") {
            done.truncate(floor);
        } else {
            done.pop();
        }
        rest.extend(parts(&target).into_iter().rev());
    }
    Ok(whole(&done))
}

/// What the link at a path says, if it is one that leads to another path.
fn link(world: &mut World, task: &Task, place: &[Vec<u8>]) -> io::Result<Option<Vec<u8>>> {
    let in_proc = place.first().is_some_and(|first| first == b"proc");
    let own = match place {
        [_, name] if in_proc && name == b"self" => Some(task.process.to_string()),
        [_, name] if in_proc && name == b"thread-self" => Some(format!("{}/task/{}", task.process, task.id)),
        _ => None,
    };
    if let Some(own) = own {
        return Ok(Some(own.into_bytes()));
    }
    let name = whole(place);
    let root = world.root(task)?;
    // the root itself is no link; and what is none, or is not there, ends here
    let Ok(target) = readlinkat(root, name.get(1..).unwrap_or_default(), Vec::with_capacity(256)) else {
        return Ok(None);
    };
    let target = target.into_bytes();
    let is_path = !in_proc || place.len() == 2 || target.starts_with(b"/");
    Ok(is_path.then_some(target))
}

/// Whether a path is one of `/`, `/proc`, `/dev` and what is in them, as far as it says so itself.
pub(super) fn names_the_systems(path: &[u8]) -> bool {
    let is_in = |start: &[u8]| {
        path.strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    path == b"/" || is_in(b"/proc") || is_in(b"/dev") && !is_in(b"/dev/shm")
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn whole(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut path = Vec::new();
    for part in parts {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_directories_are_known_by_name() {
        for path in ["/", "/proc", "/proc/self", "/dev", "/dev/fd"] {
            assert!(names_the_systems(path.as_bytes()), "{path}");
        }
        for path in ["/work", "/procx", "/dev/shm", "/dev/shm/a", "proc", "/usr"] {
            assert!(!names_the_systems(path.as_bytes()), "{path}");
        }
    }
}

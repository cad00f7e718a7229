//! Empty texts that lie in read-only parts of C libraries: they name the file of `fstat` by one, which needs to be read
//! once only. No program unmaps its C library, and nobody writes the system's; of any other place nothing is kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};

use rustix::fs::{Mode, OFlags, openat};

use crate::supervisor::det::{Task, World};

/// Most memories of which something is known.
const MEMORIES: usize = 256;
/// Places of one memory that are looked up; a program has one or two.
const PLACES: usize = 4;

/// What is known, by the number of the memory.
#[derive(Debug, Default)]
pub(super) struct Constants(HashMap<u32, Vec<(u64, bool)>>);

impl Constants {
    /// Whether a place is known to be constant; `None` if it was not looked up.
    fn get(&self, space: u32, address: u64) -> Option<bool> {
        let places = self.0.get(&space)?;
        let known = places.iter().find(|(place, _)| *place == address);
        known
            .map(|(_, is_constant)| *is_constant)
            .or((places.len() >= PLACES).then_some(false))
    }

    fn keep(&mut self, space: u32, address: u64, is_constant: bool) {
        if self.0.len() >= MEMORIES && !self.0.contains_key(&space) {
            self.0.clear();
        }
        self.0.entry(space).or_default().push((address, is_constant));
    }
}

/// Whether the text at an address of a task is empty.
pub(super) fn is_empty(world: &mut World, task: &Task, address: u64) -> io::Result<bool> {
    let known = world.virt.constants.get(task.space, address);
    if known == Some(true) {
        return Ok(true);
    }
    let mut first = [0];
    task.read(address, &mut first)?;
    if first != [0] {
        return Ok(false);
    }
    if known.is_none() {
        let job = world.places(task)?.job;
        let is_constant = mappings(world, task).is_ok_and(|maps| is_constant(&maps, address, job));
        world.virt.constants.keep(task.space, address, is_constant);
    }
    Ok(true)
}

fn mappings(world: &World, task: &Task) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(&world.proc, format!("{}/maps", task.id), flags, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether an address lies in a mapping of a C library that may not be written, see proc_pid_maps(5); `job` is the
/// device of the job's own files.
fn is_constant(maps: &str, address: u64, job: u64) -> bool {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let holds = |range: &str| {
        let (from, to) = range.split_once('-')?;
        Some(number(from)? <= address && address < number(to)?)
    };
    let line = maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        holds(fields.next()?)?.then_some(fields)
    });
    let jobs = format!("{:02x}:{:02x}", libc::major(job), libc::minor(job));
    line.is_some_and(|mut fields| {
        let rights = fields.next().unwrap_or_default();
        let device = fields.nth(1).unwrap_or_default();
        let path = fields.nth(1).unwrap_or_default();
        rights.starts_with("r-") && rights.ends_with('p') && device != jobs && is_c_library(path)
    })
}

/// Whether a file is a C library, or the loader that comes with one.
fn is_c_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.starts_with('/')
        && ["libc.so", "libc-", "libc.musl", "ld-"]
            .iter()
            .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_c_libraries_that_nobody_writes_are_constant() {
        let maps = "400000-401000 r--p 00000000 fe:00 77 /usr/lib/libc.so.6\n\
                    401000-402000 rw-p 00001000 fe:00 77 /usr/lib/libc.so.6\n\
                    500000-501000 r--p 00000000 00:00 0 \n\
                    501000-502000 r--s 00000000 fe:00 78 /usr/lib/libc.so.6\n\
                    502000-503000 r--p 00000000 00:2a 79 /work/libc.so.6\n\
                    503000-504000 r--p 00000000 fe:00 80 /usr/lib/libz.so.1\n\
                    504000-505000 r--p 00000000 fe:00 81 /usr/lib/ld-linux-x86-64.so.2\n";
        let job = libc::makedev(0, 0x2a);
        for address in [0x40_0000, 0x40_0fff, 0x50_4000] {
            assert!(is_constant(maps, address, job), "{address:x}");
        }
        for address in [
            0, 0x40_1000, 0x50_0010, 0x50_1010, 0x50_2000, 0x50_3000, 0x90_0000,
        ] {
            assert!(!is_constant(maps, address, job), "{address:x}");
        }
    }

    #[test]
    fn a_program_with_many_places_is_looked_up_a_few_times() {
        let mut constants = Constants::default();
        for place in 0..4 {
            assert_eq!(constants.get(7, place), None);
            constants.keep(7, place, place == 1);
        }
        assert_eq!(constants.get(7, 1), Some(true));
        assert_eq!(constants.get(7, 99), Some(false));
        assert_eq!(constants.get(8, 1), None);
    }
}

//! Where programs' memory lies, and what fits into their sockets: what of it is the kernel's and the file systems'
//! choice.
//!
//! Addresses can be seen (a default `repr`, the order of a set of plain objects), and with the same ones everywhere but
//! for these choices, machines that choose otherwise are another class.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::sys;

/// Lengths that kernels treat apart: whole large pages, and more than that.
const LENGTHS: [usize; 2] = [4 << 20, (4 << 20) + 4096];
/// A file of every system.
const SYSTEM: &str = "/usr/bin/env";

/// What the class id takes in, as text: the kernel's own pages in every program, what it hands a fresh one, and how it
/// aligns large mappings of nothing, of the interpreters' files and of files below `images`, where those of
/// environments lie. What cannot be found out is told as such.
pub(super) fn text(interpreters: &[PathBuf], images: Option<&Path>) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let mut text = format!("{}\nauxv{}\n", pages(&maps), kinds(&vector));
    let alignment = |file: Option<io::Result<OwnedFd>>| match file.transpose() {
        Ok(file) => LENGTHS
            .map(
                |length| match sys::layout::is_aligned(length, file.as_ref().map(AsFd::as_fd)) {
                    Ok(true) => '2',
                    Ok(false) => '-',
                    Err(_) => '?',
                },
            )
            .iter()
            .collect(),
        Err(_) => "?".to_owned(),
    };
    text.push_str(&format!("anonymous {}\n", alignment(None)));
    let system = || File::open(SYSTEM).map(OwnedFd::from);
    text.push_str(&format!("{SYSTEM} {}\n", alignment(Some(system()))));
    for path in interpreters {
        let file = File::open(path).map(OwnedFd::from);
        text.push_str(&format!("{} {}\n", path.display(), alignment(Some(file))));
    }
    // without images it is the system's, as on machines that keep both in one place
    let image = images.map_or_else(system, unnamed);
    text.push_str(&format!("images {}\n", alignment(Some(image))));
    text.push_str(&format!(
        "sockets {:?}\n",
        sys::room::messages().unwrap_or_default()
    ));
    text
}

/// A file without a name in a directory.
fn unnamed(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Names and sizes of the kernel's own mappings, from a `/proc/<id>/maps`.
fn pages(maps: &str) -> String {
    let bound = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
    let mut found = Vec::new();
    for line in maps.lines() {
        let (Some((range, _)), Some((_, name))) = (line.split_once(' '), line.split_once(" [v")) else {
            continue;
        };
        let (from, to) = range.split_once('-').unwrap_or_default();
        // that one is above all programs' memory
        if name != "syscall]" {
            found.push(format!("[v{name} {:x}", bound(to).saturating_sub(bound(from))));
        }
    }
    found.join("\n")
}

/// Which entries an auxiliary vector has, in order.
fn kinds(vector: &[u8]) -> String {
    vector
        .chunks_exact(16)
        .filter_map(|entry| entry.first_chunk::<8>())
        .map(|kind| format!(" {}", u64::from_ne_bytes(*kind)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_pages_and_vector_are_told_by_size_and_kind() {
        let maps = "7f00-8f00 r--p 00000000 00:00 0    /usr/lib/[vx\n\
            7ffff7fc1000-7ffff7fc5000 r--p 00000000 00:00 0    [vvar]\n\
            7ffff7fc5000-7ffff7fc7000 r-xp 00000000 00:00 0    [vdso]\n\
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n";
        assert!(
            pages(maps).ends_with("[vvar] 4000\n[vdso] 2000"),
            "{}",
            pages(maps)
        );
        let vector: Vec<u8> = [33_u64, 1, 16, 2, 0, 0]
            .into_iter()
            .flat_map(u64::to_ne_bytes)
            .collect();
        assert_eq!(kinds(&vector), " 33 16 0");
    }

    #[test]
    fn a_machine_tells_the_same_each_time() {
        let own = [PathBuf::from("/proc/self/exe")];
        let one = text(&own, None);
        assert!((0..20).all(|_| text(&own, None) == one), "{one}");
        assert!(
            one.contains("[vdso] ") && one.contains("auxv 33 ") && !one.contains('?'),
            "{one}"
        );
        assert_ne!(one, text(&[], None));
        assert!(text(&own, Some(Path::new("/nowhere"))).contains("images ?"));
    }
}

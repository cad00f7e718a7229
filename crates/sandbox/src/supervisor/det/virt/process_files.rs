//! What a process reads of itself and others in `/proc`: the kernel's text with everything that depends on machine,
//! kernel or real time put to one value.
//!
//! Owns the names and the forms. Never opens a file: the kernel's text is an argument.

use std::collections::BTreeMap;

use super::auxiliary;
use super::inodes::{Inode, Inodes};

/// How a file below `/proc/<id>` is told.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Form {
    /// A text that is always the same.
    Fixed(&'static str),
    /// The kernel's text, put through this.
    Of(fn(&str) -> String),
    /// Mappings, whose files' numbers have to be looked up; with sizes if so.
    Mappings { sizes: bool },
    /// The auxiliary vector.
    Auxiliary,
    /// It does not exist.
    Absent,
}

/// Names of a process's directory that the kernel's own answer is good for.
const OWN: [&str; 9] = [
    "cmdline", "comm", "cwd", "environ", "exe", "fd", "fdinfo", "root", "task",
];
/// Names that are told in another form; what is in neither list does not exist.
const FORMS: [(&str, Form); 20] = [
    ("auxv", Form::Auxiliary),
    ("cgroup", Form::Fixed("0::/\n")),
    ("cpuset", Form::Fixed("/\n")),
    ("gid_map", Form::Fixed("      1000       1000          1\n")),
    (
        "io",
        Form::Fixed(
            "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n",
        ),
    ),
    ("limits", Form::Of(limits)),
    ("loginuid", Form::Fixed("4294967295")),
    ("maps", Form::Mappings { sizes: false }),
    ("mountinfo", Form::Fixed(MOUNTINFO)),
    ("mounts", Form::Fixed(MOUNTS)),
    ("oom_score", Form::Fixed("0\n")),
    ("oom_score_adj", Form::Fixed("0\n")),
    ("schedstat", Form::Fixed("0 0 0\n")),
    ("setgroups", Form::Fixed("deny\n")),
    ("smaps", Form::Mappings { sizes: true }),
    ("stat", Form::Of(stat)),
    ("statm", Form::Fixed("16384 4096 1024 1 0 8192 0\n")),
    ("status", Form::Of(status)),
    ("uid_map", Form::Fixed("      1000       1000          1\n")),
    ("wchan", Form::Fixed("0")),
];

const MOUNTS: &str = "tmpfs / tmpfs ro,nosuid,nodev,relatime 0 0\n/dev/sda1 /usr ext4 ro,nosuid,nodev,relatime 0 0\n\
                      proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n\
                      tmpfs /work tmpfs rw,nosuid,nodev,relatime 0 0\ntmpfs /tmp tmpfs rw,nosuid,nodev,relatime 0 0\n\
                      tmpfs /dev/shm tmpfs rw,nosuid,nodev,relatime 0 0\n";
const MOUNTINFO: &str = "20 1 0:20 / / ro,nosuid,nodev,relatime - tmpfs tmpfs ro\n\
                         21 20 8:1 /usr /usr ro,nosuid,nodev,relatime - ext4 /dev/sda1 ro\n\
                         22 20 0:22 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
                         23 20 0:21 /work /work rw,nosuid,nodev,relatime - tmpfs tmpfs rw\n\
                         24 20 0:21 /tmp /tmp rw,nosuid,nodev,relatime - tmpfs tmpfs rw\n\
                         25 20 0:21 /shm /dev/shm rw,nosuid,nodev,relatime - tmpfs tmpfs rw\n";

/// How a file by this name in a process's directory is told; `None` for the kernel's own answer.
pub(in super::super) fn form(name: &str) -> Option<Form> {
    if OWN.contains(&name) {
        return None;
    }
    let found = FORMS.iter().find(|(known, _)| *known == name);
    Some(found.map_or(Form::Absent, |(_, form)| *form))
}

/// The names that a process's directory lists.
pub(in super::super) fn is_listed(name: &[u8]) -> bool {
    let known = |listed: &str| listed.as_bytes() == name;
    OWN.iter().any(|listed| known(listed)) || FORMS.iter().any(|(listed, _)| known(listed))
}

/// `/proc/<id>/stat`: names, relations, state and signals as they are; all counters, times and addresses fixed.
fn stat(text: &str) -> String {
    let Some((head, rest)) = text.rsplit_once(')') else {
        return String::new();
    };
    // Counted as proc_pid_stat(5) does; the first field behind the name is number 3.
    let fields = rest
        .split_whitespace()
        .enumerate()
        .map(|(at, field)| match at + 3 {
            3 => state(field),
            4..=6 | 20 | 31..=34 | 38 => field,
            8 => "-1",
            9 => "4194304",
            18 => "20",
            23 => "67108864",
            24 => "4096",
            25 => "18446744073709551615",
            _ => "0",
        });
    let fields: Vec<&str> = fields.take(50).collect();
    format!("{head}) {}\n", fields.join(" "))
}

/// A stop under the tracer is running or sleeping; which of the two depends on the moment.
fn state(field: &str) -> &str {
    match field {
        "R" | "Z" | "X" | "T" => field,
        _ => "S",
    }
}

/// The four ids of every process of a job.
const USER: &str = "1000\t1000\t1000\t1000";

/// `/proc/<id>/status`, by a list of lines.
fn status(text: &str) -> String {
    const KEPT: [&str; 19] = [
        "Name",
        "Umask",
        "Tgid",
        "Pid",
        "PPid",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
        "Threads",
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "NoNewPrivs",
    ];
    const FIXED: [(&str, &str); 25] = [
        // which group NUMA balancing puts it into
        ("Ngid", "0"),
        ("Uid", USER),
        ("Gid", USER),
        ("TracerPid", "0"),
        ("FDSize", "64"),
        ("Groups", ""),
        ("VmPeak", "   65536 kB"),
        ("VmSize", "   65536 kB"),
        ("VmHWM", "   16384 kB"),
        ("VmRSS", "   16384 kB"),
        ("VmData", "   32768 kB"),
        ("VmStk", "     132 kB"),
        ("VmExe", "       4 kB"),
        ("VmLib", "    4096 kB"),
        ("VmSwap", "       0 kB"),
        ("SigQ", "0/1024"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("Seccomp", "2"),
        ("Cpus_allowed", "1"),
        ("Cpus_allowed_list", "0"),
        ("Mems_allowed", "1"),
        ("Mems_allowed_list", "0"),
        ("voluntary_ctxt_switches", "0"),
        ("nonvoluntary_ctxt_switches", "0"),
    ];
    let mut out = String::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim_start_matches('\t');
        if KEPT.contains(&name) {
            out.push_str(&format!("{name}:\t{value}\n"));
        } else if name == "State" {
            let named = match state(value.get(..1).unwrap_or_default()) {
                "R" => "R (running)",
                "Z" => "Z (zombie)",
                "X" => "X (dead)",
                "T" => "T (stopped)",
                _ => "S (sleeping)",
            };
            out.push_str(&format!("State:\t{named}\n"));
        } else if let Some((_, fixed)) = FIXED.iter().find(|(known, _)| *known == name) {
            out.push_str(&format!("{name}:\t{fixed}\n"));
        }
    }
    out
}

/// `/proc/<id>/limits` without those that come from the machine.
fn limits(text: &str) -> String {
    const MACHINES: [&str; 6] = [
        "Max cpu time",
        "Max data size",
        "Max resident set",
        "Max address space",
        "Max file locks",
        "Max realtime timeout",
    ];
    let mut out = String::new();
    for line in text.lines() {
        match MACHINES.iter().find(|name| line.starts_with(**name)) {
            Some(name) => {
                let unit = line.split_whitespace().last().unwrap_or_default();
                out.push_str(&format!("{name:<25} {0:<20} {0:<20} {unit:<10}\n", "unlimited"));
            }
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

/// `/proc/<id>/maps`, or `smaps` where `sizes` is set, from the kernel's `maps`: without the kernel's own pages, whose
/// number differs from one kernel to the next, and with virtual devices and inode numbers.
pub(in super::super) fn mappings(
    text: &str,
    sizes: bool,
    job: u64,
    named: &BTreeMap<String, Inode>,
    inodes: &mut Inodes,
) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut fields = line.splitn(6, ' ');
        let mut next = || fields.next().unwrap_or_default();
        let (range, rights, offset, device, number) = (next(), next(), next(), next(), next());
        let name = next().trim_start();
        if name.starts_with("[v") {
            continue;
        }
        // the clock's page, which no file that is made for a job can be taken for: those have names
        let is_clock = name == "/memfd: (deleted)";
        let (name, number) = if is_clock { ("", "") } else { (name, number) };
        let rights = if is_clock {
            rights.replace('s', "p")
        } else {
            rights.to_owned()
        };
        let number: u64 = number.parse().unwrap_or(0);
        let (device, number) = match real_device(device).filter(|_| number != 0) {
            Some(device) => {
                let told = if device == job { "00:15" } else { "08:01" };
                let key = named.get(name).copied();
                (told, inodes.number(key.unwrap_or(Inode { device, number })))
            }
            None => ("00:00", 0),
        };
        let head = format!("{range} {rights} {offset} {device} {number} ");
        out.push_str(if name.is_empty() { &head } else { "" });
        if !name.is_empty() {
            out.push_str(&format!("{head:<73}{name}"));
        }
        out.push('\n');
        if sizes {
            let bound = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
            let size = range
                .split_once('-')
                .map_or(0, |(from, to)| bound(to).saturating_sub(bound(from)));
            out.push_str(&format!(
                "Size: {:14} kB\nRss:                 0 kB\nPss:                 0 kB\n",
                size / 1024
            ));
        }
    }
    out
}

fn real_device(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some(libc::makedev(number(major)?, number(minor)?))
}

/// The auxiliary vector.
pub(in super::super) fn auxv(bytes: Vec<u8>) -> Vec<u8> {
    auxiliary::fix(bytes)
}

/// What a link in `/proc` says, with virtual numbers: `pipe:[n]`, `socket:[n]`, `mnt:[n]`, and files of the job that
/// never had a name. `None` where it tells nothing of the machine.
pub(in super::super) fn link(text: &[u8], job: u64, inodes: &mut Inodes) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some((directory, rest)) = text.rsplit_once("/#") {
        let number = rest.strip_suffix(" (deleted)")?.parse().ok()?;
        let number = inodes.number(Inode { device: job, number });
        return Some(format!("{directory}/#{number} (deleted)").into_bytes());
    }
    let (kind, rest) = text.split_once(":[")?;
    let number: u64 = rest.strip_suffix(']')?.parse().ok()?;
    // Namespaces' numbers are apart from those of pipes and sockets.
    let device = u64::from(kind != "pipe" && kind != "socket");
    Some(format!("{kind}:[{}]", inodes.number(Inode { device, number })).into_bytes())
}

/// `/proc/<id>/fdinfo/<n>` without the numbers of mount and inode, nor those of locks, events and watched files.
pub(in super::super) fn open_file(text: &str, told: impl Fn(i32) -> Option<i32>) -> String {
    let flags = |octal: &str| {
        Some(format!(
            "flags:\t0{:o}\n",
            told(i32::from_str_radix(octal.trim(), 8).ok()?)?
        ))
    };
    text.lines()
        .filter_map(|line| match line.split_once(':')? {
            ("flags", octal) => Some(flags(octal).unwrap_or_else(|| format!("{line}\n"))),
            ("mnt_id", _) => Some("mnt_id:\t20\n".to_owned()),
            ("ino", _) => Some("ino:\t0\n".to_owned()),
            ("pos" | "eventfd-count" | "sigmask" | "Pid" | "NSpid", _) => Some(format!("{line}\n")),
            _ => None,
        })
        .collect()
}

/// The job's first process is a part of the sandbox, which has another name in other services.
pub(in super::super) fn of_first(name: &str, text: Vec<u8>) -> Vec<u8> {
    let named = |text: Vec<u8>, open: &str, close: &str| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let from = text.find(open).map_or(0, |at| at + open.len());
        let to = text.find(close).unwrap_or(from).max(from);
        format!("{}init{}", &text[..from], &text[to..]).into_bytes()
    };
    match name {
        "cmdline" => b"init\0".to_vec(),
        "comm" => b"init\n".to_vec(),
        "stat" => named(text, "(", ")"),
        "status" => named(text, "Name:\t", "\n"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;

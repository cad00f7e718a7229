//! What a job sees in `/proc` besides its own processes.
//!
//! Owns the static files and the list of what is covered. A job's `/proc` is a whole one, of its own PID namespace;
//! every entry at its top that is neither a process nor one of the static files is covered by an empty one.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::mount::mount_bind;

use super::template::STORE;

/// Entries that belong to the reading process.
const OWN: [&str; 4] = ["self", "thread-self", "net", "mounts"];

/// Top entries of the host's `/proc` that are to be covered.
#[derive(Debug, Default)]
pub(super) struct HostEntries {
    files: Vec<String>,
    dirs: Vec<String>,
}

/// Static files, the same on every machine.
const STATIC: [(&str, &str); 8] = [
    (
        "cpuinfo",
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 26\n\
         model name\t: sandrun x86-64-v2 virtual processor\nstepping\t: 5\ncpu MHz\t\t: 1000.000\n\
         cache size\t: 8192 KB\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\n\
         initial apicid\t: 0\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 11\nwp\t\t: yes\n\
         flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse \
         sse2 syscall nx rdtscp lm constant_tsc nopl nonstop_tsc cpuid pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm\n\
         bugs\t\t:\nbogomips\t: 2000.00\nclflush size\t: 64\ncache_alignment\t: 64\n\
         address sizes\t: 40 bits physical, 48 bits virtual\npower management:\n\n",
    ),
    (
        "stat",
        "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime 1767225600\nprocesses 1\n\
         procs_running 1\nprocs_blocked 0\n",
    ),
    ("uptime", "1.00 1.00\n"),
    ("loadavg", "0.00 0.00 0.00 1/1 1\n"),
    ("version", "Linux version 6.0.0 (sandrun)\n"),
    ("filesystems", "nodev\tproc\nnodev\ttmpfs\n"),
    ("cmdline", "\n"),
    ("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
];

/// Static files below `/proc/sys`, the only ones that there are.
const STATIC_SYS: [(&str, &str); 13] = [
    ("kernel/ostype", "Linux\n"),
    ("kernel/osrelease", "6.0.0\n"),
    ("kernel/hostname", "sandbox\n"),
    ("kernel/version", "#1 SMP sandrun\n"),
    ("kernel/random/entropy_avail", "256\n"),
    ("kernel/random/poolsize", "256\n"),
    ("kernel/pid_max", "4194304\n"),
    ("kernel/ngroups_max", "65536\n"),
    ("kernel/cap_last_cap", "40\n"),
    ("kernel/threads-max", "65536\n"),
    ("vm/overcommit_memory", "0\n"),
    ("vm/max_map_count", "65530\n"),
    ("fs/pipe-max-size", "1048576\n"),
];

/// Lists what the host's `/proc` has at its top.
pub(super) fn host_entries() -> io::Result<HostEntries> {
    let mut entries = HostEntries::default();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let known = STATIC.iter().any(|(file, _)| *file == name) || OWN.contains(&name.as_str());
        if known || name == "sys" || name == "meminfo" || name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let meta = entry.metadata()?;
        // What only root may open needs no cover: on the host a job's user is never root. Each cover costs time.
        let open_to_others = meta.permissions().mode() & 0o006 != 0;
        if meta.is_dir() {
            entries.dirs.push(name);
        } else if meta.is_file() && open_to_others {
            entries.files.push(name);
        }
    }
    Ok(entries)
}

/// Writes the static files and the list of covers below `store`.
pub(super) fn write_store(store: &Path, entries: &HostEntries) -> io::Result<()> {
    let write = |path: &Path, text: &str| {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o444))
    };
    write(&store.join("nothing"), "")?;
    fs::create_dir_all(store.join("proc"))?;
    for (name, text) in STATIC {
        write(&store.join("proc").join(name), text)?;
    }
    for (name, text) in STATIC_SYS {
        let path = store.join("sys").join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        write(&path, text)?;
    }
    for (list, names) in [("files", &entries.files), ("dirs", &entries.dirs)] {
        write(&store.join(list), &names.join("\n"))?;
    }
    Ok(())
}

/// What is bound over a job's `/proc`: source and target of each, ready for the calls.
#[derive(Debug)]
pub(super) struct Covers(Vec<(CString, CString)>);

impl Covers {
    /// Reads the list that [`write_store`] left. Called once by the launcher, inside its tree.
    pub(super) fn load() -> io::Result<Self> {
        let mut pairs = vec![(format!("{STORE}/sys"), "/proc/sys".to_owned())];
        pairs.extend(
            STATIC
                .iter()
                .map(|(name, _)| (format!("{STORE}/proc/{name}"), format!("/proc/{name}"))),
        );
        for (list, source) in [("files", "nothing"), ("dirs", "empty")] {
            let names = fs::read_to_string(Path::new(STORE).join(list))?;
            pairs.extend(
                names
                    .lines()
                    .map(|name| (format!("{STORE}/{source}"), format!("/proc/{name}"))),
            );
        }
        let text = |path: String| CString::new(path).map_err(io::Error::from);
        pairs
            .into_iter()
            .map(|(source, target)| Ok((text(source)?, text(target)?)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Covers a freshly mounted `/proc`.
    pub(super) fn apply(&self) -> io::Result<()> {
        for (source, target) in &self.0 {
            match mount_bind(source.as_c_str(), target.as_c_str()) {
                // An entry that went away with a kernel module needs no cover.
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let meminfo = format!("{STORE}/job/meminfo");
        Ok(mount_bind(meminfo.as_str(), "/proc/meminfo")?)
    }
}

/// `/proc/meminfo` of a job with this much memory.
pub(super) fn meminfo(bytes: u64) -> String {
    let kib = bytes / 1024;
    format!(
        "MemTotal:       {kib:8} kB\nMemFree:        {kib:8} kB\nMemAvailable:   {kib:8} kB\nBuffers:               0 \
         kB\nCached:                0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n"
    )
}

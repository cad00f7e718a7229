//! This machine: its disks, and whether it can isolate jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sandrun_metrics::Disk;
use sandrun_sandbox::{Layer, Layers, MemoryControl, ProcessControl, Sandbox, SandboxConfig, masks_cpuid};

use super::{Finding, Findings};
use crate::exit::words;

/// Free room of a data directory from which on it is worth a look, and a fault, bytes.
const ROOM: (u64, u64) = (1 << 30, 64 << 20);
/// Time of one sync from which on a disk is slow.
const SLOW: Duration = Duration::from_millis(50);
/// Syncs that are tried.
const SYNCS: usize = 5;
/// Longest that the sandbox's start is waited for.
const START: Duration = Duration::from_secs(10);

/// The data directories: what is named, what the services' variables say, and what there is at the usual places.
pub(super) fn directories(named: &[PathBuf]) -> Vec<PathBuf> {
    const VARIABLES: [&str; 5] = [
        "SANDRUN_DATA_DIR",
        "SANDRUN_AGENT_DIR",
        "SANDRUN_NODE_DIR",
        "SANDRUN_POOL_DIR",
        "SANDRUN_CONTENT_DIR",
    ];
    let mut all = named.to_vec();
    all.extend(VARIABLES.iter().filter_map(std::env::var_os).map(PathBuf::from));
    let home = crate::config::home();
    if home.is_dir() {
        all.push(home);
    }
    each_once(all)
}

/// One directory is looked at once, however it is written.
fn each_once(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut known = BTreeSet::new();
    folders.sort();
    folders.retain(|it| known.insert(it.canonicalize().unwrap_or_else(|_| it.clone())));
    folders
}

/// Looks at each of them, on a thread that may block.
pub(super) async fn disks(directories: Vec<PathBuf>) -> Findings {
    let look = move || {
        let mut seen = BTreeMap::new();
        directories.iter().flat_map(|it| disk(it, &mut seen)).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Looks at one; `seen` has the disks that were looked at, by their number, and a directory on each.
fn disk(folder: &Path, seen: &mut BTreeMap<u64, PathBuf>) -> Findings {
    let what = format!("disk of {}", folder.display());
    let free = match Disk::of(folder) {
        Ok(disk) => disk.free,
        Err(error) => {
            let todo = "make the directory, for the user that the service runs as";
            return vec![Finding::fail(what, error.to_string(), todo)];
        }
    };
    let number = std::fs::metadata(folder).map(|about| about.dev()).ok();
    let room = match number.and_then(|number| seen.get(&number)) {
        Some(first) => Finding::skip(what.clone(), format!("it is the disk of {}", first.display())),
        None => room(what.clone(), free),
    };
    if let Some(number) = number {
        seen.entry(number).or_insert_with(|| folder.to_owned());
    }
    let what = format!("{what}, writing");
    vec![
        room,
        match syncs(folder) {
            Ok(median) if median > SLOW => Finding::warn(
                what,
                format!("one sync takes {} ms", median.as_millis()),
                "journals wait for it with each step of a job: use a disk that is faster, or not so busy",
            ),
            Ok(median) => Finding::ok(
                what,
                format!("one sync takes {:.1} ms", median.as_secs_f64() * 1e3),
            ),
            Err(error) => Finding::fail(
                what,
                error.to_string(),
                "give the directory to the user that the service runs as; is the file system mounted read-only?",
            ),
        },
    ]
}

fn room(what: String, free: u64) -> Finding {
    let (seen, todo) = (format!("{} MiB are free", free >> 20), "make room on that disk");
    if free < ROOM.1 {
        Finding::fail(what, seen, todo)
    } else if free < ROOM.0 {
        Finding::warn(what, seen, todo)
    } else {
        Finding::ok(what, seen)
    }
}

/// The median time of a small write that reaches the disk; the file goes again.
fn syncs(folder: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 4_096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times[SYNCS / 2])
}

/// Starts a sandbox as the executor does, which tries to get past each of its layers.
pub(super) async fn isolation() -> Findings {
    let started = tokio::task::spawn_blocking(|| {
        let program = std::env::current_exe()?;
        let config = SandboxConfig::new(vec![program.into_os_string(), "__sandbox".into()]);
        anyhow::Ok(Sandbox::start(config)?.layers().clone())
    });
    let mut found = vec![user()];
    match tokio::time::timeout(START, started).await {
        Ok(Ok(Ok(layers))) => found.extend(layer_findings(&layers)),
        Ok(Ok(Err(error))) => {
            let todo = "no job runs on this machine until this is mended";
            found.push(
                kernel(&words(&error)).unwrap_or_else(|| Finding::fail("isolation", words(&error), todo)),
            );
        }
        Ok(Err(error)) => found.push(Finding::fail("isolation", error.to_string(), "run doctor again")),
        Err(_) => {
            let seen = format!("the sandbox did not start within {} s", START.as_secs());
            found.push(Finding::fail("isolation", seen, "is the machine overloaded?"));
        }
    }
    found.push(classes());
    found
}

/// Who runs this, and so would run the executor.
fn user() -> Finding {
    let uid = nix::unistd::geteuid();
    let what = "isolation, the process";
    if uid.is_root() {
        return Finding::warn(
            what,
            "this is root; jobs get a user of their own, the executor itself does not need to be root",
            "run the executor as a system user (deploy/systemd)",
        );
    }
    Finding::ok(what, format!("uid {uid}"))
}

/// What holds, layer by layer.
fn layer_findings(layers: &Layers) -> Findings {
    let mut found: Findings = Layer::ALL
        .into_iter()
        .map(|layer| {
            let what = format!("isolation, {layer}");
            if layers.has(layer) {
                Finding::ok(what, "holds")
            } else {
                // those that are required would have refused the start
                Finding::warn(
                    what,
                    "this kernel does not have it",
                    "jobs run without it; a newer kernel has it (Landlock: 5.13, in the `lsm=` list)",
                )
            }
        })
        .collect();
    let todo = "give the executor a cgroup of its own: systemd's Delegate=yes, as in deploy/systemd";
    found.push(match layers.memory {
        MemoryControl::CgroupV2 => Finding::ok("isolation, memory", "control groups, version 2"),
        MemoryControl::CgroupV1 => Finding::ok("isolation, memory", "control groups, version 1"),
        MemoryControl::Rlimit => Finding::warn("isolation, memory", "resource limits, and adding up", todo),
    });
    found.push(match layers.processes {
        ProcessControl::CgroupV2 => Finding::ok("isolation, processes", "control groups, version 2"),
        ProcessControl::CgroupV1 => Finding::ok("isolation, processes", "control groups, version 1"),
        ProcessControl::Rlimit => Finding::warn("isolation, processes", "the user's resource limit", todo),
    });
    found
}

/// The switches of the kernel that keep users from namespaces of their own, where those are why the sandbox fails with
/// `error`.
fn kernel(error: &str) -> Option<Finding> {
    let switches = [
        ("user/max_user_namespaces", "0", "a number such as 15000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    let blocking = switches.into_iter().filter(|(name, bad, _)| {
        let value = std::fs::read_to_string(Path::new("/proc/sys").join(name));
        value.is_ok_and(|value| value.trim() == *bad)
    });
    let (mut seen, mut todo) = (error.to_owned(), Vec::new());
    for (name, bad, good) in blocking {
        let dotted = name.replace('/', ".");
        seen += &format!("; {dotted} is {bad}: no user namespaces");
        todo.push(format!("set {dotted} to {good}"));
    }
    (!todo.is_empty()).then(|| {
        let todo = format!("{} (sysctl -w, and in /etc/sysctl.d)", todo.join(", "));
        Finding::fail("isolation", seen, todo)
    })
}

/// Whether class `det` can be offered.
fn classes() -> Finding {
    let what = "isolation, classes";
    if cfg!(not(target_arch = "x86_64")) {
        return Finding::warn(what, "native alone", "deterministic classes need x86-64");
    }
    if masks_cpuid() {
        return Finding::ok(what, "native, det, det-soft: CPUID can be masked");
    }
    Finding::warn(
        what,
        "native and det-soft: this processor (or hypervisor) can't mask CPUID",
        "fewer machines share a class det-soft; bare metal by Intel since 2012, or AMD since 2023, has det",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_directory_that_can_be_written_is_fine_and_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = BTreeMap::new();
        let found = disk(folder.path(), &mut seen);
        assert!(found.iter().all(|it| it.level != Level::Fail), "{found:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let gone = disk(&folder.path().join("gone"), &mut seen);
        assert_eq!(gone[0].level, Level::Fail);
        // the room of one disk is one finding
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let inner = disk(&folder.path().join("in"), &mut seen);
        assert_eq!((inner[0].level, inner[1].level), (Level::Skip, Level::Ok));
        let twice = vec![folder.path().join("in"), folder.path().join("./in/../in")];
        assert_eq!(each_once(twice).len(), 1);
    }
}

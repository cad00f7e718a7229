//! Control groups: version 2, version 1, or none.
//!
//! Owns one group for each job in each hierarchy that can be used, its limits, and what it counted. Never kills
//! anybody: the PID namespace does that.

mod find;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};

use crate::{CgroupPolicy, Limits, MemoryControl, ProcessControl};

/// Version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One mounted hierarchy, in which we have a directory of our own.
#[derive(Debug)]
struct Hierarchy {
    version: Version,
    /// The service's own group.
    parent: OwnedFd,
    /// Our directory in it; jobs' groups are made there.
    base: OwnedFd,
    memory: bool,
    pids: bool,
    cpu: bool,
}

/// Where jobs' groups are made.
#[derive(Debug)]
pub(super) struct Groups {
    name: String,
    hierarchies: Vec<Hierarchy>,
}

impl Groups {
    /// Finds what can be used. With [`CgroupPolicy::Required`], lacking memory or pids is an error.
    pub(super) fn establish(policy: CgroupPolicy) -> io::Result<Self> {
        let name = format!("{}{}", find::PREFIX, std::process::id());
        let hierarchies = match policy {
            CgroupPolicy::Off => Vec::new(),
            CgroupPolicy::Auto | CgroupPolicy::Required => find::hierarchies(&name)?,
        };
        let groups = Self { name, hierarchies };
        let lacking =
            groups.memory() == MemoryControl::Rlimit || groups.processes() == ProcessControl::Rlimit;
        if policy == CgroupPolicy::Required && lacking {
            groups.remove();
            return Err(io::Error::other(
                "control groups for memory and pids are required, but cannot be made here",
            ));
        }
        Ok(groups)
    }

    /// What bounds memory.
    pub(super) fn memory(&self) -> MemoryControl {
        match self.hierarchies.iter().find(|h| h.memory).map(|h| h.version) {
            Some(Version::V2) => MemoryControl::CgroupV2,
            Some(Version::V1) => MemoryControl::CgroupV1,
            None => MemoryControl::Rlimit,
        }
    }

    /// What bounds processes.
    pub(super) fn processes(&self) -> ProcessControl {
        match self.hierarchies.iter().find(|h| h.pids).map(|h| h.version) {
            Some(Version::V2) => ProcessControl::CgroupV2,
            Some(Version::V1) => ProcessControl::CgroupV1,
            None => ProcessControl::Rlimit,
        }
    }

    /// Makes the groups of one job, limits set, nobody in them.
    pub(super) fn create(&self, job: &str, limits: &Limits) -> io::Result<JobGroups<'_>> {
        let mut made = JobGroups {
            job: job.to_owned(),
            groups: Vec::new(),
        };
        for hierarchy in &self.hierarchies {
            match mkdirat(&hierarchy.base, job, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let dir = open_dir(&hierarchy.base, job)?;
            let group = JobGroup { hierarchy, dir };
            let limited = group.limit(limits);
            made.groups.push(group);
            limited?;
        }
        Ok(made)
    }

    /// Removes a job's groups that its supervisor left behind, if it did.
    pub(super) fn sweep(&self, job: &str) {
        for hierarchy in &self.hierarchies {
            let _ = unlinkat(&hierarchy.base, job, AtFlags::REMOVEDIR);
        }
    }

    /// Removes our own directories; for the launcher's end.
    pub(super) fn remove(&self) {
        for hierarchy in &self.hierarchies {
            let _ = unlinkat(&hierarchy.parent, &self.name, AtFlags::REMOVEDIR);
        }
    }
}

/// The groups of one job; removed when dropped.
#[derive(Debug)]
pub(super) struct JobGroups<'a> {
    job: String,
    groups: Vec<JobGroup<'a>>,
}

#[derive(Debug)]
struct JobGroup<'a> {
    hierarchy: &'a Hierarchy,
    dir: OwnedFd,
}

impl JobGroup<'_> {
    fn limit(&self, limits: &Limits) -> io::Result<()> {
        if self.hierarchy.memory {
            let bytes = limits.memory_bytes.to_string();
            match self.hierarchy.version {
                Version::V1 => {
                    write(&self.dir, "memory.limit_in_bytes", &bytes)?;
                    // Memory and swap together; missing where the kernel does not count swap.
                    ignore_missing(write(&self.dir, "memory.memsw.limit_in_bytes", &bytes))?;
                }
                Version::V2 => {
                    write(&self.dir, "memory.max", &bytes)?;
                    ignore_missing(write(&self.dir, "memory.swap.max", "0"))?;
                    ignore_missing(write(&self.dir, "memory.oom.group", "1"))?;
                }
            }
        }
        if self.hierarchy.pids {
            // One more: the job's first process is ours.
            write(
                &self.dir,
                "pids.max",
                &(u64::from(limits.processes) + 1).to_string(),
            )?;
        }
        Ok(())
    }
}

impl JobGroups<'_> {
    /// The group of version 2, which a process is best born into.
    pub(super) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        self.of(|h| h.version == Version::V2)
            .map(|group| group.dir.as_fd())
    }

    /// Puts the calling process, which has one thread, into the groups that it was not born into.
    ///
    /// By the file `tasks`: moving just the calling thread takes no global lock, while `cgroup.procs` waits for a
    /// grace period of the kernel, 10 to 20 ms.
    pub(super) fn enter(&self) -> io::Result<()> {
        let moved = self
            .groups
            .iter()
            .filter(|group| group.hierarchy.version == Version::V1);
        moved
            .into_iter()
            .try_for_each(|group| write(&group.dir, "tasks", "0"))
    }

    fn of(&self, has: impl Fn(&Hierarchy) -> bool) -> Option<&JobGroup<'_>> {
        self.groups.iter().find(|group| has(group.hierarchy))
    }

    /// Whether the kernel has killed a process of the job for memory. Counted by the kernel, so it does not matter
    /// when this is asked once all processes are dead.
    pub(super) fn killed_for_memory(&self) -> io::Result<bool> {
        let Some(group) = self.of(|h| h.memory) else {
            return Ok(false);
        };
        let file = match group.hierarchy.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        Ok(field(&read(&group.dir, file)?, "oom_kill").unwrap_or(0) > 0)
    }

    /// Most memory at once, where it is counted.
    pub(super) fn memory_peak(&self) -> Option<u64> {
        let group = self.of(|h| h.memory)?;
        let file = match group.hierarchy.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        };
        read(&group.dir, file).ok()?.trim().parse().ok()
    }

    /// CPU time until now, where it is counted.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let group = self.of(|h| h.cpu)?;
        match group.hierarchy.version {
            Version::V1 => read(&group.dir, "cpuacct.usage")
                .ok()?
                .trim()
                .parse()
                .ok()
                .map(Duration::from_nanos),
            Version::V2 => {
                field(&read(&group.dir, "cpu.stat").ok()?, "usage_usec").map(Duration::from_micros)
            }
        }
    }
}

impl Drop for JobGroups<'_> {
    fn drop(&mut self) {
        for group in &self.groups {
            // All processes have been waited for. Should the kernel need a moment longer, the launcher sweeps.
            let _ = unlinkat(&group.hierarchy.base, self.job.as_str(), AtFlags::REMOVEDIR);
        }
    }
}

/// The number after a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_dir(at: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn write(dir: impl AsFd, name: &str, text: &str) -> io::Result<()> {
    let file = openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

fn read(dir: impl AsFd, name: &str) -> io::Result<String> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = vec![0; 4096];
    let length = rustix::io::read(&file, &mut bytes)?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), Some(3));
        assert_eq!(field(text, "usage_usec"), None);
    }
}

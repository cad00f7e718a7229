//! Finds the hierarchies in which groups of our own can be made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};

use super::{Hierarchy, Version, open_dir, write};

/// What the names of our directories begin with; the launcher's process id follows.
pub(super) const PREFIX: &str = "sandrun-";
/// Controllers of version 1 that are of use here.
const V1_CONTROLLERS: [&str; 3] = ["memory", "pids", "cpuacct"];

/// Makes our directory `name` in every hierarchy that has a controller that we need.
pub(super) fn hierarchies(name: &str) -> io::Result<Vec<Hierarchy>> {
    let mounts = Mounts::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    let own = OwnGroups::parse(&fs::read_to_string("/proc/self/cgroup")?);
    let mut found = Vec::new();
    if let (Some(mount), Some(path)) = (&mounts.v2, &own.v2) {
        found.extend(mount.places(path).find_map(|place| usable_v2(&place, name)));
    }
    for controller in V1_CONTROLLERS {
        let taken = found.iter().any(|h: &Hierarchy| match controller {
            "memory" => h.memory,
            "pids" => h.pids,
            _ => h.cpu,
        });
        let (Some(mount), Some(path)) = (mounts.v1.get(controller), own.v1.get(controller)) else {
            continue;
        };
        if !taken {
            found.extend(
                mount
                    .places(path)
                    .find_map(|place| usable_v1(&place, name, controller)),
            );
        }
    }
    Ok(found)
}

fn usable_v1(place: &Path, name: &str, controller: &str) -> Option<Hierarchy> {
    let (parent, base) = make(place, name)?;
    if controller == "memory" {
        // Older kernels count a group's children only if told so.
        let _ = write(&base, "memory.use_hierarchy", "1");
    }
    Some(Hierarchy {
        version: Version::V1,
        parent,
        base,
        memory: controller == "memory",
        pids: controller == "pids",
        cpu: controller == "cpuacct",
    })
}

fn usable_v2(place: &Path, name: &str) -> Option<Hierarchy> {
    let offered = fs::read_to_string(place.join("cgroup.controllers")).ok()?;
    let offers = |controller: &str| offered.split_whitespace().any(|word| word == controller);
    if !offers("memory") && !offers("pids") {
        return None;
    }
    let wanted: Vec<String> = ["memory", "pids", "cpu"]
        .iter()
        .filter(|c| offers(c))
        .map(|controller| format!("+{controller}"))
        .collect();
    let wanted = wanted.join(" ");
    if fs::write(place.join("cgroup.subtree_control"), &wanted).is_err() {
        leave_inner_group(place).ok()?;
        fs::write(place.join("cgroup.subtree_control"), &wanted).ok()?;
    }
    let (parent, base) = make(place, name)?;
    if write(&base, "cgroup.subtree_control", &wanted).is_err() {
        let _ = unlinkat(&parent, name, AtFlags::REMOVEDIR);
        return None;
    }
    // cpu.stat is there without the cpu controller.
    Some(Hierarchy {
        version: Version::V2,
        parent,
        base,
        memory: offers("memory"),
        pids: offers("pids"),
        cpu: true,
    })
}

/// A group with processes cannot have controllers for its children. Where the only processes are this one and the
/// service that started it, as under systemd with `Delegate=yes`, they move into a leaf.
fn leave_inner_group(place: &Path) -> io::Result<()> {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let ours = [std::process::id().to_string(), parent.to_string()];
    let members = fs::read_to_string(place.join("cgroup.procs"))?;
    if members.lines().any(|pid| !ours.iter().any(|own| own == pid)) {
        return Err(io::Error::other("the control group holds other processes"));
    }
    let leaf = place.join(format!("{PREFIX}service"));
    fs::create_dir_all(&leaf)?;
    members
        .lines()
        .try_for_each(|pid| fs::write(leaf.join("cgroup.procs"), pid))
}

fn make(place: &Path, name: &str) -> Option<(OwnedFd, OwnedFd)> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let parent = openat(CWD, place, flags, Mode::empty()).ok()?;
    sweep(place);
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(_) => return None,
    }
    let base = open_dir(&parent, name).ok()?;
    Some((parent, base))
}

/// Removes directories of launchers that were killed together with all their supervisors.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let launcher = file_name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if launcher.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            for job in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(job.path());
            }
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where hierarchies are mounted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mounts {
    v2: Option<Mount>,
    v1: BTreeMap<String, Mount>,
}

/// One mount: which group it shows, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Where the group `path` can be, best first: in a container its path may be one of the host's.
    fn places(&self, path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
        let below = path
            .strip_prefix(&self.root)
            .or_else(|_| path.strip_prefix("/"))
            .unwrap_or(path);
        let place = self.point.join(below);
        [place.is_dir().then_some(place), Some(self.point.clone())]
            .into_iter()
            .flatten()
    }
}

impl Mounts {
    /// Reads /proc/self/mountinfo, see proc_pid_mountinfo(5).
    fn parse(text: &str) -> Self {
        let mut mounts = Self::default();
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(point)) = (left.next(), left.next()) else {
                continue;
            };
            let mount = Mount {
                root: root.into(),
                point: point.into(),
            };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => mounts.v2 = mounts.v2.or(Some(mount)),
                Some("cgroup") => {
                    for option in right.nth(1).unwrap_or_default().split(',') {
                        mounts
                            .v1
                            .entry(option.to_owned())
                            .or_insert_with(|| mount.clone());
                    }
                }
                Some(_) | None => {}
            }
        }
        mounts
    }
}

/// The groups that this process is in.
#[derive(Debug, Default, PartialEq, Eq)]
struct OwnGroups {
    v2: Option<PathBuf>,
    v1: BTreeMap<String, PathBuf>,
}

impl OwnGroups {
    /// Reads /proc/self/cgroup, see cgroups(7).
    fn parse(text: &str) -> Self {
        let mut own = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            if controllers.is_empty() {
                own.v2 = Some(path.into());
            }
            for controller in controllers.split(',').filter(|name| !name.is_empty()) {
                own.v1.insert(controller.to_owned(), path.into());
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_versions() {
        let mounts = Mounts::parse(
            "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             31 23 0:27 /docker/x /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n",
        );
        assert_eq!(mounts.v2.unwrap().point, Path::new("/sys/fs/cgroup/unified"));
        let memory = &mounts.v1["memory"];
        assert_eq!(memory.root, Path::new("/docker/x"));
        // The mount point does not exist here, so the only place is the mount itself.
        let places: Vec<_> = memory.places(Path::new("/docker/x/job")).collect();
        assert_eq!(places, [Path::new("/sys/fs/cgroup/memory")]);
        let own = OwnGroups::parse("4:memory:/a\n2:cpu,cpuacct:/b\n0::/c\n");
        assert_eq!(own.v2.as_deref(), Some(Path::new("/c")));
        assert_eq!(own.v1["cpuacct"], Path::new("/b"));
    }
}

//! The root file system of every job, built once: a tmpfs with read-only binds of the system directories.
//!
//! Owns what of the host a job may read. After [`build`] the launcher itself lives in it, and nothing else of the
//! host is mounted in its namespace; a job's namespace is a copy of this one.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
};

use super::identity::{INSIDE, Identity};
use super::proc_files;
use super::usr::{self, UsrView};
use crate::environment::IMAGE;
use crate::sys;
use crate::system::{self, ETC_COPIES, SYSTEM_DIRS};

/// Where the launcher keeps what goes into a job's tree; hidden in each job.
pub(super) const STORE: &str = "/.sandrun";
/// A file that nothing but Landlock keeps a job from reading.
pub(super) const LANDLOCK_CANARY: &str = "/.canary";
/// Where the tree is put together: a directory that every system has.
const BUILD_AT: &str = "/tmp";
/// Device files that a job has.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Where the images lie; only the one that a job names can be seen in it.
pub(super) const IMAGES: &str = "/.sandrun/images";

/// Builds the tree and moves this process into it.
pub(super) fn build(dirs: &[PathBuf], images: Option<&Path>, identity: Identity) -> Result<UsrView, String> {
    let step = |what: &str, result: io::Result<()>| result.map_err(|error| format!("{what}: {error}"));
    let masked = proc_files::host_entries().map_err(|error| format!("list /proc: {error}"))?;
    step("make a mount namespace", sys::unshare(libc::CLONE_NEWNS))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step(
        "make mounts private",
        mount_change("/", private).map_err(Into::into),
    )?;
    // What lies in BUILD_AT must be read before it is covered.
    let trees = system_trees(dirs).map_err(|error| format!("clone the system directories: {error}"))?;
    let images = images.map(|dir| clone_tree(dir).map_err(|e| format!("clone {}: {e}", dir.display())));
    let images = images.transpose()?;
    let devices = device_trees().map_err(|error| format!("clone the device files: {error}"))?;
    let proc = match identity {
        // A user namespace may mount its own /proc only where it sees one already.
        Identity::Unprivileged => {
            Some(clone_tree(Path::new("/proc")).map_err(|e| format!("clone /proc: {e}"))?)
        }
        Identity::Privileged { .. } => None,
    };
    let etc = read_etc();
    let parts =
        system::parts_of_usr(Path::new("/usr"), dirs).map_err(|error| format!("list /usr: {error}"))?;
    step("mount the root", mount_root())?;
    step("fill the root", fill(&etc, &masked))?;
    let view = usr::write_store(&at(STORE), &parts).map_err(|error| format!("prepare /usr: {error}"))?;
    for (target, tree) in &trees {
        step(
            &format!("bind {}", target.display()),
            attach_readonly(tree, target),
        )?;
    }
    for (name, tree) in &devices {
        step(
            &format!("bind /dev/{name}"),
            attach(tree, &Path::new("/dev").join(name)),
        )?;
    }
    if let Some(tree) = images {
        step(
            "bind the images",
            attach_readonly(&Part::Tree(tree), Path::new(IMAGES)),
        )?;
    }
    if let Some(tree) = proc {
        step("bind /proc", attach(&tree, Path::new("/proc")))?;
    }
    step("enter the root", enter())?;
    Ok(view)
}

fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// What to bind: directories as trees, and symbolic links as they are.
enum Part {
    Tree(OwnedFd),
    Link(PathBuf),
}

fn system_trees(dirs: &[PathBuf]) -> io::Result<Vec<(PathBuf, Part)>> {
    let system = SYSTEM_DIRS.iter().map(|name| Path::new("/").join(name));
    let mut parts = Vec::new();
    for path in system.chain(dirs.iter().filter(|dir| !dir.starts_with("/usr")).cloned()) {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_symlink() => parts.push((path.clone(), Part::Link(fs::read_link(&path)?))),
            Ok(meta) if meta.is_dir() => parts.push((path.clone(), Part::Tree(clone_tree(&path)?))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(parts)
}

fn device_trees() -> io::Result<Vec<(&'static str, OwnedFd)>> {
    DEVICES
        .iter()
        .map(|name| Ok((*name, clone_tree(&Path::new("/dev").join(name))?)))
        .collect()
}

fn read_etc() -> Vec<(&'static str, Vec<u8>)> {
    // One that is missing is not needed here.
    ETC_COPIES
        .iter()
        .filter_map(|name| Some((*name, fs::read(Path::new("/etc").join(name)).ok()?)))
        .collect()
}

fn mount_root() -> io::Result<()> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", "0755")?;
    fsconfig_set_string(context.as_fd(), "size", "16m")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(
        mount.as_fd(),
        "",
        CWD,
        BUILD_AT,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}

fn at(path: &str) -> PathBuf {
    Path::new(BUILD_AT).join(path.trim_start_matches('/'))
}

fn fill(etc: &[(&str, Vec<u8>)], masked: &proc_files::HostEntries) -> io::Result<()> {
    for dir in [
        "proc", "dev/shm", "etc/ssl", "tmp", "work", "run", "var/tmp", IMAGE,
    ] {
        fs::create_dir_all(at(dir))?;
    }
    for name in DEVICES {
        fs::write(at("dev").join(name), "")?;
    }
    for (name, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(format!("/proc/self/{target}"), at("dev").join(name))?;
    }
    symlink("/proc/self/mounts", at("etc/mtab"))?;
    symlink(format!("{IMAGE}/lib/node_modules"), at("node_modules"))?;
    for (name, bytes) in etc {
        write_readable(&at("etc").join(name), bytes)?;
    }
    for (name, text) in own_etc() {
        write_readable(&at("etc").join(name), text.as_bytes())?;
    }
    write_readable(&at(LANDLOCK_CANARY), b"Landlock is off\n")?;
    for dir in ["job", "empty"] {
        fs::create_dir_all(at(STORE).join(dir))?;
    }
    proc_files::write_store(&at(STORE), masked)
}

fn write_readable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o444))
}

/// Files of `/etc` that say who the job is.
fn own_etc() -> [(&'static str, String); 6] {
    [
        (
            "passwd",
            format!("root:x:0:0:root:/:/bin/false\nsandbox:x:{INSIDE}:{INSIDE}:sandbox:/work:/bin/bash\n"),
        ),
        ("group", format!("root:x:0:\nsandbox:x:{INSIDE}:\n")),
        ("hostname", "sandbox\n".to_owned()),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
        ),
        ("resolv.conf", String::new()),
    ]
}

fn attach_readonly(part: &Part, target: &Path) -> io::Result<()> {
    match part {
        Part::Link(to) => symlink(to, at(&target.to_string_lossy())),
        Part::Tree(tree) => {
            sys::make_readonly(tree.as_fd(), true, true)?;
            fs::create_dir_all(at(&target.to_string_lossy()))?;
            attach(tree, target)
        }
    }
}

fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = at(&target.to_string_lossy());
    move_mount(
        tree.as_fd(),
        "",
        CWD,
        &target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}

fn enter() -> io::Result<()> {
    rustix::process::chdir(BUILD_AT)?;
    sys::pivot_root_to_cwd()?;
    rustix::process::chdir("/")?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // Device files lie on binds of their own, so the root itself needs none.
    sys::make_readonly(root.as_fd(), false, true)
}

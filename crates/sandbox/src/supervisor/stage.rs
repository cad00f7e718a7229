//! The job's writable file systems: one tmpfs, with the input files copied into it.
//!
//! Owns its size and the copying. The limits hold for work directory, `/tmp` and `/dev/shm` together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, Uid, fchown, fstat, mkdirat, openat, sendfile};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::det::set_untouched;
use super::proc_files::meminfo;
use crate::wire::Spec;

/// Parts of the job's tmpfs: name, mode, and where a job sees it.
pub(super) const PARTS: [(&str, u32, &str); 3] = [
    ("work", 0o755, "/work"),
    ("tmp", 0o1777, "/tmp"),
    ("shm", 0o1777, "/dev/shm"),
];
/// Directories and files of ours in it, which must not count against the job.
const OWN_ENTRIES: u64 = 8;
/// Deepest directory in a bundle.
const MAX_DEPTH: usize = 64;
const PAGE: u64 = 4096;

/// A job's file systems before the job is there.
#[derive(Debug)]
pub(super) struct Stage {
    /// The whole tmpfs, mounted nowhere yet.
    pub(super) mount: OwnedFd,
    /// Its work directory.
    pub(super) work: OwnedFd,
}

/// Makes the tmpfs and copies the input into it. `owner` is the job's id where it is another than this process's.
pub(super) fn prepare(spec: &Spec, workspace: BorrowedFd<'_>, owner: u32) -> io::Result<Stage> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let size = spec
        .limits
        .tmpfs_bytes
        .saturating_add(spec.input_bytes)
        .saturating_add(OWN_ENTRIES * PAGE);
    let inodes = spec
        .limits
        .inodes
        .saturating_add(spec.input_entries)
        .saturating_add(OWN_ENTRIES);
    fsconfig_set_string(context.as_fd(), "mode", "0755")?;
    fsconfig_set_string(context.as_fd(), "size", size.to_string().as_str())?;
    fsconfig_set_string(context.as_fd(), "nr_inodes", inodes.to_string().as_str())?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let owner = Owner(owner);
    let times = match spec.det {
        Some(_) => Times::Untouched,
        None => Times::Real,
    };
    for (name, mode, _) in PARTS {
        owner.make_dir(mount.as_fd(), name, mode)?;
    }
    let info = owner.create(mount.as_fd(), "meminfo", 0o444)?;
    rustix::io::write(&info, meminfo(spec.limits.memory_bytes).as_bytes())?;
    let work = open_dir(mount.as_fd(), "work")?;
    owner.copy_tree(workspace, work.as_fd(), times, 0)?;
    for (name, _, _) in PARTS {
        times.set(open_dir(mount.as_fd(), name)?.as_fd())?;
    }
    Ok(Stage { mount, work })
}

/// Makes the job the owner of a file, so that it can open its standard streams anew whoever runs the service. `owner`
/// as in [`prepare`].
pub(super) fn give(file: BorrowedFd<'_>, owner: u32) -> io::Result<()> {
    Owner(owner).give(file)
}

/// Which times of change the job's files begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    /// When they were copied.
    Real,
    /// The mark of files that the job has not written.
    Untouched,
}

impl Times {
    fn set(self, file: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::Real => Ok(()),
            Self::Untouched => set_untouched(file),
        }
    }
}

/// Who owns what is created.
#[derive(Debug, Clone, Copy)]
struct Owner(u32);

impl Owner {
    fn give(self, file: BorrowedFd<'_>) -> io::Result<()> {
        if self.0 != 0 {
            fchown(file, Some(Uid::from_raw(self.0)), Some(Gid::from_raw(self.0)))?;
        }
        Ok(())
    }

    fn make_dir(self, at: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
        mkdirat(at, name, Mode::from_raw_mode(mode))?;
        let dir = open_dir(at, name)?;
        self.give(dir.as_fd())?;
        Ok(dir)
    }

    fn create(self, at: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(at, name, flags, Mode::from_raw_mode(mode))?;
        self.give(file.as_fd())?;
        Ok(file)
    }

    /// Copies regular files and directories, all of mode 0755; anything else is an error.
    fn copy_tree(
        self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        times: Times,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(
                "the workspace's directories are nested too deeply",
            ));
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name().to_str().map_err(io::Error::other)?;
            if name == "." || name == ".." {
                continue;
            }
            // FIFOs must not block the open.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let source = openat(from, name, flags, Mode::empty())?;
            let meta = fstat(&source)?;
            match FileType::from_raw_mode(meta.st_mode) {
                FileType::Directory => {
                    let dir = self.make_dir(to, name, 0o755)?;
                    self.copy_tree(source.as_fd(), dir.as_fd(), times, depth + 1)?;
                    times.set(dir.as_fd())?;
                }
                FileType::RegularFile => {
                    let target = self.create(to, name, 0o755)?;
                    while sendfile(&target, &source, None, 1 << 30)? > 0 {}
                    times.set(target.as_fd())?;
                }
                FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {
                    return Err(io::Error::other(format!(
                        "{name} in the workspace is no regular file"
                    )));
                }
            }
        }
        Ok(())
    }
}

fn open_dir(at: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(at, name, flags, Mode::empty())?)
}

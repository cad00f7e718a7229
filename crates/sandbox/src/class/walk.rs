//! The files that stand behind a class: what there is, in one order. Owns the walk, and what of it a job can read; never
//! reads a file's content.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Who the jobs are to the system's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Users of their own: they read what everybody may.
    Anybody,
    /// The service's user, who is this process's: they read what it may.
    Service,
}

impl Reader {
    /// Whether a job may read what has this name, and enter it if it is a directory.
    fn reads(self, path: &Path, about: &Metadata) -> bool {
        let (bits, wanted) = if about.is_dir() {
            (0o005, Access::READ_OK | Access::EXEC_OK)
        } else {
            (0o004, Access::READ_OK)
        };
        let may = |bits: u32| about.mode() & bits == bits;
        match self {
            Self::Anybody => may(bits),
            // what owner, group and all others may, need not be asked for
            Self::Service => may(bits | bits << 3 | bits << 6) || access(path, wanted).is_ok(),
        }
    }
}

/// Permission bits, those for set-user-id and its like included.
const PERMISSIONS: u32 = 0o7777;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified: (i64, i64),
    /// When its owner, mode, name or content last changed: nobody can set this one.
    pub(super) changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// One name.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) what: What,
}

/// What it names.
#[derive(Debug)]
pub(super) enum What {
    /// A file whose content a job may read.
    File(Stamp),
    /// One that a job cannot read, of this size.
    Closed(u64),
    Directory,
    /// A symbolic link, and what it says.
    Link(PathBuf),
    /// A device, a socket, a pipe: a job can do nothing with it.
    Other,
}

/// Everything at and below a path, in the order of names; nothing where there is nothing. What a job may not look into
/// is not looked into, so that whoever walks for the same jobs finds the same.
pub(super) fn walk(top: &Path, jobs: Reader, found: &mut Vec<Found>) {
    let Ok(about) = fs::symlink_metadata(top) else {
        return;
    };
    let kind = about.file_type();
    let is_read = (kind.is_file() || kind.is_dir()) && jobs.reads(top, &about);
    let what = if kind.is_file() {
        if is_read {
            What::File(Stamp::of(&about))
        } else {
            What::Closed(about.size())
        }
    } else if kind.is_symlink() {
        What::Link(fs::read_link(top).unwrap_or_default())
    } else if kind.is_dir() {
        What::Directory
    } else {
        What::Other
    };
    let is_open = kind.is_dir() && is_read;
    found.push(Found {
        path: top.to_owned(),
        mode: about.mode() & PERMISSIONS,
        what,
    });
    if !is_open {
        return;
    }
    let Ok(entries) = fs::read_dir(top) else { return };
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.sort_by(|one, other| bytes(one).cmp(bytes(other)));
    for name in names {
        walk(&top.join(name), jobs, found);
    }
}

fn bytes(text: &OsStr) -> &[u8] {
    text.as_bytes()
}

impl Found {
    /// Whether a program is told when this file was changed: that of a Python source is named by its compiled form.
    pub(super) fn tells_its_time(&self) -> bool {
        self.path.as_os_str().as_bytes().ends_with(b".py")
    }
}

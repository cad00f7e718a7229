//! The `/usr` of a job of a class with a tracer: the parts that its class id covers, and nothing else. Owns the empty
//! directories and links that wait in the store, and the mounts over them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, mount_bind, move_mount, open_tree};

use super::template::STORE;
use crate::system::Part;

/// What every system has there.
const USR: &str = "/usr";

/// The directories to mount, by their paths in `/usr`.
#[derive(Debug)]
pub(super) struct UsrView {
    trees: Vec<PathBuf>,
}

/// Makes what is mounted over and what links to it, in a store that can still be written.
pub(super) fn write_store(store: &Path, parts: &[Part]) -> io::Result<UsrView> {
    let usr = store.join("usr");
    fs::create_dir_all(&usr)?;
    let mut trees = Vec::new();
    for part in parts {
        match part {
            Part::Tree(path) => {
                fs::create_dir_all(usr.join(path))?;
                trees.push(path.clone());
            }
            Part::Link(path, target) => {
                let link = usr.join(path);
                link.parent().map_or(Ok(()), fs::create_dir_all)?;
                symlink(target, link)?;
            }
        }
    }
    Ok(UsrView { trees })
}

impl UsrView {
    /// Covers `/usr` in this process's mount namespace. What is mounted is read-only as it was.
    pub(super) fn apply(&self) -> io::Result<()> {
        let whole = open_dir(USR)?;
        mount_bind(format!("{STORE}/usr"), USR)?;
        let view = open_dir(USR)?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        for tree in &self.trees {
            let clone = open_tree(whole.as_fd(), tree, flags)?;
            move_mount(
                clone.as_fd(),
                "",
                view.as_fd(),
                tree,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )?;
        }
        Ok(())
    }
}

fn open_dir(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

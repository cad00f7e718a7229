//! Files of the system that are known by their names: what a job is told of one must not depend on how a machine keeps it.
//!
//! A node's copy of the system may have made hard links of equal files, or broken them. A file with one name has a number
//! of its own anyway; one with several has a number for each.

use std::collections::BTreeMap;

use super::inodes::Inode;
use super::paths;
use super::stat::{self, Place, Real};
use crate::supervisor::det::{Task, World};

/// What the name of a file of the system says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Named {
    /// Its own time of change, in seconds, is told: that of a Python source, which its compiled form names.
    pub(in super::super) keeps_time: bool,
    /// What it is numbered by, if it has several names.
    pub(in super::super) key: Option<Inode>,
}

impl Real {
    /// Whether it is a regular file with several names.
    pub(super) const fn has_names(&self) -> bool {
        self.links > 1 && self.mode & libc::S_IFMT == libc::S_IFREG
    }
}

impl World {
    /// What this path, which no link is part of, says of a file of the system.
    pub(super) fn named(&mut self, real: &Real, path: &[u8]) -> Named {
        Named {
            keeps_time: stat::keeps_time(path),
            key: real.has_names().then(|| self.virt.inodes.key_of(path)),
        }
    }

    /// The files of the system that have several names, of those in a text of mappings.
    pub(super) fn named_in(&mut self, task: &Task, maps: &str) -> BTreeMap<String, Inode> {
        let mut named = BTreeMap::new();
        for line in maps.lines() {
            let Some((_, name)) = line.split_once('/') else {
                continue;
            };
            let name = format!("/{name}");
            if named.contains_key(&name) {
                continue;
            }
            // what cannot be found by its name is told by its number
            let found =
                paths::open(self, task, name.as_bytes(), false).and_then(|file| self.look_at(task, &file));
            if let Ok((real, Place::System)) = found
                && real.has_names()
            {
                let key = self.virt.inodes.key_of(name.as_bytes());
                named.insert(name, key);
            }
        }
        named
    }
}

//! Who the jobs are: the user ids inside and outside of their namespaces.

use std::fs;
use std::io;

use rustix::thread::CapabilitySet;

use crate::sys;

/// User and group id of every job, as it sees itself.
pub(super) const INSIDE: u32 = 1000;
/// First host id for jobs where the service is root: far above any user, and each job gets its own of 65,536.
const FIRST_OUTSIDE: u32 = 2_000_000_000;
/// What stands for nobody, where such high ids are not mapped.
const NOBODY: u32 = 65_534;

/// How jobs get their user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// The launcher is root: each job is a user of its own on the host.
    Privileged {
        /// Whether ids above 2,000,000,000 can be used.
        high_ids: bool,
    },
    /// The launcher is root in a user namespace that maps one id only: jobs are the service's own user on the host.
    Unprivileged,
}

impl Identity {
    /// Finds out, and enters a user namespace where it takes one.
    pub(super) fn establish() -> io::Result<Self> {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let needed =
            CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
        let held = rustix::thread::capabilities(None)?.effective;
        if uid == 0 && held.contains(needed) {
            let map = fs::read_to_string("/proc/self/uid_map")?;
            return Ok(Self::Privileged {
                high_ids: maps_high_ids(&map),
            });
        }
        sys::unshare(libc::CLONE_NEWUSER)?;
        map_ids(0, uid, gid)?;
        Ok(Self::Unprivileged)
    }

    /// The id that job number `job` has outside of its own user namespace.
    pub(super) const fn outside(self, job: u32) -> u32 {
        match self {
            Self::Privileged { high_ids: true } => FIRST_OUTSIDE + job % 65_536,
            Self::Privileged { high_ids: false } => NOBODY,
            Self::Unprivileged => 0,
        }
    }
}

/// Maps this process's own id, alone, to `inside` in the user namespace that it has just made.
pub(super) fn map_ids(inside: u32, uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inside} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{inside} {gid} 1"))
}

/// Whether the lines of a uid_map cover the ids that jobs get.
fn maps_high_ids(map: &str) -> bool {
    map.lines().any(|line| {
        let mut fields = line
            .split_whitespace()
            .map(|field| field.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (fields.next(), fields.next(), fields.next());
        let (first, count) = (first.unwrap_or(0), count.unwrap_or(0));
        first <= u64::from(FIRST_OUTSIDE) && u64::from(FIRST_OUTSIDE) + 65_536 <= first + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_ids_need_a_wide_map() {
        assert!(maps_high_ids("         0          0 4294967295\n"));
        assert!(!maps_high_ids("         0     100000      65536\n"));
        assert!(!maps_high_ids(""));
    }

    #[test]
    fn every_privileged_job_is_another_user() {
        let identity = Identity::Privileged { high_ids: true };
        assert_ne!(identity.outside(1), identity.outside(2));
        assert_ne!(identity.outside(0), 0);
        assert_eq!(Identity::Privileged { high_ids: false }.outside(7), 65_534);
    }
}

//! Who the jobs are: the user ids inside and outside of their namespaces.
//!
//! The kernel counts some things for each user of the host (descriptors on their way in messages, pages of pipes), so that
//! jobs with one user would use up each other's. Owns which ids a launcher gives to its jobs: a range that no other
//! launcher of the host has, as long as one of its jobs lives.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::thread::CapabilitySet;

use crate::sys;

/// User and group id of every job, as it sees itself.
pub(super) const INSIDE: u32 = 1000;
/// First host id for jobs where the service is root: far above any user.
const FIRST_OUTSIDE: u32 = 2_000_000_000;
/// Host ids that a launcher gives to its jobs.
pub(super) const RANGE: u32 = 256;
/// How many launchers have a range of their own.
const RANGES: u32 = 256;
/// What stands for nobody, where such high ids are not mapped.
const NOBODY: u32 = 65_534;

/// How jobs get their user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// The launcher is root: each job is a user of its own on the host.
    Privileged {
        /// First of the launcher's [`RANGE`] of ids. `None` where ids above 2,000,000,000 cannot be used.
        first: Option<u32>,
    },
    /// The launcher is root in a user namespace that maps one id only: jobs are the service's own user on the host.
    Unprivileged,
}

impl Identity {
    /// Finds out, and enters a user namespace where it takes one. The launcher's ids are its own for as long as a copy of
    /// the socket is open.
    pub(super) fn establish() -> io::Result<(Self, Option<OwnedFd>)> {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let needed =
            CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
        let held = rustix::thread::capabilities(None)?.effective;
        if uid == 0 && held.contains(needed) {
            let map = fs::read_to_string("/proc/self/uid_map")?;
            if !maps_high_ids(&map) {
                return Ok((Self::Privileged { first: None }, None));
            }
            let (first, claim) = claim_range(random());
            return Ok((Self::Privileged { first: Some(first) }, claim));
        }
        sys::unshare(libc::CLONE_NEWUSER)?;
        map_ids(0, uid, gid)?;
        Ok((Self::Unprivileged, None))
    }

    /// The id that job number `job` has outside of its own user namespace. Jobs whose numbers differ by a multiple of
    /// [`RANGE`] have the same.
    pub(super) const fn outside(self, job: u32) -> u32 {
        match self {
            Self::Privileged { first: Some(first) } => first + job % RANGE,
            Self::Privileged { first: None } => NOBODY,
            Self::Unprivileged => 0,
        }
    }

    /// Whether a job's user on the host may be that of others as well.
    pub(super) const fn shares_users(self) -> bool {
        !matches!(self, Self::Privileged { first: Some(_) })
    }
}

/// The first id of a range that no other launcher has, and what keeps it so. Looks from `start` on; where every name is
/// taken, by whomever, it is that one all the same.
///
/// The claim is a socket's name, which goes with the last process that has it open, and leaves nothing behind. Containers
/// with networks of their own have names of their own: there it is likely only that ranges differ, by where each starts.
fn claim_range(start: u32) -> (u32, Option<OwnedFd>) {
    let first = |number: u32| FIRST_OUTSIDE + number % RANGES * RANGE;
    let found = (0..RANGES).find_map(|step| {
        let first = first(start.wrapping_add(step));
        Some((first, claim(first).ok()?))
    });
    match found {
        Some((first, socket)) => (first, Some(socket)),
        None => (first(start), None),
    }
}

fn claim(first: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let name = format!("sandrun-pool/users/{first}");
    bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok(socket)
}

/// Some number that another launcher is unlikely to have.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => std::process::id(),
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
        first <= u64::from(FIRST_OUTSIDE) && u64::from(FIRST_OUTSIDE + RANGES * RANGE) <= first + count
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
        let identity = Identity::Privileged {
            first: Some(FIRST_OUTSIDE),
        };
        assert!(!identity.shares_users());
        assert_ne!(identity.outside(1), identity.outside(2));
        assert_ne!(identity.outside(0), 0);
        let nobody = Identity::Privileged { first: None };
        assert!(nobody.shares_users() && nobody.outside(7) == 65_534);
    }

    #[test]
    fn launchers_have_ranges_of_their_own() {
        let start = random();
        let (one, claim) = claim_range(start);
        let (two, _second) = claim_range(start);
        assert!(claim.is_some() && one.abs_diff(two) >= RANGE, "{one} {two}");
        assert!((FIRST_OUTSIDE..=FIRST_OUTSIDE + (RANGES - 1) * RANGE).contains(&two));
        drop(claim);
        assert_eq!(claim_range(start).0, one);
    }
}

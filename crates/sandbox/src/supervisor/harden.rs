//! What the job's own process gives up before the program starts.
//!
//! Owns user namespace, capabilities, resource limits and Landlock. Each step that fails stops the job.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::identity::{INSIDE, Identity, map_ids};
use crate::environment::IMAGE;
use crate::{Limits, MemoryControl, sys};

/// Highest capability number that the kernel may have.
const MAX_CAPABILITIES: u32 = 64;
/// Size of a thread's stack; the kernel lets arguments take a quarter of it.
const STACK_BYTES: u64 = 8 << 20;

/// Becomes user 1000 of a new user namespace, which owns nothing.
pub(super) fn enter_user_namespace(identity: Identity, outside: u32) -> io::Result<()> {
    if let Identity::Privileged { .. } = identity {
        // With capabilities kept, so that a system that forbids user namespaces to others allows it.
        rustix::thread::set_keep_capabilities(true)?;
        sys::become_user(outside, outside)?;
        let mut sets = rustix::thread::capabilities(None)?;
        sets.effective = sets.permitted;
        rustix::thread::set_capabilities(None, sets)?;
    }
    // Files in /proc/self belong to root otherwise, and the map could not be written.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    sys::unshare(libc::CLONE_NEWUSER)?;
    map_ids(INSIDE, outside, outside)
}

/// Gives up every capability, in every set and for ever.
pub(super) fn drop_capabilities() -> io::Result<()> {
    for number in 0..MAX_CAPABILITIES {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that the kernel does not have.
            Err(rustix::io::Errno::INVAL) if number > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    set_no_capabilities()
}

/// Empties this process's capability sets.
pub(super) fn set_no_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}

/// Sets the resource limits. They hold for each process; the number of processes for the job's user, which is the
/// job's alone since its user namespace is.
pub(super) fn set_rlimits(limits: &Limits, memory: MemoryControl, file_bytes: u64) -> io::Result<()> {
    let data = match memory {
        MemoryControl::CgroupV1 | MemoryControl::CgroupV2 => libc::RLIM_INFINITY,
        // Not RLIMIT_AS: node and WebAssembly reserve far more addresses than they use.
        MemoryControl::Rlimit => limits.memory_bytes,
    };
    let cpu_seconds = limits.cpu.as_secs().saturating_add(2);
    for (resource, value) in [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_CPU, cpu_seconds),
        (libc::RLIMIT_DATA, data),
        (libc::RLIMIT_FSIZE, file_bytes),
        (libc::RLIMIT_MEMLOCK, 64 * 1024),
        (libc::RLIMIT_MSGQUEUE, 819_200),
        (libc::RLIMIT_NOFILE, u64::from(limits.open_files)),
        (libc::RLIMIT_NPROC, u64::from(limits.processes)),
        (libc::RLIMIT_RTPRIO, 0),
        (libc::RLIMIT_NICE, 0),
        (libc::RLIMIT_SIGPENDING, 1024),
        (libc::RLIMIT_STACK, STACK_BYTES),
    ] {
        // A hard limit can only be lowered.
        let hard = sys::get_hard_rlimit(resource)?;
        sys::set_rlimit(resource, value.min(hard))?;
    }
    Ok(())
}

/// Puts up Landlock, as much of it as the kernel has. `false` if it has none.
pub(super) fn restrict_paths(dirs: &[PathBuf]) -> Result<bool, String> {
    const KNOWN: ABI = ABI::V6;
    let read = AccessFs::from_read(KNOWN);
    let look = read & !BitFlags::from(AccessFs::Execute);
    let all = AccessFs::from_all(KNOWN);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let rules: [(&str, BitFlags<AccessFs>); 20] = [
        (IMAGE, read),
        ("/usr", read),
        ("/bin", read),
        ("/sbin", read),
        ("/lib", read),
        ("/lib32", read),
        ("/lib64", read),
        ("/libx32", read),
        ("/etc", look),
        ("/run", look),
        ("/proc", look | AccessFs::WriteFile),
        ("/dev", AccessFs::ReadDir.into()),
        ("/dev/null", device),
        ("/dev/zero", device),
        ("/dev/full", device),
        ("/dev/random", device),
        ("/dev/urandom", device),
        ("/work", all),
        ("/tmp", all),
        ("/dev/shm", all),
    ];
    let say = |error: landlock::RulesetError| error.to_string();
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(KNOWN)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .map_err(say)?;
    let rules = rules.iter().map(|(path, access)| (Path::new(path), *access));
    for (path, access) in rules.chain(dirs.iter().map(|dir| (dir.as_path(), read))) {
        // What this machine does not have needs no rule.
        let Ok(fd) = PathFd::new(path) else { continue };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(say)?;
    }
    let status = ruleset.restrict_self().map_err(say)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

use std::collections::BTreeSet;

use super::super::bpf::tests::run;
use super::*;
use det_calls::{HOLE, NEWEST};

fn made(call: libc::c_long, argument: u32) -> u32 {
    run(&traced(), ARCH, number(call), argument)
}

fn fails(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | u32::from(errno(error))
}

#[test]
fn every_call_of_the_class_has_one_decision() {
    let mut seen = BTreeSet::new();
    for call in WAYS.iter().flat_map(|(_, calls)| calls.iter()) {
        assert!(seen.insert(number(*call)), "call {call} twice");
    }
    let expected: BTreeSet<u32> = (0..=NEWEST).filter(|call| !HOLE.contains(call)).collect();
    let missing: Vec<_> = expected.difference(&seen).collect();
    let unknown: Vec<_> = seen.difference(&expected).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{missing:?} {unknown:?}"
    );
}

#[test]
fn what_is_said_to_stop_has_a_handler_and_nothing_else_has() {
    let handled: BTreeSet<u32> = det::rules().map(|rule| number(rule.0)).collect();
    let seen: BTreeSet<u32> = WAYS
        .iter()
        .filter(|(way, _)| match way {
            Way::Seen => true,
            Way::Among(_, _, traced, _) => !traced.is_empty(),
            Way::Made | Way::Always(_) => false,
        })
        .flat_map(|(_, calls)| calls.iter().copied().map(number))
        .collect();
    let differ: Vec<_> = handled.symmetric_difference(&seen).collect();
    assert!(differ.is_empty(), "{differ:?}");
}

#[test]
fn class_det_allows_no_call_that_native_refuses() {
    let native = verdicts(SharedMemory::Bounded);
    for (way, calls) in WAYS {
        if matches!(way, Way::Always(_)) {
            continue;
        }
        for call in *calls {
            let known = native.iter().find(|(known, _)| *known == number(*call));
            assert!(
                known.is_some_and(|(_, verdict)| !matches!(verdict, Verdict::Errno(_))),
                "call {call}"
            );
        }
    }
}

#[test]
fn the_filter_does_what_the_table_says() {
    assert_eq!(made(libc::SYS_getpid, 0), libc::SECCOMP_RET_ALLOW);
    assert_eq!(made(libc::SYS_openat, 0), libc::SECCOMP_RET_TRACE);
    assert_eq!(made(libc::SYS_getgroups, 0), fails(0));
    assert_eq!(made(libc::SYS_ioctl, 0x541b), libc::SECCOMP_RET_TRACE);
    assert_eq!(made(libc::SYS_ioctl, 0x5401), libc::SECCOMP_RET_ALLOW);
    assert_eq!(made(libc::SYS_ioctl, 0x5451), libc::SECCOMP_RET_ALLOW);
    // TIOCSTI, SIOCOUTQ, FICLONE
    for request in [0x5412, 0x5411, 0x4004_9409] {
        assert_eq!(made(libc::SYS_ioctl, request), fails(libc::ENOTTY));
    }
    // MADV_DONTNEED, MADV_FREE
    assert_eq!(made(libc::SYS_madvise, 4), libc::SECCOMP_RET_ALLOW);
    assert_eq!(made(libc::SYS_madvise, 8), fails(libc::EINVAL));
    assert_eq!(made(libc::SYS_clone, 17), libc::SECCOMP_RET_TRACE);
    assert_eq!(made(libc::SYS_clone, 0x1000_0011), fails(libc::EPERM));
    assert_eq!(made(libc::SYS_pidfd_open, 0o200), fails(libc::EINVAL));
    for call in [NEWEST + 1, 1000, 0x4000_0000, u32::MAX, *HOLE.start()] {
        assert_eq!(run(&traced(), ARCH, call, 0), fails(libc::ENOSYS), "call {call}");
    }
    // the 32-bit table's
    assert_eq!(run(&traced(), 0x4000_0003, 20, 0), fails(libc::EPERM));
}

#[test]
fn quick_calls_go_to_the_listener_unless_they_are_marked() {
    const MARK: u32 = 0x1234_1000;
    let asked = |call: libc::c_long, argument: u32| run(&quick(MARK), ARCH, number(call), argument);
    for call in [
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_openat,
        libc::SYS_newfstatat,
    ] {
        assert_eq!(asked(call, 0x1000), libc::SECCOMP_RET_USER_NOTIF, "{call}");
        assert_eq!(asked(call, MARK), libc::SECCOMP_RET_ALLOW, "{call}");
        assert_eq!(made(call, 0), libc::SECCOMP_RET_TRACE, "{call}");
    }
    assert_eq!(asked(libc::SYS_newfstatat, 0x100), libc::SECCOMP_RET_ALLOW);
    assert_eq!(asked(libc::SYS_openat, 0), libc::SECCOMP_RET_USER_NOTIF);
    assert_eq!(asked(libc::SYS_read, 0x1000), libc::SECCOMP_RET_ALLOW);
}

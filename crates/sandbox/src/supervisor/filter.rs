//! Which system calls a job may make.
//!
//! Owns the list. What is not on it fails with EPERM, and what the kernel may have but the list does not know fails
//! with ENOSYS, so that programs fall back instead of dying. Nothing is ever killed for a call. Never installs itself.

pub(super) mod det_calls;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::bpf::{Verdict, assemble, errno};
use super::det::{self, When};
use crate::sys::Instruction;
use det_calls::{WAYS, Way};

/// Architecture in `seccomp_data`.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// The newest call that this list was made with knowledge of (`mseal`, Linux 6.10).
const NEWEST: u32 = 462;

/// Namespaces that `clone` and `unshare` could make.
const NAMESPACES: u32 = 0x7e02_0000;

/// `CLONE_UNTRACED`: a task that no tracer sees.
const UNTRACED: u32 = 0x0080_0000;

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Files and directories: what they reach is up to the mount namespace and Landlock.
const FILES: &[libc::c_long] = calls![
    SYS_read SYS_write SYS_close SYS_close_range SYS_fstat SYS_lseek SYS_pread64 SYS_pwrite64 SYS_readv
    SYS_writev SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2 SYS_openat SYS_openat2 SYS_newfstatat SYS_statx
    SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_getdents64 SYS_mkdirat SYS_unlinkat SYS_renameat
    SYS_renameat2 SYS_linkat SYS_symlinkat SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat
    SYS_utimensat SYS_truncate SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_sync_file_range
    SYS_syncfs SYS_flock SYS_fcntl SYS_dup SYS_dup3 SYS_pipe2 SYS_splice SYS_tee SYS_vmsplice SYS_sendfile
    SYS_copy_file_range SYS_chdir SYS_fchdir SYS_getcwd SYS_umask SYS_statfs SYS_fstatfs SYS_fadvise64
    SYS_readahead SYS_mknodat SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr
    SYS_flistxattr SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr
    SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
];

/// Processes, threads and signals, which a PID namespace confines.
const PROCESSES: &[libc::c_long] = calls![
    SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_kill SYS_tkill SYS_tgkill
    SYS_getpid SYS_getppid SYS_gettid SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigqueueinfo
    SYS_rt_tgsigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_signalfd4 SYS_set_tid_address
    SYS_set_robust_list SYS_get_robust_list SYS_futex SYS_futex_waitv SYS_restart_syscall SYS_pidfd_open
    SYS_pidfd_send_signal SYS_prctl SYS_getpriority SYS_setpriority SYS_sched_yield SYS_sched_getaffinity
    SYS_sched_setaffinity SYS_sched_getparam SYS_sched_setparam SYS_sched_getscheduler SYS_sched_setscheduler
    SYS_sched_getattr SYS_sched_setattr SYS_sched_get_priority_max SYS_sched_get_priority_min
    SYS_sched_rr_get_interval SYS_getrusage SYS_times SYS_getrlimit SYS_setrlimit SYS_membarrier SYS_getcpu
    SYS_ioprio_get SYS_ioprio_set SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_getresuid
    SYS_getresgid SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid
    SYS_setfsgid SYS_setgroups SYS_capget SYS_capset SYS_seccomp SYS_landlock_create_ruleset
    SYS_landlock_add_rule SYS_landlock_restrict_self
];

/// Memory.
const MEMORY: &[libc::c_long] = calls![
    SYS_brk SYS_mmap SYS_munmap SYS_mprotect SYS_mremap SYS_madvise SYS_msync SYS_mincore SYS_mlock SYS_mlock2
    SYS_munlock SYS_mlockall SYS_munlockall SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_get_mempolicy
    SYS_set_mempolicy SYS_mbind SYS_mseal
];

/// Memory that no mapping holds: it escapes every limit but a memory controller's.
const SHARED_MEMORY: &[libc::c_long] = calls![
    SYS_memfd_create SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_semget SYS_msgget
];

/// Time, events, pipes between processes, and what tells about the system.
const REST: &[libc::c_long] = calls![
    SYS_nanosleep SYS_clock_nanosleep SYS_clock_gettime SYS_clock_getres SYS_gettimeofday SYS_timer_create
    SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create
    SYS_timerfd_settime SYS_timerfd_gettime SYS_getitimer SYS_setitimer SYS_eventfd2 SYS_epoll_create1
    SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_uname SYS_sysinfo SYS_getrandom
    SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_getsockname SYS_getpeername SYS_sendto
    SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown SYS_setsockopt SYS_getsockopt
    SYS_semop SYS_semctl SYS_semtimedop SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open
    SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
];

/// Old forms of calls above, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = calls![
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_readlink SYS_mkdir SYS_rmdir SYS_unlink SYS_rename
    SYS_link SYS_symlink SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes SYS_futimesat SYS_getdents
    SYS_dup2 SYS_pipe SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_signalfd
    SYS_inotify_init SYS_fork SYS_vfork SYS_getpgrp SYS_alarm SYS_pause SYS_time SYS_arch_prctl SYS_mknod
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

/// Calls that libraries try first and do without where the kernel has none.
const ABSENT: &[libc::c_long] =
    calls![SYS_clone3 SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_rseq];

/// Whether memory that is mapped nowhere is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SharedMemory {
    /// By a memory controller: `memfd_create` and System V shared memory work.
    Bounded,
    /// By nothing: they do not.
    Unbounded,
}

/// The program of the filter.
pub(super) fn program(shared_memory: SharedMemory) -> Vec<Instruction> {
    assembled(&verdicts(shared_memory))
}

/// The same for class `det`, which has its own table: two machines of the class have to answer alike, whatever kernel
/// they have and whatever bounds memory there.
pub(super) fn traced() -> Vec<Instruction> {
    assemble(
        ARCH,
        errno(libc::EPERM),
        &traced_verdicts(),
        det_calls::NEWEST,
        errno(libc::ENOSYS),
    )
}

fn traced_verdicts() -> Vec<(u32, Verdict)> {
    let conditions: BTreeMap<u32, Verdict> = conditional()
        .chain(narrowed())
        .map(|(call, verdict)| (number(call), verdict))
        .collect();
    let seen = tracing(|when| when != When::Blocking);
    let mut rules = Vec::new();
    for (way, calls) in WAYS {
        for call in calls.iter().copied().map(number) {
            let made = conditions.get(&call).copied().unwrap_or(Verdict::Allow);
            let verdict = match way {
                Way::Made => made,
                Way::Among(argument, values, traced, otherwise) => Verdict::Among {
                    argument: *argument,
                    values,
                    traced,
                    otherwise: errno(*otherwise),
                },
                // one that stops only in some processes is made in the others
                Way::Seen => seen.get(&call).map_or(made, |when| with_trace(made, *when)),
                Way::Always(result) => Verdict::Errno(errno(*result)),
            };
            rules.push((call, verdict));
        }
    }
    rules
}

/// Flags that only newer kernels know.
fn narrowed() -> impl Iterator<Item = (libc::c_long, Verdict)> {
    let without = |argument: u8, known: i32| Verdict::If {
        argument,
        mask: !known.unsigned_abs(),
        equals: 0,
        otherwise: errno(libc::EINVAL),
        traced: false,
    };
    [
        (libc::SYS_pidfd_open, without(1, libc::O_NONBLOCK)),
        (libc::SYS_pidfd_send_signal, without(3, 0)),
        (
            libc::SYS_execveat,
            without(4, libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW),
        ),
    ]
    .into_iter()
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX - 1)
}

/// A second filter, for processes with files that can block: nothing but more calls that stop for the tracer.
pub(super) fn blocking() -> Vec<Instruction> {
    let calls = tracing(|when| when == When::Blocking).into_iter();
    let rules: Vec<_> = calls.map(|(call, _)| (call, Verdict::Trace)).collect();
    super::bpf::overlay(&rules)
}

/// A third one, for processes that make many of the calls that are quick to answer: those go to its listener, which comes
/// before a tracer, unless their unused last argument holds `mark`.
pub(super) fn quick(mark: u32) -> Vec<Instruction> {
    let rules: Vec<_> = det::QUICK
        .iter()
        .map(|(call, only)| (number(*call), Verdict::Notify { only: *only, mark }))
        .collect();
    super::bpf::overlay(&rules)
}

/// The tracer's table by call, each once.
fn tracing(wanted: impl Fn(When) -> bool) -> BTreeMap<u32, When> {
    let mut calls = BTreeMap::new();
    for rule in det::rules().filter(|rule| wanted(rule.1)) {
        let number = u32::try_from(rule.0).unwrap_or(u32::MAX);
        let known = calls.entry(number).or_insert(rule.1);
        if *known != rule.1 {
            *known = When::Always;
        }
    }
    calls
}

fn with_trace(verdict: Verdict, when: When) -> Verdict {
    match verdict {
        Verdict::Allow | Verdict::Trace | Verdict::TraceIf { .. } => match when {
            When::Always | When::Blocking => Verdict::Trace,
            When::If(argument, mask, equals) => Verdict::TraceIf {
                argument,
                mask,
                equals,
                unless: false,
            },
            When::Unless(argument, mask, equals) => Verdict::TraceIf {
                argument,
                mask,
                equals,
                unless: true,
            },
        },
        Verdict::Errno(_) | Verdict::Among { .. } | Verdict::Notify { .. } => verdict,
        Verdict::If {
            argument,
            mask,
            equals,
            otherwise,
            ..
        } => Verdict::If {
            argument,
            mask,
            equals,
            otherwise,
            traced: true,
        },
        Verdict::Unless {
            argument,
            equals,
            otherwise,
            ..
        } => Verdict::Unless {
            argument,
            equals,
            otherwise,
            traced: true,
        },
    }
}

fn assembled(rules: &[(u32, Verdict)]) -> Vec<Instruction> {
    assemble(ARCH, errno(libc::EPERM), rules, NEWEST, errno(libc::EPERM))
}

fn verdicts(shared_memory: SharedMemory) -> Vec<(u32, Verdict)> {
    let mut rules = Vec::new();
    for list in [FILES, PROCESSES, MEMORY, REST, OLD] {
        rules.extend(list.iter().map(|call| (number(*call), Verdict::Allow)));
    }
    let shared = match shared_memory {
        SharedMemory::Bounded => Verdict::Allow,
        SharedMemory::Unbounded => Verdict::Errno(errno(libc::ENOSYS)),
    };
    rules.extend(SHARED_MEMORY.iter().map(|call| (number(*call), shared)));
    rules.extend(
        ABSENT
            .iter()
            .map(|call| (number(*call), Verdict::Errno(errno(libc::ENOSYS)))),
    );
    rules.extend(conditional().map(|(call, verdict)| (number(call), verdict)));
    rules
}

/// Calls that depend on an argument.
fn conditional() -> impl Iterator<Item = (libc::c_long, Verdict)> {
    // AF_UNIX and no other family: not the internet, not netlink, not packets.
    let local = Verdict::If {
        argument: 0,
        mask: u32::MAX,
        equals: 1,
        otherwise: errno(libc::EAFNOSUPPORT),
        traced: false,
    };
    // TIOCSTI types into a terminal; terminals are none here, but the call is cheap to refuse.
    let ioctl = Verdict::Unless {
        argument: 1,
        equals: 0x5412,
        otherwise: errno(libc::EPERM),
        traced: false,
    };
    let clone = Verdict::If {
        argument: 0,
        mask: NAMESPACES | UNTRACED,
        equals: 0,
        otherwise: errno(libc::EPERM),
        traced: false,
    };
    let own = Verdict::If {
        argument: 0,
        mask: u32::MAX,
        equals: 0,
        otherwise: errno(libc::EPERM),
        traced: false,
    };
    // Asking which personality this is, never changing it.
    let ask = Verdict::If {
        argument: 0,
        mask: u32::MAX,
        equals: u32::MAX,
        otherwise: errno(libc::EPERM),
        traced: false,
    };
    [
        (libc::SYS_socket, local),
        (libc::SYS_socketpair, local),
        (libc::SYS_ioctl, ioctl),
        (libc::SYS_clone, clone),
        (libc::SYS_prlimit64, own),
        (libc::SYS_personality, ask),
    ]
    .into_iter()
}

//! What class `det` does with each system call of x86-64: every number has its line.
//!
//! Owns the decision. A call is made by the kernel only if what it gives and does is the same on every machine of the
//! class, whatever its kernel and its file systems; one whose number is not here does not exist (ENOSYS), as on an older kernel.

use libc::c_long;

/// The newest call that a decision was taken for (`file_setattr`, Linux 6.17).
pub(super) const NEWEST: u32 = 469;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The kernel makes it at full speed.
    Made,
    /// The kernel makes it if the low half of this argument is one of the first, it stops for the tracer if that is one
    /// of the second, else it fails with this error.
    Among(u8, &'static [u32], &'static [u32], i32),
    /// It stops for the tracer, whose own table says who decides about it.
    Seen,
    /// It always gives this: zero, or a failure with this error.
    Always(i32),
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Requests that answer alike everywhere: TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONCLEX, FIOCLEX. What a file system, a
/// socket's queue or a clock would answer is not among them.
const IOCTL: &[u32] = &[0x5401, 0x540f, 0x5413, 0x5450, 0x5451];
/// Those that answer alike but for the pipes that the job's output goes out by.
pub(in crate::supervisor) const FIONREAD: u32 = 0x541b;
pub(in crate::supervisor) const FIONBIO: u32 = 0x5421;

/// Advice that every kernel takes: NORMAL to DONTNEED, REMOVE, (DO|DONT)FORK, (NO)HUGEPAGE, (DO|DONT)DUMP,
/// (WIPE|KEEP)ONFORK. After FREE a page would hold what the machine's memory leaves of it.
const ADVICE: &[u32] = &[0, 1, 2, 3, 4, 9, 10, 11, 14, 15, 16, 17, 18, 19];

/// Calls without a name in the library: `uretprobe` and `uprobe`, which only the kernel's own code makes.
const PROBES: &[c_long] = &[335, 336];
/// `create_module`, `get_kernel_syms`, `query_module`: gone for long.
const GONE: &[c_long] = &[174, 177, 178];
/// `io_pgetevents`, `cachestat`, `map_shadow_stack`, `futex_wake`, `futex_wait`, `futex_requeue`, `statmount`,
/// `listmount`, `lsm_get_self_attr`, `lsm_set_self_attr`, `lsm_list_modules`.
const NEW: &[c_long] = &[333, 451, 453, 454, 455, 456, 457, 458, 459, 460, 461];
/// `setxattrat`, `getxattrat`, `listxattrat`, `removexattrat`, `open_tree_attr`, `file_getattr`, `file_setattr`.
const NEWER: &[c_long] = &[463, 464, 465, 466, 467, 468, 469];

/// Every call, once.
pub(super) const WAYS: &[(Way, &[c_long])] = &[
    // files: contents and places, which are the job's own
    (
        Way::Made,
        calls![
            SYS_pwrite64 SYS_pwritev SYS_dup
            SYS_getcwd SYS_umask SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_sync_file_range
            SYS_syncfs SYS_fadvise64 SYS_fchown
        ],
    ),
    // processes: their numbers are those of the job's own namespace
    (
        Way::Made,
        calls![
            SYS_getpid SYS_getppid SYS_gettid SYS_getpgid SYS_getpgrp SYS_getsid
            SYS_setpgid SYS_setsid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid
            SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid
            SYS_setfsgid SYS_setgroups SYS_capget SYS_capset SYS_personality SYS_get_robust_list SYS_pidfd_open
            SYS_sched_getparam SYS_sched_setparam SYS_sched_setscheduler
            SYS_sched_get_priority_max SYS_sched_get_priority_min
        ],
    ),
    // signals: a task's own handlers and masks
    (
        Way::Made,
        calls![
            SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_sigaltstack
            SYS_restart_syscall
        ],
    ),
    // memory
    (
        Way::Made,
        calls![
            SYS_brk SYS_munmap SYS_mprotect SYS_mremap SYS_msync SYS_mlock SYS_mlock2 SYS_munlock SYS_mlockall
            SYS_munlockall SYS_pkey_free SYS_pkey_mprotect
        ],
    ),
    (Way::Among(2, ADVICE, &[], libc::EINVAL), calls![SYS_madvise]),
    // sockets between the job's processes, and sets of files
    (
        Way::Made,
        calls![
            SYS_listen SYS_getsockname SYS_getpeername SYS_shutdown SYS_epoll_create SYS_epoll_create1
        ],
    ),
    (
        Way::Among(1, IOCTL, &[FIONREAD, FIONBIO], libc::ENOTTY),
        calls![SYS_ioctl],
    ),
    // the tracer's
    (
        Way::Seen,
        calls![
            SYS_read SYS_readv SYS_pread64 SYS_preadv SYS_write SYS_writev SYS_open SYS_openat SYS_openat2
            SYS_creat SYS_close SYS_close_range SYS_dup2 SYS_dup3 SYS_fcntl SYS_flock SYS_sendfile SYS_splice
            SYS_tee SYS_vmsplice SYS_stat SYS_lstat SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs
            SYS_lseek SYS_getdents SYS_getdents64 SYS_readlink SYS_readlinkat SYS_symlink SYS_symlinkat SYS_link SYS_linkat
            SYS_unlink SYS_unlinkat SYS_rename SYS_renameat SYS_renameat2 SYS_mkdir SYS_mkdirat SYS_rmdir
            SYS_mknod SYS_mknodat SYS_chmod SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_chown SYS_lchown SYS_fchownat SYS_truncate SYS_utime
            SYS_utimes SYS_futimesat SYS_utimensat SYS_chdir SYS_fchdir SYS_access SYS_faccessat SYS_faccessat2
        ],
    ),
    (
        Way::Seen,
        calls![
            SYS_clone SYS_fork SYS_vfork SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_set_tid_address
            SYS_set_robust_list SYS_futex SYS_sched_yield SYS_kill SYS_tkill SYS_tgkill SYS_rt_sigqueueinfo
            SYS_rt_tgsigqueueinfo SYS_pidfd_send_signal SYS_pause SYS_rt_sigsuspend SYS_rt_sigtimedwait
            SYS_prctl SYS_arch_prctl SYS_seccomp SYS_getpriority SYS_setpriority SYS_sched_getaffinity
            SYS_sched_setaffinity SYS_getrusage SYS_times SYS_getrlimit SYS_setrlimit SYS_prlimit64 SYS_getcpu
            SYS_uname SYS_sysinfo SYS_getrandom SYS_mmap SYS_memfd_create
        ],
    ),
    (
        Way::Seen,
        calls![
            SYS_nanosleep SYS_clock_nanosleep SYS_clock_gettime SYS_clock_getres SYS_gettimeofday SYS_time
            SYS_alarm SYS_getitimer SYS_setitimer SYS_timer_create SYS_timer_settime SYS_timer_gettime
            SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime
            SYS_pipe SYS_pipe2 SYS_eventfd SYS_eventfd2 SYS_signalfd SYS_signalfd4 SYS_poll SYS_ppoll SYS_select
            SYS_pselect6 SYS_epoll_wait SYS_epoll_pwait SYS_epoll_pwait2 SYS_socket SYS_socketpair SYS_bind
            SYS_epoll_ctl
            SYS_connect SYS_accept SYS_accept4 SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg
            SYS_recvmmsg SYS_setsockopt SYS_getsockopt
        ],
    ),
    // a service's own groups cannot always be given up, so that nobody has any
    (Way::Always(0), calls![SYS_getgroups]),
    // however the service itself is scheduled
    (Way::Always(0), calls![SYS_sched_getscheduler]),
    // attributes that file systems have or have not
    (
        Way::Always(libc::EOPNOTSUPP),
        calls![
            SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_setxattr
            SYS_lsetxattr SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr
        ],
    ),
    (Way::Always(libc::ENOSPC), calls![SYS_pkey_alloc]),
    (Way::Always(libc::EINVAL), calls![SYS_readahead]),
    // what some kernels have, what waits in the kernel, what counts real time or real pages: libraries do without
    (
        Way::Always(libc::ENOSYS),
        calls![
            SYS_clone3 SYS_rseq SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_futex_waitv
            SYS_mincore SYS_get_mempolicy SYS_set_mempolicy SYS_mbind SYS_set_mempolicy_home_node SYS_membarrier
            SYS_mseal SYS_memfd_secret SYS_process_madvise SYS_process_mrelease SYS_copy_file_range SYS_preadv2
            SYS_pwritev2 SYS_inotify_init SYS_inotify_init1 SYS_inotify_add_watch
            SYS_inotify_rm_watch SYS_sched_getattr SYS_sched_setattr SYS_sched_rr_get_interval SYS_ioprio_get
            SYS_ioprio_set SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self
        ],
    ),
    (
        Way::Always(libc::ENOSYS),
        calls![
            SYS_shmget SYS_shmat SYS_shmctl SYS_shmdt SYS_semget SYS_semop SYS_semctl SYS_semtimedop SYS_msgget
            SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive
            SYS_mq_notify SYS_mq_getsetattr
        ],
    ),
    (Way::Always(libc::ENOSYS), NEW),
    (Way::Always(libc::ENOSYS), NEWER),
    (Way::Always(libc::ENOSYS), PROBES),
    (Way::Always(libc::ENOSYS), GONE),
    // rights that no job has
    (
        Way::Always(libc::EPERM),
        calls![
            SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_kcmp SYS_pidfd_getfd SYS_unshare SYS_setns
            SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig
            SYS_fsmount SYS_fspick SYS_mount_setattr SYS_swapon SYS_swapoff SYS_sync SYS_acct SYS_quotactl
            SYS_quotactl_fd SYS_name_to_handle_at SYS_open_by_handle_at SYS_fanotify_init SYS_fanotify_mark
            SYS_bpf SYS_perf_event_open SYS_userfaultfd SYS_add_key SYS_request_key SYS_keyctl SYS_migrate_pages
            SYS_move_pages SYS_io_setup SYS_io_destroy SYS_io_getevents SYS_io_submit SYS_io_cancel
        ],
    ),
    (
        Way::Always(libc::EPERM),
        calls![
            SYS_syslog SYS_uselib SYS_ustat SYS_sysfs SYS_vhangup SYS_modify_ldt SYS__sysctl SYS_adjtimex
            SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_reboot SYS_sethostname SYS_setdomainname
            SYS_iopl SYS_ioperm SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load
            SYS_kexec_file_load SYS_nfsservctl SYS_getpmsg SYS_putpmsg SYS_afs_syscall SYS_tuxcall SYS_security
            SYS_set_thread_area SYS_get_thread_area SYS_lookup_dcookie SYS_epoll_ctl_old SYS_epoll_wait_old
            SYS_remap_file_pages SYS_vserver
        ],
    ),
];

/// Numbers that x86-64 has never given to a call.
#[cfg(test)]
pub(super) const HOLE: std::ops::RangeInclusive<u32> = 337..=423;

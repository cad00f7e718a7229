//! System calls that have no safe wrapper elsewhere. The only module of the workspace, with its own below it, that has `unsafe` in it; every
//! function here is safe to call from a single-threaded process, and says so where that matters.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

pub(crate) mod float;
pub(crate) mod heap;
pub(crate) mod layout;
pub(crate) mod notify;
pub(crate) mod page;
pub(crate) mod room;
pub(crate) mod trace;
pub(crate) mod tsc;
pub(crate) mod vdso;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Forked {
    /// The parent; the child's process id in the parent's PID namespace.
    Parent(i32),
    /// The child.
    Child,
}

/// How a child ended, and what it and all its dead descendants used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    /// Its process id.
    pub(crate) pid: i32,
    /// Its wait status.
    pub(crate) status: WaitStatus,
    /// CPU time, user and system.
    pub(crate) cpu: Duration,
    /// Largest resident set of one process, in bytes.
    pub(crate) largest_rss: u64,
}

/// A process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum WaitStatus {
    /// It ended by itself.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Forks, with `flags` of `clone(2)` (namespaces). The caller's process has to be single-threaded: the launcher and
/// its descendants are.
pub(crate) fn fork(flags: libc::c_int) -> io::Result<Forked> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without a stack and without CLONE_VM this is fork(2): the child runs on a copy of this stack, and as
    // there is one thread only, no lock can be held by another one that does not exist in the child.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    // Process ids are 22 bits wide.
    Ok(i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .map_or(Forked::Child, Forked::Parent))
}

/// Forks as [`fork`] does, into a control group of version 2 if one is named.
pub(crate) fn fork_into(flags: libc::c_int, group: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let Some(group) = group else { return fork(flags) };
    // SAFETY: clone_args is plain data for which zeros are a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    args.flags = u64::try_from(flags).map_err(invalid)? | CLONE_INTO_CGROUP;
    args.exit_signal = u64::try_from(libc::SIGCHLD).map_err(invalid)?;
    args.cgroup = u64::try_from(group.as_raw_fd()).map_err(invalid)?;
    // SAFETY: as in `fork`; the structure is a local of the given size.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) })?;
    Ok(i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .map_or(Forked::Child, Forked::Parent))
}

/// Ends this process at once: no destructors, no flushing of buffers copied from a parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Waits for a child (`-1`: any). `None` if `block` is false and no child has ended.
pub(crate) fn wait4(pid: i32, block: bool) -> io::Result<Option<Reaped>> {
    // SAFETY: rusage is plain data for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    let options = if block { 0 } else { libc::WNOHANG };
    let pid = loop {
        // SAFETY: both pointers are to locals of the right type that outlive the call.
        let result = unsafe { libc::wait4(pid, &raw mut status, options | libc::__WALL, &raw mut usage) };
        match check(libc::c_long::from(result)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if pid == 0 {
        return Ok(None);
    }
    let seconds = |time: libc::timeval| {
        let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Ok(Some(Reaped {
        pid: i32::try_from(pid).unwrap_or(-1),
        status: wait_status(status),
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        largest_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    }))
}

fn wait_status(status: libc::c_int) -> WaitStatus {
    // Codes and signals are eight bits wide.
    if libc::WIFEXITED(status) {
        WaitStatus::Code(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    } else {
        WaitStatus::Signal(u8::try_from(libc::WTERMSIG(status)).unwrap_or(u8::MAX))
    }
}

/// Moves this process into new namespaces. The process has to be single-threaded.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes flags only; file descriptor tables are not among those that are used here.
    check(libc::c_long::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// Sets this process's real, effective and saved user and group, and no supplementary group. Single-threaded only.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: a list of length zero is never read; the other calls take numbers only.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Makes a whole mount tree read-only and adds `nosuid` and, if told so, `nodev`.
pub(crate) fn make_readonly(tree: BorrowedFd<'_>, recursive: bool, nodev: bool) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const RDONLY: u64 = 1;
    const NOSUID: u64 = 2;
    const NODEV: u64 = 4;
    let set = RDONLY | NOSUID | if nodev { NODEV } else { 0 };
    let attr = MountAttr {
        set,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated string, the structure is the kernel's `struct mount_attr` and its size is
    // given; both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Makes `new_root` (a mount point, path of this process) the root, and detaches the old one entirely.
pub(crate) fn pivot_root_to_cwd() -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: as above. With "." twice the old root lies over the new one, and is what gets detached.
    check(libc::c_long::from(unsafe {
        libc::umount2(c".".as_ptr(), libc::MNT_DETACH)
    }))
    .map(drop)
}

/// Marks every file descriptor from `first` on to be closed at the next exec.
pub(crate) fn close_from_at_exec(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: takes numbers only and closes nothing yet.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Sets one resource limit, soft and hard.
pub(crate) fn set_rlimit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: the pointer is to a local of the right type.
    check(libc::c_long::from(unsafe {
        libc::setrlimit(resource, &raw const limit)
    }))
    .map(drop)
}

/// Reads one resource limit's hard value.
pub(crate) fn get_hard_rlimit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local of the right type.
    check(libc::c_long::from(unsafe {
        libc::getrlimit(resource, &raw mut limit)
    }))?;
    Ok(limit.rlim_max)
}

/// Sends a signal to a child that has not been waited for yet, so that its number cannot mean another process.
pub(crate) fn kill_child(pid: i32) {
    // SAFETY: takes numbers only. Fails only if the child is dead already, which is what is wanted.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Sets every signal to its default action and unblocks all of them.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is no function of ours. Fails for KILL, STOP and libc's own, which need no reset.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: sigset_t is plain data; sigemptyset fills it before it is read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// One instruction of a classic BPF program (`struct sock_filter`).
pub(crate) type Instruction = libc::sock_filter;

/// Installs a system call filter on this thread, which must have `no_new_privs` set.
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let header = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the header points to `length` instructions that outlive the call; the kernel only reads them.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const header,
        )
    })
    .map(drop)
}

/// Replaces this process; returns only if that failed.
pub(crate) fn exec(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([ptr::null()])
            .collect::<Vec<*const libc::c_char>>()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: every pointer is to a NUL-terminated string that lives as long as its list, both lists end with NULL.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// A raw system call with number arguments, for probes: its result, or the error number.
pub(crate) fn try_call(number: libc::c_long, arguments: [usize; 5]) -> Result<libc::c_long, i32> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the probes pass numbers, null pointers, or pointers to live NUL-terminated strings that the kernel reads.
    check(unsafe { libc::syscall(number, a, b, c, d, e) }).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// `uname` through the 32-bit system call table, which the filter must refuse: the error number, or 0 if it worked.
#[cfg(target_arch = "x86_64")]
pub(crate) fn try_i386_call() -> i32 {
    let result: i32;
    // SAFETY: call 20 of the 32-bit table is getpid: no argument, no memory. rbx is saved by the compiler's own
    // convention, r8 to r11 may be lost and are named.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") 20 => result,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    if result < 0 { -result } else { 0 }
}

/// Takes over the file descriptor that a parent process left at `number`.
pub(crate) fn inherited_fd(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes a number only.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: it is open, and the launcher calls this once for standard input, before anything else could own it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes, in a forked child, the child's copy of a descriptor whose owner lives on in memory but is never used or
/// dropped there: the child ends without running destructors.
pub(crate) fn close_forked_copy(fd: &OwnedFd) {
    // SAFETY: the caller never touches the value again, and `exit_now` ends the process without dropping it.
    unsafe { libc::close(fd.as_raw_fd()) };
}

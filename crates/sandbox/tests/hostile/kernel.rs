//! System calls that no job may make.

use sandrun_sandbox::Class;

use crate::common::Job;
use crate::{CALLS, hostile};

pub fn forbidden_calls_fail_and_kill_nobody(class: Class) {
    let text = format!(
        "{CALLS}\
         call('mount', 165, b'x', b'/tmp', b'tmpfs', 0, 0)\ncall('umount', 166, b'/proc', 2)\ncall('fsopen', 430, b'tmpfs', 0)\n\
         call('open_tree', 428, -100, b'/', 1)\ncall('unshare', 272, 0x10000000)\ncall('clone', 56, 0x10000000 | 17, 0, 0, 0, 0)\n\
         call('setns', 308, 0, 0)\ncall('ptrace', 101, 16, 1, 0, 0)\ncall('process_vm_readv', 310, 1, 0, 0, 0, 0, 0)\n\
         call('clone3', 435, 0, 0)\ncall('io_uring', 425, 1, 0)\ncall('keyctl', 250, 0, 0)\ncall('bpf', 321, 0, 0, 0)\n\
         call('perf', 298, 0, 0, 0, 0, 0)\ncall('userfaultfd', 323, 0)\ncall('chroot', 161, b'/tmp')\ncall('pivot_root', 155, b'/', b'/')\n\
         call('setuid', 105, 0)\ncall('x32', 0x40000000 + 39)\ncall('reboot', 169, 0, 0, 0, 0)\ncall('future', 999)\n\
         call('mknod', 133, b'/tmp/d', 0o60644, 0x800)\n"
    );
    let expected = "mount EPERM\numount EPERM\nfsopen EPERM\nopen_tree EPERM\nunshare EPERM\nclone EPERM\nsetns EPERM\n\
        ptrace EPERM\nprocess_vm_readv EPERM\nclone3 ENOSYS\nio_uring ENOSYS\nkeyctl EPERM\nbpf EPERM\nperf EPERM\n\
        userfaultfd EPERM\nchroot EPERM\npivot_root EPERM\nsetuid EINVAL\nx32 ENOSYS\nreboot EPERM\nfuture ENOSYS\nmknod EPERM\n";
    let done = hostile(class, &Job::python(&text));
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

/// Every number with zeros, and with pointers to nothing: whatever they are, the sandbox holds.
pub fn every_call_with_empty_hands(class: Class) {
    let text = format!(
        "{CALLS}\
         # those that end or stop the caller itself, or wait\n\
         never = {{15, 34, 60, 61, 130, 231, 247}}\n\
         for arguments in [(0,) * 6, (-1,) * 6, (1, 2, 3, 4, 5, 6)]:\n\
         \x20 pid = os.fork()\n  if pid == 0:\n\
         \x20   libc.alarm(1)\n\
         \x20   for number in range(0, 480):\n\
         \x20     if number not in never and not (number in (56, 57, 58) and arguments[0]): libc.syscall(number, *map(ctypes.c_long, arguments))\n\
         \x20   os._exit(0)\n  os.waitpid(pid, 0)\nos.write(2, b'over')\n"
    );
    let job = Job::python(&text).limits(|l| {
        l.wall = std::time::Duration::from_secs(8);
        l.processes = 20;
    });
    let done = hostile(class, &job);
    assert!(
        done.stderr().contains("over"),
        "{:?} {}",
        done.report.outcome,
        done.stderr()
    );
}

/// The rest of what a kernel would do for somebody with rights.
pub fn old_tables_lead_nowhere(class: Class) {
    let names = [
        ("add_key", 248),
        ("request_key", 249),
        ("init_module", 175),
        ("finit_module", 313),
        ("delete_module", 176),
        ("kexec_load", 246),
        ("kexec_file_load", 320),
        ("swapon", 167),
        ("acct", 163),
        ("sethostname", 170),
        ("settimeofday", 164),
        ("clock_settime", 227),
        ("adjtimex", 159),
        ("iopl", 172),
        ("ioperm", 173),
        ("syslog", 103),
        ("quotactl", 179),
        ("name_to_handle_at", 303),
        ("open_by_handle_at", 304),
        ("fanotify_init", 300),
        ("process_vm_writev", 311),
        ("kcmp", 312),
        ("pidfd_getfd", 438),
        ("move_mount", 429),
        ("mount_setattr", 442),
        ("fsconfig", 431),
        ("modify_ldt", 154),
        ("lookup_dcookie", 212),
        ("migrate_pages", 256),
        ("move_pages", 279),
        ("process_madvise", 440),
        ("memfd_secret", 447),
    ];
    let calls: String = names
        .iter()
        .map(|(name, number)| format!("call('{name}', {number}, 0, 0, 0, 0, 0, 0)\n"))
        .collect();
    let done = hostile(class, &Job::python(&format!("{CALLS}{calls}")));
    let out = done.stdout();
    assert_eq!(out.lines().count(), names.len(), "{}", done.stderr());
    let allowed = out
        .lines()
        .filter(|line| !line.ends_with("EPERM") && !line.ends_with("ENOSYS"));
    assert_eq!(allowed.count(), 0, "{out}");
}

pub fn terminals_take_no_keys(class: Class) {
    let text = r"
import os, fcntl
for path in ['/dev/tty', '/dev/ptmx', '/dev/pts/0', '/dev/console', '/dev/tty0', '/dev/pts/ptmx']:
    try: print(path, os.open(path, os.O_RDWR))
    except OSError: pass
for fd in range(3):
    for request in [0x5412, 0x540e, 0x541c, 0x5423]:
        try: print(fd, request, fcntl.ioctl(fd, request, b'id\n'))
        except OSError: pass
";
    let done = hostile(class, &Job::python(text));
    assert_eq!(
        (done.stdout().as_str(), done.report.exit_code),
        ("", 0),
        "{}",
        done.stderr()
    );
}

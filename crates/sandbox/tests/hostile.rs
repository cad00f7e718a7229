//! Programs that mean harm. After each of them the sandbox serves, and nothing is left: see [`assert_clean`].
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Done, Job, SANDBOX};
use sandrun_sandbox::Layer;
use sandrun_types::{ExitStatus, RunOutcome};

/// The next job is honest, gets what it needs, and sees nothing of the one before.
fn assert_clean() {
    let text = "import os\npids = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())\n\
        print(pids, os.listdir('/work'), os.listdir('/tmp'), os.listdir('/dev/shm'))\n";
    let done = Job::python(text).run();
    assert_eq!(done.stdout(), "[1, 2] ['main.py'] [] []\n", "{}", done.stderr());
}

fn hostile(job: &Job) -> Done {
    let done = job.run();
    assert_clean();
    done
}

#[test]
fn fork_bomb() {
    let done = hostile(
        &Job::bash(":(){ :|:& };: ; echo survived; wait").limits(|l| l.wall = Duration::from_secs(2)),
    );
    assert!(
        matches!(done.report.outcome, RunOutcome::Timeout | RunOutcome::Exited),
        "{:?}",
        done.report.outcome
    );
}

#[test]
fn processes_are_counted() {
    let text = "import os, signal\nn = 0\ntry:\n  while n < 1000:\n    if os.fork() == 0: signal.pause()\n    n += 1\n\
        except BlockingIOError: print(n)\n";
    assert_eq!(
        hostile(&Job::python(text).limits(|l| l.processes = 10)).stdout(),
        "9\n"
    );
}

#[test]
fn daemon_that_ignores_signals() {
    let text = "import os, signal\nfor s in range(1, 64):\n  try: signal.signal(s, signal.SIG_IGN)\n  except OSError: pass\n  except ValueError: pass\n\
        r, w = os.pipe()\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.write(w, b'x')\n    while True: signal.pause()\n  os._exit(0)\n\
        os.read(r, 1)\nprint('main ends', flush=True)\n";
    let done = hostile(&Job::python(text));
    assert_eq!(
        (done.stdout().as_str(), done.report.exit_code),
        ("main ends\n", 0),
        "{}",
        done.stderr()
    );
}

#[test]
fn grandchild_that_holds_the_pipe() {
    let done = hostile(&Job::bash("sleep infinity & disown; echo out"));
    assert_eq!(done.stdout(), "out\n");
    assert!(done.report.usage.wall < Duration::from_secs(10));
}

#[test]
fn memory_bomb_has_no_outputs() {
    let text = "open('before', 'w').write('x')\nprint('before', flush=True)\nb = []\nwhile True: b.append(b'x' * (1 << 20))\n";
    let done = hostile(&Job::python(text).limits(|l| l.memory_bytes = 64 << 20));
    if SANDBOX.layers().memory == sandrun_sandbox::MemoryControl::Rlimit {
        assert_eq!(done.report.exit_code, 1, "MemoryError");
    } else {
        assert_eq!(done.report.outcome, RunOutcome::Memory);
        assert_eq!(done.report.exit, Some(ExitStatus::Memory));
        assert!(done.report.outputs.is_empty());
        assert!(done.report.explanation.contains("67108864 bytes of memory"));
    }
}

#[test]
fn memory_bomb_in_a_child_counts_for_the_job() {
    if SANDBOX.layers().memory == sandrun_sandbox::MemoryControl::Rlimit {
        return;
    }
    let text = "python3 -c \"b = 'x' * (200 << 20)\"; echo went on; echo x > file";
    let done = hostile(&Job::bash(text).limits(|l| l.memory_bytes = 64 << 20));
    assert_eq!(done.report.outcome, RunOutcome::Memory);
    assert!(done.report.outputs.is_empty());
}

#[test]
fn memory_files_are_bounded() {
    let text = "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, b'x' * (1 << 20))\n";
    let done = hostile(&Job::python(text).limits(|l| l.memory_bytes = 64 << 20));
    assert_ne!(done.report.exit_code, 0);
}

#[test]
fn file_systems_fill_up() {
    let text = "for d in /work /tmp /dev/shm; do dd if=/dev/zero of=$d/x bs=1M count=300 2>/dev/null; done; du -sm --total /work /tmp /dev/shm | tail -1 | cut -f1\n";
    let done = hostile(
        &Job::bash(text)
            .limits(|l| l.tmpfs_bytes = 20 << 20)
            .outputs(r#"["none"]"#),
    );
    assert!(
        (19..=21).contains(&done.stdout().trim().parse::<u32>().unwrap()),
        "{}",
        done.stdout()
    );
}

#[test]
fn inodes_run_out() {
    let text = "n = 0\ntry:\n  while n < 10000:\n    open(f'/tmp/{n}', 'w').close()\n    n += 1\nexcept OSError as e: print(n, e.errno)\n";
    let done = hostile(&Job::python(text).limits(|l| l.inodes = 100));
    assert!(done.stdout().ends_with(" 28\n"), "{}", done.stdout());
}

#[test]
fn sparse_file_of_a_tebibyte() {
    let done = hostile(&Job::python(
        "import os, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nos.truncate(os.open('x', os.O_CREAT | os.O_RDWR), 1 << 40)\n",
    ));
    assert_eq!(done.report.exit_code, 1);
    assert!(done.stderr().contains("File too large"), "{}", done.stderr());
    // Many that are allowed, each within the limit: together they are not.
    let done = hostile(
        &Job::bash("for i in 1 2 3; do truncate -s 15M $i; done").limits(|l| l.tmpfs_bytes = 20 << 20),
    );
    assert_eq!(done.report.outcome, RunOutcome::OutputLimit);
    assert!(done.report.outputs.is_empty());
}

#[test]
fn endless_output() {
    let job = Job::bash("yes & yes >&2").limits(|l| l.output_bytes = 100_000);
    let (one, two) = (hostile(&job), job.run());
    assert_eq!(one.report.outcome, RunOutcome::OutputLimit);
    assert_eq!(one.report.stdout.len() + one.report.stderr.len(), 100_000);
    assert_eq!(one.report.trace_root, two.report.trace_root);
}

#[test]
fn exactly_the_output_limit_is_allowed() {
    let job = Job::bash("printf 12345; printf 12345 >&2").limits(|l| l.output_bytes = 10);
    assert_eq!(job.run().report.outcome, RunOutcome::Exited);
}

#[test]
fn cpu_spin_and_endless_sleep() {
    let spin = hostile(&Job::python("while True: pass\n").limits(|l| l.cpu = Duration::from_millis(300)));
    assert_eq!(spin.report.outcome, RunOutcome::Timeout);
    assert!(
        spin.report.explanation.contains("CPU"),
        "{}",
        spin.report.explanation
    );
    let sleep =
        hostile(&Job::bash("kill -STOP $$; sleep infinity").limits(|l| l.wall = Duration::from_millis(300)));
    assert_eq!(
        (sleep.report.outcome, sleep.report.exit),
        (RunOutcome::Timeout, None)
    );
}

#[test]
fn host_files_are_not_there() {
    let text = "import os\nfor p in ['/etc/shadow', '/root', '/home', '/proc/1/root//etc', '/proc/1/environ', '/sys', '/proc/kcore', '/var/lib', '/.sandrun/job', '/host']:\n\
        \x20 try: print(p, os.listdir(p) or 'empty') if os.path.isdir(p) else print(p, repr(open(p, 'rb').read(9)))\n  except OSError: pass\n";
    let done = hostile(&Job::python(text));
    assert_eq!(done.stdout(), "", "{}", done.stderr());
    let secret = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "cat {0} /proc/1/root{0} /proc/self/root{0} /proc/self/cwd/../../..{0}",
        secret.path().display()
    );
    assert_eq!(hostile(&Job::bash(&text)).report.exit_code, 1);
}

#[test]
fn system_is_read_only_and_kernel_knobs_are_hidden() {
    let text = "for f in /usr/x /etc/x /x /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/self/oom_score_adj_ /dev/x /bin/true; do\n\
        (echo x > $f) 2>/dev/null && echo \"wrote $f\"; done; rm -rf /usr /bin /etc 2>/dev/null; ls /bin/true; cat /proc/cmdline\n";
    assert_eq!(hostile(&Job::bash(text)).stdout(), "/bin/true\n\n");
}

/// Calls by number through libc, the error names one a line.
const CALLS: &str = "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n\
def call(name, *a):\n  ctypes.set_errno(0)\n  r = libc.syscall(*a)\n  print(name, errno.errorcode.get(ctypes.get_errno(), r) if r < 0 else 'DONE')\n";

#[test]
fn forbidden_calls_fail_and_kill_nobody() {
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
    let done = hostile(&Job::python(&text));
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

#[test]
fn no_network_of_any_kind() {
    let text = "import socket\nfor f, a in [(2, ('1.1.1.1', 80)), (2, ('127.0.0.1', 22)), (10, ('::1', 22)), (16, (0, 0)), (17, ('lo', 0)), (1, '\\0/tmp/.X11-unix/X0'), (1, '/run/dbus/system_bus_socket')]:\n\
        \x20 try: socket.socket(f, socket.SOCK_STREAM if f not in (16, 17) else socket.SOCK_RAW).connect(a); print('connected', f, a)\n  except OSError as e: pass\n\
        print(open('/proc/net/dev').read().count(':'))\n";
    assert_eq!(hostile(&Job::python(text)).stdout(), "1\n");
}

#[test]
fn signals_reach_the_job_only() {
    let text = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nfor pid in [1, -1, 99999]:\n\
        \x20 try: os.kill(pid, signal.SIGKILL if pid == 1 else signal.SIGTERM)\n  except OSError as e: print(pid, e.errno in (1, 3))\nprint('alive')\n";
    let done = hostile(&Job::python(text));
    assert!(
        done.stdout().ends_with("99999 True\nalive\n"),
        "{} {}",
        done.stdout(),
        done.stderr()
    );
}

#[test]
fn descriptors_and_ids_tell_nothing() {
    let text = "ls /proc/self/fd | wc -l; id -u; cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f2; hostname; su -c id root 2>&1 | tail -1\n";
    let done = hostile(&Job::bash(text));
    let lines: Vec<String> = done.stdout().lines().map(str::to_owned).collect();
    assert_eq!(lines[..4], ["4", "1000", "1000", "sandbox"], "{}", done.stdout());
    assert!(!done.stdout().contains("uid=0"), "{}", done.stdout());
}

#[test]
fn landlock_is_a_second_wall() {
    if SANDBOX.layers().has(Layer::Landlock) {
        assert_eq!(hostile(&Job::bash("cat /.canary")).report.exit_code, 1);
    }
}

#[test]
fn host_is_unchanged_after_all_this() {
    assert!(
        !Path::new("/usr/x").exists() && !Path::new("/.sandrun").exists() && !Path::new("/.canary").exists()
    );
}

//! Processes and threads that will not die, or that are odd.

use std::time::Duration;

use sandrun_sandbox::Class;

use crate::common::Job;
use crate::{CALLS, hostile};

pub fn daemon_that_ignores_signals(class: Class) {
    let text = "import os, signal\nfor s in range(1, 64):\n  try: signal.signal(s, signal.SIG_IGN)\n  except OSError: pass\n  except ValueError: pass\n\
        r, w = os.pipe()\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.write(w, b'x')\n    while True: signal.pause()\n  os._exit(0)\n\
        os.read(r, 1)\nprint('main ends', flush=True)\n";
    let done = hostile(class, &Job::python(text));
    assert_eq!(
        (done.stdout().as_str(), done.report.exit_code),
        ("main ends\n", 0),
        "{}",
        done.stderr()
    );
}

pub fn grandchild_that_holds_the_pipe(class: Class) {
    let done = hostile(class, &Job::bash("sleep infinity & disown; echo out"));
    assert_eq!(done.stdout(), "out\n");
    assert!(done.report.usage.wall < Duration::from_secs(10));
}

pub fn descriptors_and_ids_tell_nothing(class: Class) {
    let text = "ls /proc/self/fd | wc -l; id -u; cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f2; hostname; su -c id root 2>&1 | tail -1\n";
    let done = hostile(class, &Job::bash(text));
    let lines: Vec<String> = done.stdout().lines().map(str::to_owned).collect();
    assert_eq!(lines[..4], ["4", "1000", "1000", "sandbox"], "{}", done.stdout());
    assert!(!done.stdout().contains("uid=0"), "{}", done.stdout());
}

/// Subreapers, names, sessions, groups: what a process may say about itself and others.
pub fn odd_relations_between_tasks(class: Class) {
    let text = format!(
        "{CALLS}\
         import signal\n\
         for option in [(36, 1), (1, 9), (4, 0), (4, 1), (35, 1, 0x1000), (35, 9, -1), (15, b'init\\n(x) R 1 1'), (53, 5), (62, 1, 0, 0, 0)]: libc.prctl(*option)\n\
         call('traceme', 101, 0, 0, 0, 0)\ncall('untraced', 56, 0x800000 | 17, 0, 0, 0, 0)\n\
         for pid in [0, 1, 2, os.getppid()]:\n  libc.setpgid(pid, 1); libc.setpgid(0, pid); libc.getpriority(0, pid); libc.setpriority(0, pid, -20); libc.syscall(144, pid, 1, struct.pack('i', 99)); libc.syscall(203, pid, 8, struct.pack('Q', 0xff))\n\
         r, w = os.pipe()\n\
         if os.fork() == 0:\n  libc.prctl(36, 1)\n  for n in range(5):\n    if os.fork() == 0:\n      os.setsid()\n      if os.fork(): os._exit(0)\n      os.write(w, b'x'); signal.pause()\n\
         \x20 os.read(r, 5); os._exit(0)\n\
         os.wait()\nprint('over')\n"
    );
    let done = hostile(class, &Job::python(&text));
    let expected = "traceme EPERM\nuntraced EPERM\nover\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

pub fn vfork_and_clone_oddities(class: Class) {
    let text = r"
import ctypes, os, mmap, signal
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
# mov eax, nr; xor of all but flags; syscall; test; in the child: exit(5)
def run(nr, flags, stack=0):
    pid = os.fork()
    if pid == 0:
        signal.alarm(2)
        m = mmap.mmap(-1, 8192, prot=7)
        base = ctypes.addressof(ctypes.c_char.from_buffer(m))
        code = b'\xbf' + flags.to_bytes(4, 'little') + b'\x48\xbe' + (base + 8000 if stack else 0).to_bytes(8, 'little') + b'\x31\xd2\x4d\x31\xd2\x4d\x31\xc0'
        code += b'\xb8' + nr.to_bytes(4, 'little') + b'\x0f\x05\x85\xc0\x75\x0c\xbf\5\0\0\0\xb8\x3c\0\0\0\x0f\x05\xc3'
        m.write(code)
        r = ctypes.CFUNCTYPE(ctypes.c_int)(base)()
        try: status = os.waitpid(-1, 0x40000000)[1]
        except ChildProcessError: status = -1
        os._exit(0)
    os.waitpid(pid, 0)
run(58, 0)
run(57, 0)
VM, FS, FILES, SIGHAND, VFORK, PARENT, THREAD, IO = 0x100, 0x200, 0x400, 0x800, 0x4000, 0x8000, 0x10000, -0x80000000 & 0xffffffff
for flags in [17, VM | VFORK | 17, VM | VFORK, 0, VM, VM | SIGHAND, VM | SIGHAND | FILES | FS, VM | SIGHAND | THREAD, VM | SIGHAND | THREAD | FILES, THREAD, SIGHAND, PARENT | 17, VFORK, IO | 17, 64, 9, 255, 0x2000 | 17, 0x1000 | 17]:
    run(56, flags, stack=flags & VM and not flags & VFORK)
print('over')
";
    let job = Job::python(text).limits(|l| l.processes = 40);
    let done = hostile(class, &job);
    assert_eq!(
        done.stdout(),
        "over\n",
        "{:?} {}",
        done.report.outcome,
        done.stderr()
    );
}

pub fn programs_executed_by_threads(class: Class) {
    let text = r"
import os, threading, time
for turn in range(12):
    pid = os.fork()
    if pid == 0:
        def work(n):
            if n % 3 == turn % 3: os.execv('/bin/sh', ['sh', '-c', 'kill -9 $$' if turn % 2 else 'exit 4'])
            while True: time.sleep(0.0001) if n % 2 else os.sched_yield()
        for n in range(6): threading.Thread(target=work, args=(n,), daemon=True).start()
        time.sleep(0.5)
        os._exit(6)
    print(os.waitpid(pid, 0)[1] in (9, 4 << 8, 6 << 8))
";
    let job = Job::python(text).limits(|l| l.processes = 40);
    assert_eq!(hostile(class, &job).stdout(), "True\n".repeat(12));
}

/// Robust lists that are loops or lies, locks with priority and their owners' deaths, requeues to nowhere.
pub fn locks_of_the_dead(class: Class) {
    let text = r"
import ctypes, mmap, os, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
shared = mmap.mmap(-1, 4096)
base = ctypes.addressof(ctypes.c_char.from_buffer(shared))
lists = [struct.pack('QqQ', base, 0, 0), struct.pack('QqQ', base + 64, -8, base + 128), struct.pack('QqQ', 1, 1, 1), struct.pack('QqQ', base + 1, 0, -1 & 2**64 - 1)]
for text in lists:
    pid = os.fork()
    if pid == 0:
        shared[:24] = text
        shared[64:72] = struct.pack('Q', base + 64)
        libc.syscall(273, ctypes.c_void_p(base), 24)
        os._exit(0)
    os.waitpid(pid, 0)
for operation in list(range(0, 20)) + [128 + n for n in range(14)] + [256, 393]:
    for value in [0, 1, -1, os.getpid()]:
        pid = os.fork()
        if pid == 0:
            struct.pack_into('i', shared, 256, value)
            timeout = struct.pack('QQ', 0, 1000)
            libc.syscall(202, ctypes.c_void_p(base + 256), operation, value, timeout, ctypes.c_void_p(base + 320), value)
            os._exit(0)
        os.waitpid(pid, 0)
# an owner that dies with a lock, a waiter that is requeued to itself
struct.pack_into('i', shared, 512, 0)
pid = os.fork()
if pid == 0:
    libc.syscall(202, ctypes.c_void_p(base + 512), 6, 0, 0, 0, 0)
    os._exit(0)
os.waitpid(pid, 0)
libc.syscall(202, ctypes.c_void_p(base + 512), 12, 1, 1, ctypes.c_void_p(base + 512), 0)
libc.syscall(202, ctypes.c_void_p(base + 512), 8, 0, 0, 0, 0)
print('over')
";
    let done = hostile(class, &Job::python(text));
    assert_eq!(
        done.stdout(),
        "over\n",
        "{:?} {}",
        done.report.outcome,
        done.stderr()
    );
}

pub fn hash_bang_loops(class: Class) {
    let mut job = Job::bash("chmod +x a b c; ./a; echo $?; ./c; echo $?; (exec ./b); echo $?");
    for (name, text) in [("a", "#!./b\n"), ("b", "#!./a\n"), ("c", "#!/work/c c c c c\n")] {
        job.files.push((name.to_owned(), text.as_bytes().to_vec()));
    }
    let job = job.limits(|l| l.wall = Duration::from_secs(5));
    let done = hostile(class, &job);
    assert_eq!(done.stdout(), "126\n126\n126\n", "{}", done.stderr());
}

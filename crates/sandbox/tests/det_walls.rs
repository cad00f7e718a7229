//! Class `det`: ways round the tracer, which lead nowhere. What is reached by another name is virtual too, what cannot
//! be the same on every machine is refused by one and the same error, and odd programs end by themselves.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Job, same};
use sandrun_sandbox::Class;
use sandrun_types::RunOutcome;

/// Calls by number: the name, then the error or the result.
const CALLS: &str = "import ctypes, errno, os, socket, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n\
def call(name, *a):\n  ctypes.set_errno(0)\n  r = libc.syscall(*a)\n  print(name, errno.errorcode.get(ctypes.get_errno(), r) if r < 0 else 'DONE')\n  return r\n";

#[test]
fn entropy_by_another_name_is_the_jobs_own() {
    let done = same(Job::python(
        r"
import os, ctypes, struct
libc = ctypes.CDLL(None)
os.symlink('/dev/urandom', 'absolute'); os.symlink('../dev/urandom', 'relative'); os.symlink('relative', 'nested')
os.symlink('/', 'root'); os.symlink('root/dev', 'dev'); os.symlink('/proc/self/fd', 'fds')
def show(name, fd):
    print(name, os.read(fd, 8).hex()); os.close(fd)
for name in ['absolute', 'relative', 'nested', 'root/dev/urandom', 'dev/random', '../dev/urandom', '/usr/../dev/urandom']:
    show(name, os.open(name, os.O_RDONLY))
path = os.open('absolute', os.O_PATH)
show('by path', os.open(f'/proc/self/fd/{path}', os.O_RDONLY))
show('by dev', os.open(f'/dev/fd/{path}', os.O_RDONLY))
show('by link', os.open(f'fds/{path}', os.O_RDONLY))
os.dup2(path, 0)
show('by stdin', os.open('/dev/stdin', os.O_RDONLY))
top = os.open('/', os.O_PATH)
show('by directory', os.open('dev/urandom', os.O_RDONLY, dir_fd=top))
def openat2(dir, path, flags, resolve):
    how = struct.pack('QQQ', flags, 0, resolve)
    return libc.syscall(437, dir, path, how, 24)
for resolve in [0, 1, 2, 4, 8, 16]:
    fd = openat2(top, b'dev/urandom', 0, resolve)
    if fd >= 0: show(f'openat2 {resolve}', fd)
    else: print('openat2', resolve, 'fails')
os.chdir('/dev')
show('by name', os.open('urandom', os.O_RDONLY))
",
    ));
    assert_eq!(
        done.stdout().lines().count(),
        19,
        "{} {}",
        done.stdout(),
        done.stderr()
    );
}

#[test]
fn proc_by_another_name_is_virtual() {
    let done = same(Job::python(
        r"
import os, struct, ctypes
libc = ctypes.CDLL(None)
plain = {name: open('/proc/self/' + name).read() for name in ['status', 'mountinfo', 'statm', 'limits']}
os.symlink('/proc', 'p'); os.symlink('/proc/self', 's'); os.symlink('p/self/statm', 'm'); os.symlink('/proc/self/cwd', 'c')
os.mkdir('d'); os.symlink('../../proc/thread-self', 'd/t')
top = os.open('/proc', os.O_RDONLY)
for name in ['statm', 'mountinfo', 'limits']:
    ways = [f'p/self/{name}', f's/{name}', f'd/t/{name}', f'/proc/self/root/proc/self/{name}', f'/proc/self/task/2/{name}', f'c/s/{name}', f'../proc/self/{name}']
    for way in ways: print(way, open(way).read() == plain[name])
    print('by descriptor', os.read(os.open(f'self/{name}', os.O_RDONLY, dir_fd=top), 1 << 16).decode() == plain[name])
    path = os.open(f'/proc/self/{name}', os.O_PATH)
    print('by path', open(f'/proc/self/fd/{path}').read() == plain[name])
print(open('m').read() == plain['statm'])
how = struct.pack('QQQ', 0, 0, 16)
fd = libc.syscall(437, top, b'/self/statm', how, 24)
print(fd < 0 or os.read(fd, 99).decode() == plain['statm'])
os.chdir('/proc/self')
print(open('statm').read() == plain['statm'], open('task/2/statm').read() == plain['statm'])
for name in ['pagemap', 'net/dev', 'net/unix', 'attr/current', 'patch_state', 'mem', 'stack', 'syscall', 'timers']:
    try: print(name, open(name, 'rb').read(9))
    except OSError as e: print(name, e.errno)
",
    ));
    let out = done.stdout();
    assert!(!out.contains("False"), "{out} {}", done.stderr());
    assert_eq!(out.matches("True").count(), 31, "{out} {}", done.stderr());
    assert!(
        out.ends_with("timers 2\n") && out.contains("net/unix 2\n"),
        "{out}"
    );
}

#[test]
fn a_clock_that_the_job_sets_ends_with_the_budget() {
    let job = Job::python(
        "import ctypes, os\nctypes.c_ulong.from_address(0x100000).value = 1 << 62\nfor n in range(100_000): os.stat('.')\nprint('never')\n",
    );
    let done = same(job.limits(|limits| limits.wall = Duration::from_secs(10)));
    assert_eq!(
        (done.report.outcome, done.stdout().as_str()),
        (RunOutcome::Budget, "")
    );
}

#[test]
fn a_jobs_own_filter_is_refused_clearly() {
    let text = format!(
        "{CALLS}prctl = lambda *a: call('prctl', 157, *a)\n\
         libc.prctl(38, 1, 0, 0, 0)\n\
         code = struct.pack('HBBI', 6, 0, 0, 0x50000)\nbuffer = ctypes.create_string_buffer(code)\n\
         program = struct.pack('HxxxxxxQ', 1, ctypes.addressof(buffer))\n\
         prctl(22, 2, program)\nprctl(22, 1)\n\
         for flags in [0, 1, 8]: call('seccomp', 317, 1, flags, program)\n\
         call('action', 317, 2, 0, struct.pack('I', 0x7fff0000))\ncall('landlock', 444, 0, 0, 1)\n\
         import threading\nr, w = os.pipe()\nt = threading.Thread(target=os.read, args=(r, 1)); t.start()\nos.write(w, b'x'); t.join()\nprint('read')\n"
    );
    let done = same(Job::python(&text));
    assert_eq!(
        done.stdout(),
        "prctl EINVAL\nprctl EINVAL\nseccomp EINVAL\nseccomp EINVAL\nseccomp EINVAL\naction EINVAL\nlandlock ENOSYS\nread\n",
        "{}",
        done.stderr()
    );
}

#[test]
fn what_no_two_machines_have_alike_is_refused() {
    let text = format!(
        "{CALLS}\
         a, b = socket.socketpair()\n\
         for option in [29, 31, 35, 37, 49, 50, 55, 56, 57, 63, 71]:\n\
         \x20 try: print(option, a.getsockopt(1, option, 64))\n  except OSError as e: print(option, e.errno)\n\
         print(struct.unpack('iii', a.getsockopt(1, 17, 12)))\n\
         call('autobind', 49, socket.socket(socket.AF_UNIX).fileno(), b'\\1\\0', 2)\n\
         call('unshare files', 56, 0x10900 | 0x100, 0, 0, 0, 0)\n\
         call('parent', 56, 0x8000 | 17, 0, 0, 0, 0)\n\
         import fcntl\nf = open('x', 'w')\n\
         for command, value in [(1024, 0), (1026, 1), (10, 40), (1036, 0), (1031, 1 << 20)]:\n\
         \x20 try: print(command, fcntl.fcntl(f if command != 1031 else os.pipe()[0], command, value))\n  except OSError as e: print(command, e.errno)\n\
         for request in [0x5411, 0x8906, 0x80086601, 0x40049409, 0x1260]:\n\
         \x20 try: print(request, fcntl.ioctl(a, request, b' ' * 8))\n  except OSError as e: print(request, e.errno)\n\
         call('inotify', 294, 0)\ncall('copy', 326, 0, 0, 1, 0, 9, 0)\ncall('preadv2', 327, 0, 0, 0, 0, 0, 0)\n\
         call('recvmmsg', 299, a.fileno(), 0, 0, 0, 0)\ncall('membarrier', 324, 0, 0, 0)\ncall('mseal', 462, 0, 0, 0)\n\
         call('free', 28, 0x100000, 4096, 8)\ncall('newest', 469)\ncall('future', 470)\nprint(os.getgroups())\n\
         a.settimeout(None); a.setsockopt(1, 20, struct.pack('ll', 2, 0))\n\
         import time\nstart = time.monotonic()\n\
         try: a.recv(1)\n\
         except BlockingIOError: print('timed out', int(time.monotonic() - start))\n"
    );
    let done = same(Job::python(&text));
    let expected = "29 92\n31 92\n35 92\n37 92\n49 92\n50 92\n55 92\n56 92\n57 92\n63 92\n71 92\n(2, 1000, 1000)\n\
        autobind EINVAL\nunshare files EINVAL\nparent EINVAL\n1024 22\n1026 22\n10 22\n1036 22\n1031 1\n\
        21521 25\n35078 25\n2148034049 25\n1074041865 25\n4704 25\n\
        inotify ENOSYS\ncopy ENOSYS\npreadv2 ENOSYS\nrecvmmsg DONE\nmembarrier ENOSYS\nmseal ENOSYS\n\
        free EINVAL\nnewest ENOSYS\nfuture ENOSYS\n[]\ntimed out 2\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

#[test]
fn named_pipes_meet_by_every_form_of_open() {
    let done = same(Job::python(
        r"
import os, ctypes, struct, threading
libc = ctypes.CDLL(None)
os.mkfifo('p')
def reader(): print('read', os.read(os.open('p', os.O_RDONLY), 9))
def second(): print('read', os.read(libc.syscall(437, -100, b'p', struct.pack('QQQ', 0, 0, 0), 24), 9))
for read, write in [(reader, lambda: libc.syscall(85, b'p', 0o600)), (second, lambda: libc.syscall(437, -100, b'p', struct.pack('QQQ', 1, 0, 8), 24))]:
    t = threading.Thread(target=read); t.start()
    fd = write(); os.write(fd, b'hello'); os.close(fd); t.join()
",
    ));
    assert_eq!(
        done.stdout(),
        "read b'hello'\nread b'hello'\n",
        "{}",
        done.stderr()
    );
}

#[test]
fn odd_programs_end_by_themselves() {
    let done = same(Job::python(
        r"
import os, signal, struct, mmap, ctypes
def run(name, data):
    open(name, 'wb').write(data); os.chmod(name, 0o755)
    pid = os.fork()
    if pid == 0:
        try: os.execv('./' + name, [name])
        except OSError as e: os._exit(100 + e.errno)
    print(name, os.waitpid(pid, 0)[1])
def elf32(code, machine=3):
    head = b'\x7fELF\1\1\1' + bytes(9) + struct.pack('<HHIIIIIHHHHHH', 2, machine, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return head + struct.pack('<IIIIIIII', 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 4096) + code
# exit(7), then hlt; a clock read; a fork
run('exits', elf32(bytes.fromhex('b801000000bb07000000cd80f4')))
run('cpuid', elf32(bytes.fromhex('31c00fa20f31b802000000cd80f4')))
whole = open('/bin/true', 'rb').read()
for length in [4, 64, 200, 1000, len(whole) // 2]: run(f'cut{length}', whole[:length])
run('nothing', b'')
run('machine', whole[:18] + struct.pack('<H', 183) + whole[20:])
run('entry', whole[:24] + struct.pack('<Q', 0x7fffffffffff0000) + whole[32:])
run('headers', whole[:56] + struct.pack('<H', 0xffff) + whole[58:])
run('long', b'#!/bin/sh ' + b'x' * 5000 + b'\n')
run('longer', b'#!' + b'/' * 70000)
run('bare', b'#!')
run('zeros', b'#!/bin/\0sh\n')
run('itself', b'#!./itself\n')
run('loop', b'#!/work/loop2\n'); run('loop2', b'#!/work/loop\n')
run('directory', b'#!/work\n')
def inside(name, code):
    pid = os.fork()
    if pid == 0:
        m = mmap.mmap(-1, 4096, prot=7); m.write(code)
        os._exit(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))() & 127)
    print(name, os.waitpid(pid, 0)[1])
inside('int80 getpid', bytes.fromhex('53b814000000cd805bc3'))
inside('int80 fork', bytes.fromhex('53b802000000cd805bc3'))
inside('x32 getpid', bytes.fromhex('b8270000400f05c3'))
inside('x32 exit', bytes.fromhex('bf05000000b83c0000400f05c3'))
inside('sysenter', bytes.fromhex('b8140000000f34c3'))
inside('hlt', b'\xf4')
",
    ));
    let out = done.stdout();
    assert_eq!(done.report.exit_code, 0, "{out} {}", done.stderr());
    assert_eq!(out.lines().count(), 25, "{out} {}", done.stderr());
    // EPERM of the filter, ENOSYS of the x32 table, as an exit code of seven bits
    assert!(out.contains(&format!("int80 getpid {}\n", 127 << 8)), "{out}");
    assert!(
        out.contains(&format!("x32 getpid {}\n", (127 & -38) << 8)),
        "{out}"
    );
}

#[test]
fn orphans_are_gone_at_one_time() {
    let done = same(Job::python(
        r"
import os, signal, time
for turn in range(40):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        pids = []
        for n in range(4):
            child = os.fork()
            if child == 0:
                if n == 3: time.sleep(0.01)
                os._exit(0)
            pids.append(child)
        time.sleep(0.001 * turn)
        os.write(w, repr(pids).encode()); os._exit(0)
    os.close(w)
    pids = eval(os.read(r, 999)); os.close(r)
    before = [os.path.exists(f'/proc/{p}') for p in pids]
    os.waitpid(pid, 0)
    print(turn, before, [os.path.exists(f'/proc/{p}') for p in pids], sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))
",
    ));
    assert_eq!(done.stdout().lines().count(), 40, "{}", done.stderr());
}

#[test]
fn files_are_found_after_the_leaders_death() {
    let done = same(Job::python(
        r"
import ctypes, os, threading, time, socket
def later():
    time.sleep(0.1)
    r, w = os.pipe(); a, b = socket.socketpair()
    def write():
        time.sleep(0.01); os.write(w, b'pipe'); b.send(b'socket')
    threading.Thread(target=write).start()
    os.write(1, os.read(r, 9) + a.recv(9) + os.urandom(4).hex().encode() + b'\n')
    open('file', 'w').write('text')
    os.write(1, repr((os.stat('file').st_size, os.listdir(), os.fstat(r).st_ino)).encode())
    os._exit(5)
threading.Thread(target=later).start()
ctypes.CDLL(None).syscall(60, 0)
",
    ));
    assert_eq!(done.report.exit_code, 5, "{} {}", done.stdout(), done.stderr());
    assert!(done.stdout().starts_with("pipesocket"), "{}", done.stdout());
}

/// Whoever stops processes of the machine and lets them go on again changes nothing of what a job sees.
#[test]
fn a_stop_from_outside_is_none_of_the_jobs() {
    let mark = format!("stopped-{}", std::process::id());
    let mut job = Job::python(
        r"
import signal, threading, time
signal.signal(signal.SIGCONT, lambda *_: print('continued'))
def work():
    for _ in range(3000): time.sleep(0.0001)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('over', time.time())
",
    );
    job.env.insert("MARK".to_owned(), mark.clone());
    // each stop takes its time
    let job = job
        .class(Class::Det)
        .limits(|limits| limits.wall = Duration::from_secs(100));
    let (quiet, stopped, stops) = std::thread::scope(|scope| {
        let quiet = job.run();
        let run = scope.spawn(|| job.run());
        let mut stops = 0;
        while !run.is_finished() {
            stops += stop_and_go(&mark);
        }
        (quiet, run.join().unwrap(), stops)
    });
    assert!(stops > 0);
    assert_eq!(quiet.stdout(), stopped.stdout());
    assert_eq!(quiet.report.trace_root, stopped.report.trace_root);
    assert!(stopped.stdout().starts_with("over"), "{}", stopped.stderr());
}

/// Stops the processes whose environment holds this, and lets them go on; how many there were.
fn stop_and_go(mark: &str) -> usize {
    use rustix::process::{Pid, Signal, kill_process};
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut count = 0;
    for pid in pids {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_ours = environment
            .windows(mark.len())
            .any(|window| window == mark.as_bytes());
        let Some(process) = Pid::from_raw(pid).filter(|_| is_ours) else {
            continue;
        };
        for signal in [Signal::STOP, Signal::CONT] {
            count += usize::from(kill_process(process, signal).is_ok());
            std::thread::yield_now();
        }
    }
    count
}

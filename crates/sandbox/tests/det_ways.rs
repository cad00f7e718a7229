//! Class `det`: ways to the machine's own entropy, clock and memory that need no instruction of the documented kind.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::sync::LazyLock;

use common::{Done, Job};
use sandrun_sandbox::{CgroupPolicy, Class, Sandbox};
use sandrun_types::{Interpreter, RunOutcome};

/// Runs a job twice: its end, after it was the same both times and no limit's.
fn same(job: Job) -> Done {
    let done = common::same(job);
    assert_eq!(done.report.outcome, RunOutcome::Exited, "{}", done.stderr());
    done
}

#[test]
fn entropy_that_a_child_opens_in_a_shared_table_is_the_jobs_own() {
    let done = same(Job::python(
        r"
import ctypes, os
pid = ctypes.CDLL(None).syscall(56, 0x400 | 17, 0, 0, 0, 0)
if pid == 0:
    os.open('/dev/urandom', os.O_RDONLY)
    os._exit(0)
os.waitpid(pid, 0)
print(os.read(3, 16).hex())
",
    ));
    assert_eq!(done.stdout().len(), 33, "{} {}", done.stdout(), done.stderr());
}

/// There is no room for anything below the stack pointer there.
#[test]
fn a_pipe_made_at_a_stacks_end_is_looked_at() {
    let done = same(Job::python(
        r"
import ctypes, mmap, os
libc = ctypes.CDLL(None)
# pipe(rdi) with the stack pointer rsi
code = bytes.fromhex('4989e04889f4b8160000000f054c89c4c3')
text = mmap.mmap(-1, 4096, prot=7); text.write(code)
pipe = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(text)))
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(None, ctypes.c_long(8192), 3, 0x22, -1, ctypes.c_long(0))
libc.munmap(ctypes.c_void_p(place), ctypes.c_long(4096))
fds = (ctypes.c_int * 2)()
def draw():
    fd = os.open('/dev/urandom', os.O_RDONLY)
    return os.read(fd, 8).hex()
for without_clock in [True, False]:
    pid = os.fork()
    if pid == 0:
        if without_clock: libc.munmap(ctypes.c_void_p(0x100000), ctypes.c_long(4096))
        result = pipe(ctypes.addressof(fds), place + 4096 + 16)
        if result == 0: os.write(fds[1], b'x'); result = os.read(fds[0], 1)
        os.write(1, repr((result, draw())).encode() + b'\n')
        os._exit(0)
    os.waitpid(pid, 0)
",
    ));
    let out = done.stdout();
    assert!(out.starts_with("(-14, '"), "{out} {}", done.stderr());
    assert!(out.contains("\n(b'x', '"), "{out} {}", done.stderr());
}

/// Whatever loader the machine has for it: it could change to 64 bits, with nothing of the kernel's replaced.
#[test]
fn a_32_bit_program_is_none() {
    let done = same(Job::python(
        r"
import os, struct
def run(name, data, mode=0o755):
    open(name, 'wb').write(data); os.chmod(name, mode)
    for path in ['./' + name, '/work/../work/' + name]:
        try: os.execv(path, [name])
        except OSError as e: print(name, e.errno)
    try: os.execve(os.open(name, os.O_RDONLY), [name], {})
    except OSError as e: print(name, e.errno)
code = bytes.fromhex('b801000000bb07000000cd80')
head = b'\x7fELF\1\1\1' + bytes(9) + struct.pack('<HHIIIIIHHHHHH', 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
run('exits', head + struct.pack('<IIIIIIII', 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 4096) + code)
run('script', b'#!/work/exits\n'); run('relative', b'#! exits x\n')
run('text', b'echo\n'); run('hidden', b'echo\n', 0o600)
os.symlink('script', 'link')
try: os.execv('link', ['link'])
except OSError as e: print('link', e.errno)
import sys; sys.stdout.flush()
os.execv('/bin/echo', ['echo', 'over'])
",
    ));
    let expected = "exits 8\nexits 8\nexits 8\nscript 8\nscript 8\nscript 8\nrelative 8\nrelative 8\nrelative 8\n\
        text 8\ntext 8\ntext 8\nhidden 13\nhidden 13\nhidden 13\nlink 8\nover\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

/// They stand in the place of files of `/proc`, and no limit counts what they hold.
#[test]
fn files_of_proc_hold_nothing_of_the_jobs() {
    let done = same(Job::python(
        r"
import mmap, os
fd = os.open('/proc/self/status', os.O_RDONLY)
print(oct(os.fstat(fd).st_mode))
again = os.open(f'/proc/self/fd/{fd}', os.O_RDWR)
for name, do in [('write', lambda fd: os.pwrite(fd, b'x' * (40 << 20), 0)), ('grow', lambda fd: os.ftruncate(fd, 1 << 20)),
    ('cut', lambda fd: os.ftruncate(fd, 0)), ('allocate', lambda fd: os.posix_fallocate(fd, 0, 1 << 20)),
    ('map', lambda fd: mmap.mmap(fd, 100))]:
    for file in [fd, again]:
        try: do(file); print(name, 'DONE')
        except OSError as e: print(name, e.errno)
print(os.read(fd, 5), len(open(f'/proc/self/fd/{fd}').read()) > 500)
",
    ));
    let expected = "0o100444\nwrite 1\nwrite 1\ngrow 1\ngrow 1\ncut 1\ncut 1\nallocate 1\nallocate 1\nmap 1\nmap 1\n\
        b'Name:' True\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

/// Whoever runs the service; and nobody reads there what the service is to get.
#[test]
fn output_can_be_opened_by_its_names_for_writing() {
    let done = same(Job::bash(
        "echo one > /dev/stdout; echo two >> /dev/fd/1; echo three > /dev/stderr; echo four > /proc/self/fd/1\n\
         ln -s /proc/self/fd fds; echo five > fds/1\n\
         for name in /dev/stdout fds/1 /proc/$$/fd/2 /proc/thread-self/fd/1; do cat $name 2> /dev/null || echo refused; done\n\
         exec 5<> /dev/stderr || echo over\n\
         mkfifo p; echo six > /dev/stdout; cat < /dev/stdout || echo refused\n",
    ));
    let expected = "one\ntwo\nfour\nfive\nrefused\nrefused\nrefused\nrefused\nover\nsix\nrefused\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
    assert!(done.stderr().starts_with("three\n"), "{}", done.stderr());
}

/// What a process may have does not depend on whether the machine has groups that count it.
#[test]
fn memory_is_refused_alike_with_and_without_groups() {
    static WITHOUT: LazyLock<Sandbox> = LazyLock::new(|| common::start(CgroupPolicy::Off));
    let job = Job::python(
        r"
import mmap
def have(name, take):
    try: take(); print(name)
    except (MemoryError, OSError) as e: print(name, type(e).__name__)
have('400', lambda: bytearray(400 << 20)); have('700', lambda: bytearray(700 << 20)); have('map', lambda: mmap.mmap(-1, 1 << 40, flags=2))
",
    )
    .class(Class::Det);
    let (one, two) = (job.run(), job.run_in(&WITHOUT).unwrap());
    assert_eq!(
        one.stdout(),
        "400\n700 MemoryError\nmap OSError\n",
        "{}",
        one.stderr()
    );
    assert_eq!(one.stdout(), two.stdout());
    assert_eq!(one.report.trace_root, two.report.trace_root);
}

/// They reserve far more addresses than they use.
#[test]
fn programs_that_reserve_much_run_with_the_usual_memory() {
    let node = Job::new(
        Interpreter::Node,
        "index.js",
        "const { Worker } = require('worker_threads');\n\
         new Worker('require(\"worker_threads\").parentPort.postMessage(new Array(1e6).fill(7).length)', { eval: true })\n\
         .on('message', (n) => console.log(n));\n",
    );
    assert_eq!(same(node).stdout(), "1000000\n");
}

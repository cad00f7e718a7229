//! Class `det`: programs that mean ill with the listener of their quick calls. Whatever they do while one of these calls
//! waits for its answer, they see the same in every run, get at nothing that is not theirs, and end as they would elsewhere.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Done, Job};
use sandrun_types::{TaskEvent, TraceEvent, TraceLeaf};

/// Makes so many quick calls that the process gets a listener.
const FIRST: &str = r"
import ctypes, mmap, os, resource, signal, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return result if result >= 0 else -ctypes.get_errno()
def warm():
    for _ in range(600):
        with open('warm', 'w') as file: file.write('warm')
        with open('warm') as file: file.read()
def make(name, length):
    with open(name, 'w') as file: file.write('x' * length)
warm()
";

/// Runs it twice, alike; a busy machine takes its time.
fn run(text: &str) -> Done {
    let job = Job::python(&format!("{FIRST}{text}"));
    let done = common::same(job.limits(|limits| limits.wall = Duration::from_secs(150)));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    done
}

#[test]
fn a_storm_of_signals_changes_no_answer() {
    let done = run(r"
make('a', 7)
make('b', 31)
seen = 0
def handler(*_):
    global seen
    fd = os.open('b', os.O_RDONLY)
    assert os.fstat(fd).st_size == 31 and os.read(fd, 64) == b'x' * 31
    os.close(fd)
    seen += 1
for number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGUSR1): signal.signal(number, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
for n in range(4000):
    fd = os.open('a', os.O_RDONLY)
    assert os.fstat(fd).st_size == 7 and os.read(fd, 64) == b'x' * 7
    os.close(fd)
    if n % 97 == 0: os.kill(os.getpid(), signal.SIGUSR1)
signal.setitimer(signal.ITIMER_REAL, 0)
print(seen > 50, seen, sorted(os.listdir('/proc/self/fd')))
");
    assert!(done.stdout().starts_with("True"), "{}", done.stdout());
}

#[test]
fn threads_that_close_and_take_each_others_files_see_their_own() {
    run(r"
for n in range(6): make(f'of{n}', 10 + n)
errors = []
def work(n):
    try:
        for k in range(400):
            fd = os.open(f'of{n}', os.O_RDONLY)
            other = os.open(f'of{(n + 1) % 6}', os.O_RDONLY)
            assert os.fstat(fd).st_size == 10 + n
            os.dup2(other, fd)
            assert os.fstat(fd).st_size == 10 + (n + 1) % 6, k
            os.close(fd)
            time.time()
            assert os.fstat(other).st_size == 10 + (n + 1) % 6
            os.close(other)
            if k % 50 == 0: time.sleep(0)
    except BaseException as error:
        errors.append(repr(error))
threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(errors, sorted(os.listdir('/proc/self/fd')))
assert not errors
");
}

#[test]
fn a_thread_executes_a_program_while_others_make_such_calls() {
    let done = run(r#"
def work():
    while True:
        os.close(os.open('main.py', os.O_RDONLY))
        time.time()
for _ in range(4): threading.Thread(target=work, daemon=True).start()
def execute():
    time.sleep(0.02)
    os.execv('/usr/bin/python3', ['python3', '-c', '''
import os
for n in range(1500):
    fd = os.open("main.py", os.O_RDONLY)
    assert os.fstat(fd).st_size > 0
    os.close(fd)
print(fd, os.listdir("/proc/self/task"))
'''])
threading.Thread(target=execute).start()
time.sleep(100)
"#);
    assert_eq!(done.stdout(), "3 ['2']\n");
}

#[test]
fn whole_families_die_at_such_calls() {
    let done = run(r"
def spin():
    while True:
        os.close(os.open('main.py', os.O_RDONLY))
        time.time()
ends = []
for round in range(25):
    child = os.fork()
    if child == 0:
        for _ in range(3): threading.Thread(target=spin, daemon=True).start()
        if round % 5 == 0:
            time.sleep(0.0005 * round)
            os.kill(os.getpid(), signal.SIGKILL)
        if round % 5 == 1:
            time.sleep(0.0003 * round)
            ctypes.string_at(0)
        if round % 5 == 2:
            grandchild = os.fork()
            if grandchild == 0: spin()
            time.sleep(0.0004 * round)
            os.kill(grandchild, signal.SIGKILL)
            os._exit(os.waitpid(grandchild, 0)[1])
        spin()
    if round % 5 > 2:
        for _ in range(round): os.close(os.open('warm', os.O_RDONLY))
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        os.kill(child, signal.SIGCONT)
        time.sleep(0.0002 * round)
        os.kill(child, signal.SIGKILL if round % 5 == 3 else signal.SIGTERM)
    status = os.waitpid(child, 0)[1]
    ends.append(status & 0x7f if status & 0x7f else status >> 8)
print(ends)
");
    let ends = [9, 11, 9, 9, 15].map(|end| end.to_string()).join(", ");
    assert_eq!(done.stdout(), format!("[{}]\n", vec![ends; 5].join(", ")));
}

#[test]
fn numbers_of_files_run_out() {
    run(r"
make('a', 5)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (9, hard))
for round in range(60):
    files = []
    while True:
        try: files.append(os.open('a', os.O_RDONLY))
        except OSError as error:
            assert error.errno == 24
            break
    assert files == [3, 4, 5, 6, 7, 8], files
    assert all(os.fstat(fd).st_size == 5 for fd in files)
    for fd in files: os.close(fd)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
print(call(257, -100, b'a', 0, 0), call(5, 99, b'', 0), call(3, 3))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(os.open('a', os.O_RDONLY))
");
}

#[test]
fn neither_the_listener_nor_a_filter_of_its_own_is_to_be_had() {
    let done = run(r"
program = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxP', 1, ctypes.addressof(program)))
print([call(317, 1, flags, filter) for flags in (0, 1, 8, 9, 16, 25, 57)])
print(call(157, 22, 2, filter), call(157, 21, 0), call(317, 2, 0, ctypes.create_string_buffer(4)))
buffer = ctypes.create_string_buffer(80)
received = [call(16, fd, 0xc0502100, buffer) for fd in range(64)]
print(any(result >= 0 for result in received), [os.readlink(f'/proc/self/fd/{fd}') for fd in (0,)])
links = [os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]
print(any('seccomp' in link or 'anon' in link for link in links))
os.closerange(3, 4096)
for n in range(800):
    with open('warm') as file: assert file.fileno() == 3 and file.read() == 'warm'
print(sorted(os.listdir('/proc/self/fd')))
");
    assert!(
        done.stdout().starts_with("[-22, -22, -22, -22, -22, -22, -22]\n"),
        "{}",
        done.stdout()
    );
    assert_eq!(done.stdout().matches("False").count(), 2, "{}", done.stdout());
}

#[test]
fn a_table_of_files_that_two_share_is_looked_at_as_it_is() {
    run(r"
for n in (1, 2, 3): make(f's{n}', n * 100)
fd = os.open('s1', os.O_RDONLY)
assert os.fstat(fd).st_size == 100
ready, done = os.pipe(), os.pipe()
child = call(56, 0x400 | signal.SIGCHLD, 0, 0, 0, 0)
if child == 0:
    for n in range(700):
        os.read(ready[0], 1)
        os.close(fd)
        assert os.open(f's{n % 3 + 1}', os.O_RDONLY) == fd
        assert os.fstat(fd).st_size == (n % 3 + 1) * 100
        os.write(done[1], b'x')
    os._exit(0)
for n in range(700):
    os.write(ready[1], b'x')
    os.read(done[0], 1)
    assert os.fstat(fd).st_size == (n % 3 + 1) * 100, n
    assert len(os.read(fd, 1000)) == (n % 3 + 1) * 100
print(os.waitpid(child, 0)[1])
");
}

#[test]
fn programs_that_are_started_in_borrowed_memory_have_their_answers() {
    run(r"
import subprocess
for n in range(12):
    text = 'for n in 1 2 3; do cat main.py warm | wc -c; done; exec 5<warm; read line <&5; echo $line'
    print(subprocess.run(['sh', '-c', text], capture_output=True, close_fds=n % 2 == 0).stdout)
    pid = os.posix_spawn('/bin/sh', ['sh', '-c', 'cat warm > copy; exit 3'], {})
    print(os.waitpid(pid, 0)[1] >> 8, os.path.getsize('copy'))
    with open('warm') as file: file.read()
");
}

#[test]
fn a_name_that_another_process_changes_leads_to_nothing_that_was_not_looked_at() {
    let done = run(r"
shared = mmap.mmap(-1, 4096)
place = ctypes.addressof(ctypes.c_char.from_buffer(shared))
names = [b'warm', b'/proc/self/stat', b'/dev/urandom', b'/proc/uptime', b'/proc/kmsg', b'../proc/self/maps', b'/proc/sched_debug']
child = os.fork()
if child == 0:
    n = 0
    while True:
        n += 1
        shared[:64] = names[n % len(names)].ljust(64, b'\0')
        time.time()
        if n % 13 == 0: os.close(os.open('warm', os.O_RDONLY))
seen = {}
for n in range(6000):
    fd = libc.syscall(ctypes.c_long(257), ctypes.c_long(-100), ctypes.c_long(place), ctypes.c_long(0), ctypes.c_long(0))
    what = bytes(shared[:64]).rstrip(b'\0')
    got = -ctypes.get_errno() if fd < 0 else os.read(fd, 24)
    if fd >= 0: os.close(fd)
    key = (what, got)
    seen[key] = seen.get(key, 0) + 1
    time.time()
os.kill(child, 9)
os.wait()
print(len({what for what, _ in seen}) > 3)
print(sorted(seen.items()))
");
    assert!(done.stdout().starts_with("True\n"), "{}", done.stdout());
}

#[test]
fn many_processes_have_listeners_of_their_own_and_leave_none() {
    let done = run(r"
def grow(depth):
    warm()
    if depth and os.fork() == 0:
        grow(depth - 1)
        os._exit(0)
    if depth: os.wait()
grow(12)
for _ in range(60):
    if os.fork() == 0:
        warm()
        os._exit(0)
    os.wait()
children = []
for n in range(20):
    child = os.fork()
    if child == 0:
        warm()
        make(f'child{n}', n)
        os._exit(0)
    children.append(child)
for child in children: assert os.waitpid(child, 0)[1] == 0
print([os.path.getsize(f'child{n}') for n in range(20)])
");
    let written = done.trace().into_iter().filter(|leaf| {
        let TraceLeaf::Event(TraceEvent::Task { event, .. }) = leaf else {
            return false;
        };
        matches!(event, TaskEvent::FileWritten { path, .. } if path.to_string().contains("/child"))
    });
    assert_eq!(written.count(), 20);
}

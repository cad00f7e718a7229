//! Class `det`: calls that come by a listener once a process has made many of them. Programs see the same answers as by
//! stops, in the same order, and their traces are the same in every run.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Done, Job};
use sandrun_sandbox::Class;
use sandrun_types::{RunOutcome, TaskEvent, TraceEvent, TraceLeaf};

/// Makes so many quick calls that the process gets a listener, where there is a 6 for the X.
const FIRST: &str = r"
import os, sys
for _ in range(0xX00):
    with open('warm', 'w') as file: file.write('warm')
    with open('warm') as file: file.read()
";

/// A job of it. A busy machine takes its time.
fn python(many: &str, text: &str) -> Job {
    let job = Job::python(&format!("{}{text}", FIRST.replace('X', many)));
    job.class(Class::Det)
        .limits(|limits| limits.wall = Duration::from_secs(100))
}

/// Runs it with the listener, after it was the same twice.
fn warm(text: &str) -> Done {
    let done = common::same(python("6", text));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    done
}

/// The same without.
fn cold(text: &str) -> Done {
    let done = common::same(python("0", text));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    done
}

/// What a trace says of files other than `warm` and the program itself.
fn files(done: &Done) -> Vec<String> {
    let events = done.trace().into_iter().filter_map(|leaf| {
        let TraceLeaf::Event(TraceEvent::Task { event, .. }) = leaf else {
            return None;
        };
        let (TaskEvent::FileRead { path, .. } | TaskEvent::FileWritten { path, .. }) = &event else {
            return None;
        };
        let is_one = |name: &&str| path.to_string().ends_with(name);
        (!["/warm", "/main.py"].iter().any(is_one)).then(|| format!("{event:?}"))
    });
    events.collect()
}

#[test]
fn answers_and_events_are_those_of_stops() {
    const TEXT: &str = r"
def told(stat): return (stat.st_size, oct(stat.st_mode), stat.st_dev, stat.st_nlink, stat.st_uid, stat.st_blocks)
for n in range(50):
    with open(f'a{n}', 'w') as file:
        print(told(os.fstat(file.fileno())))
        file.write('x' * n)
        file.flush()
        print(told(os.fstat(file.fileno())))
    with open(f'a{n}') as file: print(file.read(), told(os.fstat(file.fileno())))
    if n % 7 == 0: os.rename(f'a{n}', f'b{n}')
for bad in (99, -1, 2**31 - 1):
    for call in (os.fstat, os.close):
        try: call(bad)
        except OSError as error: print(error.errno)
for name in ('/proc/self/stat', '/dev/urandom', '/proc/uptime', '/nowhere', '/proc/kmsg', '../etc/passwd', '', 'a' * 300):
    try:
        with open(name, 'rb') as file: print(name, len(file.read(16)))
    except OSError as error: print(name, error.errno)
try: os.open('a1', os.O_RDONLY | 0o40000)
except OSError as error: print(error.errno)
print(os.fstat(os.open('/work', os.O_PATH)).st_size, sorted(os.listdir('/proc/self/fd'))[:4])
os.chdir('/')
print(len(open('work/a9').read()), os.stat('work/a9').st_size)
";
    let (cold, warm) = (cold(TEXT), warm(TEXT));
    assert_eq!(cold.stdout(), warm.stdout());
    assert_eq!(files(&cold), files(&warm));
    assert!(files(&warm).len() >= 100, "{:?}", files(&warm));
}

/// What a trace says was read and written: the kind, the path, the length and the hash of the content.
fn told(done: &Done) -> Vec<String> {
    let events = done.trace().into_iter().filter_map(|leaf| {
        let TraceLeaf::Event(TraceEvent::Task { event, .. }) = leaf else {
            return None;
        };
        let (kind, path, content) = if let TaskEvent::FileWritten { path, content } = &event {
            ("written", path, content)
        } else if let TaskEvent::FileRead { path, content } = &event {
            ("read", path, content)
        } else {
            return None;
        };
        let path = path.to_string();
        let is_one = |name: &&str| path.ends_with(name);
        let line = format!("{kind} {path} {} {}", content.length, content.sha256);
        (!["/warm", "/main.py"].iter().any(is_one)).then_some(line)
    });
    events.collect()
}

#[test]
fn contents_and_names_are_those_at_the_close_whatever_moved_meanwhile() {
    // each line that it prints is an event that has to be there
    const TEXT: &str = r"
import hashlib, mmap
def told(kind, path, content):
    content = content.encode()
    print(kind, '/work/' + path, len(content), hashlib.sha256(content).hexdigest())
def write(name, content, path=None):
    with open(name, 'w') as file: file.write(content)
    told('written', path or name, content)
def read(name, content, path=None):
    with open(name) as file: assert file.read() == content
    told('read', path or name, content)
for name in 'dxyz': os.mkdir(name)
write('d/a', 'one'); write('d/b', 'two'); read('d/a', 'one')
for n in range(2):
    raw = os.open('d/raw', os.O_WRONLY | os.O_CREAT); os.write(raw, b'raw%d' % n); os.close(raw)
    told('written', 'd/raw', f'raw{n}')
# the directory gets another name, and another directory gets its name
one = open('d/c', 'w'); one.write('three')
os.rename('d', 'e'); os.mkdir('d')
two = open('d/c', 'w'); two.write('four')
one.close(); told('written', 'e/c', 'three')
two.close(); told('written', 'd/c', 'four')
for n in range(3):
    write('x/f', f'five {n}')
    os.rename('x', f'x{n}'); os.mkdir('x')
# a directory goes and comes again, and so does the current one
for n in range(3):
    write('y/g', f'six {n}'); os.unlink('y/g'); os.rmdir('y'); os.mkdir('y')
for name in ('y', 'z'):
    os.chdir(name); write('h', name, name + '/h'); os.chdir('/work')
# another file has the name at the end, or none has
one = open('z/i', 'w'); one.write('seven'); one.flush()
os.rename('z/i', 'z/j'); write('z/i', 'eight')
one.close(); told('written', 'z/j', 'seven')
one = open('z/k', 'w'); one.write('nine'); one.flush(); os.unlink('z/k'); told('written', 'z/k', 'nine')
one.write(' more'); write('z/k', 'ten')
one.close(); told('written', 'z/k (deleted)', 'nine more')
# several names, several descriptors, several processes
one = open('z/l', 'w'); os.link('z/l', 'z/m'); one.write('eleven')
one.close(); told('written', 'z/l', 'eleven')
one = open('z/n', 'w'); two = os.dup(one.fileno()); one.write('12')
one.close(); told('written', 'z/n', '12')
os.write(two, b'+'); os.close(two); told('written', 'z/n', '12+')
one = open('z/o', 'w'); two = open('z/o', 'r+'); one.write('thirteen')
one.close(); told('written', 'z/o', 'thirteen')
two.write('T'); two.close(); told('written', 'z/o', 'Thirteen')
one = open('z/o'); two = os.open('z/o', os.O_WRONLY); assert one.read() == 'Thirteen'
os.ftruncate(two, 3)
one.close(); told('written', 'z/o', 'Thi'); told('read', 'z/o', 'Thi')
os.close(two)
one = open('z/p', 'w'); one.write('fourteen'); one.flush()
if os.fork() == 0: os.truncate('z/p', 4); os._exit(0)
os.wait(); told('written', 'z/p', 'four'); one.close()
one = open('z/q', 'w'); two = open(f'/proc/self/fd/{one.fileno()}', 'w'); two.write('fifteen')
two.close(); told('written', 'z/q', 'fifteen'); one.close()
one = open('z/r', 'w+b'); one.truncate(4096); page = mmap.mmap(one.fileno(), 4096)
one.close(); told('written', 'z/r', chr(0) * 4096)
page[0] = 65; one = open('z/r')
one.close(); told('written', 'z/r', 'A' + chr(0) * 4095); told('read', 'z/r', 'A' + chr(0) * 4095)
write('z/s', 'sixteen'); os.chmod('z/s', 0o600); read('z/s', 'sixteen'); os.truncate('z/s', 5)
one = open('z/s')
one.close(); told('written', 'z/s', 'sixte'); told('read', 'z/s', 'sixte')
# a program that takes the place of this one has another memory
sys.stdout.flush()
os.execv(sys.executable, ['python3', '-c', '''
import hashlib
for n in range(3):
    for name in ('/proc/self/stat', 'z/t'):
        if name[0] == '/': assert open(name).read().count(' ') > 40; continue
        with open(name, 'w') as file: file.write(str(n))
        print('written', '/work/z/t', 1, hashlib.sha256(str(n).encode()).hexdigest())
'''])
";
    let (cold, warm) = (cold(TEXT), warm(TEXT));
    for done in [&cold, &warm] {
        let expected: Vec<_> = done.stdout().lines().map(str::to_owned).collect();
        assert_eq!(told(done), expected);
    }
    assert_eq!(cold.stdout(), warm.stdout());
}

#[test]
fn a_call_that_needs_a_stop_gets_one() {
    const TEXT: &str = r"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(256)
def call(*arguments):
    result = libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return result if result >= 0 else -ctypes.get_errno()
MARK = 0x7a3c91e5
# a name with the flag for none, no name at all, bad places; a last argument as the tracer has it itself, or any
for last in (0, 5, MARK, MARK + 2**32, -1):
    print(call(262, -100, b'warm' if os.path.exists('warm') else b'main.py', buffer, 0x1000, 0, last))
    print(call(262, 1, b'', buffer, 0x1000, 0, last), call(262, -100, b'', buffer, 0x1000, 0, last))
    print(call(262, 1, 8, buffer, 0x1000, 0, last), call(262, 1, 0, 8, 0x1000, 0, last), call(5, 1, 8, 0, 0, 0, last))
    for name in (b'/proc/self/status', b'main.py', b'/dev/null', b'no/where'):
        fd = call(257, -100, name, 0, 0, 0, last)
        print(name, fd, call(5, fd, buffer, 0, 0, 0, last), buffer.raw[48:56] if fd > 0 and b'proc' not in name else 0)
        print(call(3, fd, 0, 0, 0, 0, last), call(3, fd, 0, 0, 0, 0, last))
    print(call(257, -100, 8, 0, 0, 0, last))
";
    assert_eq!(cold(TEXT).stdout(), warm(TEXT).stdout());
}

#[test]
fn registers_are_as_they_were_behind_a_stop() {
    warm(
        r"
import ctypes, mmap, struct
# openat of /proc/self/stat with 77 in r9; returns r9
code = bytes.fromhex('b801010000' '48c7c79cffffff' '4889f6' '31d2' '4531d2' '4531c0' '49c7c14d000000' '0f05' '4c89c8' 'c3')
page = mmap.mmap(-1, 4096, prot=7)
page.write(code)
place = ctypes.addressof(ctypes.c_char.from_buffer(page))
call = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_char_p)(place)
for name in (b'/proc/self/stat', b'/proc/self/stat', b'main.py', b'/dev/urandom', b'/proc/kmsg'):
    assert call(0, name) == 77, call(0, name)
",
    );
}

#[test]
fn waits_threads_and_children_go_on() {
    let done = warm(
        r"
import subprocess, threading, signal, time
os.mkfifo('fifo')
if os.fork() == 0:
    with open('fifo', 'w') as file: file.write('through the pipe')
    os._exit(0)
with open('fifo') as file: print(file.read())
os.wait()
def work(n):
    for k in range(300):
        with open(f't{n}', 'a') as file: file.write(f'{n} {k}\n')
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print([os.path.getsize(f't{n}') for n in range(4)])
print(subprocess.check_output(['sh', '-c', 'echo $$; cat main.py | wc -c; ls /proc/self/fd']))
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(len(open('main.py').read())))
signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
for k in range(400):
    with open('main.py') as file: file.read()
    with open('/proc/uptime') as file: file.read()
    if k == 0: os.mkdir('d')
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(seen), len(os.listdir('/proc/self/fd')))
",
    );
    assert!(
        done.stdout().starts_with("through the pipe\n"),
        "{}",
        done.stdout()
    );
}

#[test]
fn processes_are_killed_at_such_calls() {
    let done = warm(
        r"
import signal, time
children = []
for n in range(4):
    child = os.fork()
    if child == 0:
        while True:
            with open('main.py') as file: file.read()
            if n % 2: time.time()
    children.append(child)
time.sleep(0.05)
for child in children: os.kill(child, signal.SIGKILL if child % 2 else signal.SIGTERM)
print([os.waitpid(child, 0)[1] for child in children])
child = os.fork()
if child == 0:
    while True: os.close(os.open('main.py', os.O_RDONLY))
time.sleep(0.02)
os.kill(child, signal.SIGSTOP)
print(os.waitpid(child, os.WUNTRACED)[1] & 0xff)
os.kill(child, signal.SIGCONT)
time.sleep(0.02)
os.kill(child, signal.SIGKILL)
print(os.waitpid(child, 0)[1])
",
    );
    let deaths = done.stdout();
    assert!(deaths.ends_with("]\n127\n9\n"), "{deaths}");
}

#[test]
fn one_that_is_executed_later_has_its_clock_and_its_files() {
    let done = warm(
        r"
os.execv('/usr/bin/python3', ['python3', '-c', '''
import os, time
print(sorted(os.listdir('/proc/self/fd')), time.time() < time.time())
for _ in range(700):
    with open('warm') as file: file.read()
print(sorted(os.listdir('/proc/self/fd')), open('/proc/self/status').read().count('Seccomp'))
'''])
"
        .replace("'/proc/self/fd'", "\"/proc/self/fd\"")
        .replace("'warm'", "\"warm\"")
        .replace("'/proc/self/status'", "\"/proc/self/status\"")
        .replace("'Seccomp'", "\"Seccomp\"")
        .as_str(),
    );
    let lines: Vec<_> = done.stdout().lines().map(str::to_owned).collect();
    assert!(lines[0].ends_with("True"), "{lines:?}");
    assert_eq!(
        lines[0].split(']').next(),
        lines[1].split(']').next(),
        "{lines:?}"
    );
}

#[test]
fn one_without_room_for_a_listener_goes_on_without() {
    const TEXT: &str = r"
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
for n in range(700):
    fd = os.open('main.py', os.O_RDONLY)
    os.fstat(fd)
    os.close(fd)
print(fd, os.path.getsize('main.py') > 0)
";
    let done = cold(TEXT);
    assert_eq!(done.stdout(), "3 True\n");
}

#[test]
fn the_turn_of_others_comes() {
    let done = warm(
        r"
if os.fork() == 0:
    for n in range(3000): os.close(os.open('main.py', os.O_RDONLY))
    print('child', flush=True)
    os._exit(0)
for n in range(30000): os.close(os.open('main.py', os.O_RDONLY))
print('parent', flush=True)
os.wait()
",
    );
    assert_eq!(done.stdout(), "child\nparent\n");
}

#[test]
fn the_end_of_its_time_comes_at_such_a_call() {
    // a second before it started its clock stood at zero; the end of its hundred comes at one of these calls
    let job = python(
        "6",
        r"
import time
time.sleep(100.98 - time.monotonic())
file = os.open('main.py', os.O_RDONLY)
while True:
    try: os.close(os.dup(file))
    except OSError: os.write(2, b'never')
",
    );
    let done = job.run();
    assert_eq!(done.report.outcome, RunOutcome::Budget, "{}", done.stderr());
    assert_eq!((done.stdout(), done.stderr()), (String::new(), String::new()));
}

#[test]
fn a_process_that_makes_many_such_calls_has_a_listener() {
    let name = format!("/work/of-{}", std::process::id());
    let job = python("6", &format!("open({name:?}, 'w').close()\nsum(range(10**8))\n"));
    let running = std::thread::spawn(move || job.run());
    let mut is_seen = false;
    while !is_seen && !running.is_finished() {
        is_seen = tracers_of(&name).iter().any(|tracer| has_listener(tracer));
        std::thread::yield_now();
    }
    assert_eq!(running.join().unwrap().report.exit_code, 0);
    assert!(is_seen);
}

/// The tracers of processes that have a file by this name in their tree.
fn tracers_of(name: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let tracer = |process: std::path::PathBuf| {
        let root = process.join("root");
        std::fs::symlink_metadata(root.join(name.trim_start_matches('/'))).ok()?;
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
        Some(line.trim().to_owned())
    };
    processes.filter_map(|process| tracer(process.path())).collect()
}

fn has_listener(tracer: &str) -> bool {
    let files = std::fs::read_dir(format!("/proc/{tracer}/fd"));
    files.is_ok_and(|files| {
        files.filter_map(Result::ok).any(|file| {
            std::fs::read_link(file.path())
                .is_ok_and(|link| link.to_string_lossy().contains("seccomp notify"))
        })
    })
}

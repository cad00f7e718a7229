//! Class `det`: whoever waits for a lock of a file goes on when it is let go of, by whichever way, and at that time.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Done, Job, same};
use sandrun_sandbox::Class;
use sandrun_types::RunOutcome;

fn python(text: &str) -> Done {
    same(Job::python(text))
}

/// Somebody has the lock for 70 ms and lives on; who asks after 20 ms waits for 50 ms.
#[test]
fn whoever_waits_goes_on_when_the_lock_is_let_go_of_or_weakened() {
    let done = python(
        r"
import ctypes, fcntl, os, struct, time
libc = ctypes.CDLL(None, use_errno=True)
def ofd(kind, command): return lambda f: fcntl.fcntl(f, command, struct.pack('hhqqi4x', kind, 0, 0, 0, 0))
OFD_SETLK, OFD_SETLKW = 37, 38
posix = lambda how: lambda f: fcntl.lockf(f, how)
flock = lambda how: lambda f: fcntl.flock(f, how)
EX, SH, UN, NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_UN, fcntl.LOCK_NB
ways = {
    'un': lambda f, lock: lock(UN)(f),
    'sh': lambda f, lock: lock(SH)(f), 'sh nb': lambda f, lock: lock(SH | NB)(f),
    'close': lambda f, lock: os.close(f), 'dup2': lambda f, lock: os.dup2(1, f), 'dup3': lambda f, lock: libc.dup3(1, f, 0),
    'close_range': lambda f, lock: os.closerange(f, f + 1), 'exec': lambda f, lock: os.execv('/bin/sleep', ['sleep', '0.2']),
    'exit': lambda f, lock: os._exit(0),
}
def wait(name, take, ask, let_go):
    if (pid := os.fork()) == 0:
        f = os.open('lock', os.O_RDWR | os.O_CREAT); take(f); time.sleep(0.07); let_go(f); time.sleep(0.2); os._exit(0)
    time.sleep(0.02); g = os.open('lock', os.O_RDWR); start = time.monotonic(); ask(g)
    print(name, round(time.monotonic() - start, 3), flush=True); os.close(g); os.waitpid(pid, 0)
for kind, lock in [('posix', posix), ('flock', flock)]:
    for name, way in ways.items(): wait(f'{kind} {name}', lock(EX), lock(SH), lambda f: way(f, lock))
for name, how in [('un', ofd(2, OFD_SETLK)), ('un wait', ofd(2, OFD_SETLKW)), ('sh', ofd(0, OFD_SETLK)), ('sh wait', ofd(0, OFD_SETLKW))]:
    wait(f'ofd {name}', ofd(1, OFD_SETLK), ofd(0, OFD_SETLKW), how)
# nothing tells when the last mapping goes
kept = [None]
def take_mapped(f): os.ftruncate(f, 4096); flock(EX)(f); kept[0] = libc.mmap(None, 4096, 1, 1, f, 0); os.close(f)
libc.mmap.restype = ctypes.c_void_p
wait('unmapped', take_mapped, flock(SH), lambda f: libc.munmap(ctypes.c_void_p(kept[0]), 4096))
",
    );
    let text = done.stdout();
    let lines: Vec<(&str, f64)> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, time)| (name, time.parse().unwrap()))
        .collect();
    assert_eq!(lines.len(), 23, "{text}{}", done.stderr());
    for (name, waited) in lines {
        let most = if name == "unmapped" { 0.11 } else { 0.06 };
        assert!((0.05..most).contains(&waited), "{name} {waited}\n{text}");
    }
}

#[test]
fn whoever_waits_for_each_other_is_told() {
    let done = python(
        r"
import fcntl, os, time
EX = fcntl.LOCK_EX
def lock(f, at):
    try: fcntl.lockf(f, EX, 1, at); return 'locked'
    except OSError as e: return e.errno
def others(count, file):
    for n in range(count):
        if os.fork() == 0:
            g = open(file, 'r+'); lock(g, n + 1); time.sleep(0.1 * (n + 1))
            print(n + 1, lock(g, n), flush=True); os._exit(0)
    time.sleep(0.5)
for file, count in [('two', 1), ('three', 2), ('four', 3)]:
    f = open(file, 'w+'); lock(f, 0); others(count, file)
    print(file, lock(f, count), flush=True); f.close()
    for _ in range(count): os.wait()
# nobody waits for himself, and locks of open files are not looked at
f = open('own', 'w+'); lock(f, 0); print(lock(f, 0), lock(open('own', 'r+'), 0))
",
    );
    let expected = "two 35\n1 locked\nthree 35\n1 locked\n2 locked\nfour 35\n1 locked\n2 locked\n3 locked\nlocked locked\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

#[test]
fn who_waits_for_whoever_never_lets_go_waits_for_all_of_its_time() {
    let done = python(
        r"
import fcntl, os, signal, time
f = open('lock', 'w+'); fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX)
class Over(Exception): pass
def over(*_): raise Over
signal.signal(signal.SIGALRM, over)
if os.fork() == 0:
    g = open('lock', 'r+')
    for how in [fcntl.flock, fcntl.lockf]:
        start = time.monotonic(); signal.alarm(5)
        try: how(g, fcntl.LOCK_EX)
        except Over: print(round(time.monotonic() - start, 3), flush=True)
    os._exit(0)
os.wait()
",
    );
    assert_eq!(done.stdout(), "5.0\n5.0\n", "{}", done.stderr());
}

/// Whoever has a lock may compute as long as he likes, since nobody but he can go on.
#[test]
fn work_under_a_lock_is_no_spin() {
    let text = r"
import fcntl, os, time
f = open('lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX)
if os.fork() == 0: fcntl.flock(open('lock'), fcntl.LOCK_SH)
time.sleep(0.01)
while True: pass
";
    let job = Job::python(text).class(Class::Det);
    let done = job.limits(|limits| limits.cpu = Duration::from_secs(3)).run();
    assert_eq!(done.report.outcome, RunOutcome::Timeout);
    assert!(
        done.report.explanation.contains("CPU"),
        "{}",
        done.report.explanation
    );
}

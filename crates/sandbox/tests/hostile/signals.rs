//! Signals to others, to oneself, and as many as there can be.

use std::time::Duration;

use sandrun_sandbox::Class;
use sandrun_types::RunOutcome;

use crate::common::Job;
use crate::hostile;

pub fn signals_reach_the_job_only(class: Class) {
    let text = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nfor pid in [1, -1, 99999]:\n\
        \x20 try: os.kill(pid, signal.SIGKILL if pid == 1 else signal.SIGTERM)\n  except OSError as e: print(pid, e.errno in (1, 3))\nprint('alive')\n";
    let done = hostile(class, &Job::python(text));
    assert!(
        done.stdout().ends_with("99999 True\nalive\n"),
        "{} {}",
        done.stdout(),
        done.stderr()
    );
}

pub fn stops_do_not_stop_the_supervisor(class: Class) {
    let text = r"
import os, signal
for target in [1, os.getppid(), -1, 0, -1 & 0x7fffffff]:
    for number in [signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT, signal.SIGTRAP, signal.SIGALRM]:
        if target == 0 and number in (signal.SIGSTOP, signal.SIGTRAP, signal.SIGALRM, signal.SIGTSTP): continue
        try: os.kill(target, number)
        except OSError: pass
print('went on', flush=True)
if os.fork() == 0:
    while True: os.kill(os.getpid(), signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)
";
    // in real time it lasts as long as it may
    let wall = match class {
        Class::Native => Duration::from_secs(5),
        Class::Det | Class::DetSoft => Duration::from_secs(100),
    };
    let done = hostile(class, &Job::python(text).limits(|l| l.wall = wall));
    assert_eq!(done.stdout(), "went on\n", "{}", done.stderr());
    assert!(
        matches!(done.report.outcome, RunOutcome::Timeout | RunOutcome::Budget),
        "{:?}",
        done.report.outcome
    );
}

pub fn storms_of_signals_and_timers(class: Class) {
    let text = r"
import ctypes, os, signal, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
seen = 0
def count(*_):
    global seen
    seen += 1
for number in [10, 12, 14, 34, 35, 63]: signal.signal(number, count)
made = 0
for n in range(3000):
    timer = ctypes.c_int()
    event = struct.pack('QiiI', n, 34, 0, 0) + bytes(48)
    if libc.syscall(222, 1, event, ctypes.byref(timer)): break
    libc.syscall(223, timer, 0, struct.pack('qqqq', 0, 1000, 0, 1000), None); made += 1
print(made <= 1024, flush=True)
signal.setitimer(signal.ITIMER_REAL, 0.00001, 0.00001)
pid = os.fork()
if pid == 0:
    parent = os.getppid()
    for n in range(2000):
        for number in (10, 12, 35, 63):
            try: os.kill(parent, number)
            except OSError: pass
    os._exit(0)
def work():
    for n in range(500): os.kill(os.getpid(), 12)
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
while True:
    try: os.waitpid(pid, 0); break
    except InterruptedError: pass
print(seen > 0, flush=True)
os._exit(0)
";
    // a busy machine needs its time for the first of them
    let wall = match class {
        Class::Native => Duration::from_secs(6),
        Class::Det | Class::DetSoft => Duration::from_secs(30),
    };
    let done = hostile(class, &Job::python(text).limits(|l| l.wall = wall));
    // in real time a thousand timers may leave no time for anything else
    let drowned = class == Class::Native && done.report.outcome == RunOutcome::Timeout;
    assert!(
        drowned || done.stdout().starts_with("True\n"),
        "{:?} {} {}",
        done.report.outcome,
        done.stdout(),
        done.stderr()
    );
}

pub fn no_core_is_dumped(class: Class) {
    let text = "ulimit -c unlimited 2>/dev/null; for s in SEGV ABRT QUIT BUS; do (kill -$s $BASHPID) 2>/dev/null; done; ls -A /work /tmp; ulimit -Hc\n";
    let done = hostile(class, &Job::bash(text));
    assert_eq!(done.stdout(), "/tmp:\n\n/work:\nrun.sh\n0\n", "{}", done.stderr());
}

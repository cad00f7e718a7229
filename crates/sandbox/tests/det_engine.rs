//! Class `det`: the tracer's engine. Every program has one output and one trace, ends with a status, and leaves nothing.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Done, Job};
use sandrun_sandbox::{Class, Limits};
use sandrun_types::RunOutcome;

/// Runs a job some times: its end, after it was the same each time.
fn same(job: &Job) -> Done {
    const TIMES: usize = 4;
    let mut seen = BTreeSet::new();
    let mut last = None;
    for _ in 0..TIMES {
        let done = job.run();
        seen.insert((
            done.stdout(),
            done.stderr(),
            done.report.exit_code,
            done.report.explanation.clone(),
            done.report.trace_root.to_string(),
        ));
        last = Some(done);
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
    last.expect("it ran")
}

fn python(text: &str) -> Job {
    Job::python(text).class(Class::Det).limits(roomy)
}

fn bash(text: &str) -> Job {
    Job::bash(text).class(Class::Det).limits(roomy)
}

/// A busy machine takes its time.
fn roomy(limits: &mut Limits) {
    limits.processes = 64;
    limits.wall = Duration::from_secs(100);
}

#[test]
fn threads_take_turns_in_one_order() {
    let done = same(&python(
        r"
import threading, time, random
seen, lock, condition = [], threading.Lock(), threading.Condition()
def work(n):
    for k in range(50):
        with lock: seen.append(n)
        if k % 10 == 0: time.sleep(random.random() / 1000)
    with condition: condition.notify_all()
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
with condition: print(condition.wait(30))
for thread in threads: thread.join()
print(seen, time.time())
",
    ));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
}

#[test]
fn processes_pipes_and_signals_come_in_one_order() {
    let done = same(&python(
        r"
import os, signal, subprocess, sys, time
print(subprocess.check_output(['sh', '-c', 'echo $$; date +%N']))
both = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(len(both.communicate(b'x' * 300_000)[0]))
child = os.fork()
if child == 0:
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
    while True: signal.pause()
time.sleep(0.01)
os.kill(child, signal.SIGUSR1)
print(os.waitpid(child, 0))
child = os.fork()
if child == 0:
    while True: time.sleep(1)
os.kill(child, signal.SIGKILL)
print(os.waitpid(child, 0), time.time())
",
    ));
    assert!(done.stdout().contains("300000"), "{}", done.stderr());
    assert!(done.stdout().contains("1792)"), "{}", done.stdout());
}

#[test]
fn background_jobs_and_named_pipes_meet() {
    let done = same(&bash(
        r#"
mkfifo /tmp/done
for i in 3 1 2; do (sleep 0.$i; echo "$i $RANDOM $BASHPID" > /tmp/done) & done
exec 3<> /tmp/done
for i in 1 2 3; do read -r line <&3; echo "$line"; done
wait
seq 1 50000 | sort -rn | head -n 2
trap 'echo usr1' USR1
(kill -USR1 $$) ; sleep 0.1
(kill -STOP $BASHPID; echo went on) & child=$!
sleep 0.1; kill -CONT $child; wait $child
echo "$SECONDS $EPOCHREALTIME"
"#,
    ));
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
    assert!(done.stdout().starts_with("1 "), "{}", done.stdout());
}

#[test]
fn timers_run_in_virtual_time() {
    let done = same(&python(
        r"
import select, signal, time, os
signal.signal(signal.SIGALRM, lambda *_: print('alarm', time.time()))
signal.alarm(2)
time.sleep(5)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
for _ in range(3): signal.pause()
signal.setitimer(signal.ITIMER_REAL, 0.05)
start = time.time()
while time.time() - start < 0.2: pass
r, w = os.pipe()
print(select.select([r], [], [], 1.5), time.time())
print(signal.sigtimedwait([signal.SIGUSR1], 0.5), time.time())
",
    ));
    assert_eq!(done.stdout().matches("alarm").count(), 5, "{}", done.stdout());
}

#[test]
fn a_sleep_costs_no_time_and_the_budget_ends_it() {
    let done = same(
        &python("import time; time.sleep(30); print('never')").limits(|limits| {
            limits.wall = Duration::from_secs(10);
        }),
    );
    assert_eq!(done.report.outcome, RunOutcome::Budget);
    assert!(done.report.usage.wall < Duration::from_secs(5));
    let done = same(
        &python("import time; time.sleep(9); print('slept')").limits(|limits| {
            limits.wall = Duration::from_secs(10);
        }),
    );
    assert_eq!((done.report.exit_code, done.stdout().as_str()), (0, "slept\n"));
}

#[test]
fn a_deadlock_ends_with_the_budget() {
    let done = same(&python(
        "import threading; l = threading.Lock(); l.acquire(); l.acquire()",
    ));
    assert_eq!(done.report.outcome, RunOutcome::Budget);
}

#[test]
fn a_spin_while_another_thread_waits_is_named() {
    let text = "import threading\nflag = []\nthreading.Timer(0.01, flag.append, (1,)).start()\nwhile not flag: pass\n";
    let done = python(text)
        .limits(|limits| limits.wall = Duration::from_secs(3))
        .run();
    assert_eq!(done.report.outcome, RunOutcome::Timeout);
    assert!(
        done.report.explanation.contains("native"),
        "{}",
        done.report.explanation
    );
}

#[test]
fn a_thread_that_executes_a_program_becomes_the_process() {
    let done = same(&python(
        r"
import os, threading, time
for _ in range(3): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
thread = threading.Thread(target=os.execv, args=('/bin/sh', ['sh', '-c', 'echo $$ went on']))
thread.start()
time.sleep(5)
",
    ));
    assert_eq!(done.stdout(), "2 went on\n", "{}", done.stderr());
}

#[test]
fn a_main_thread_may_end_before_the_others() {
    let done = same(&python(
        r"
import ctypes, threading, time, os
def later():
    time.sleep(0.1)
    os.write(1, b'later\n')
    os._exit(5)
threading.Thread(target=later).start()
ctypes.CDLL(None).syscall(60, 0)
",
    ));
    assert_eq!(
        (done.report.exit_code, done.stdout().as_str()),
        (5, "later\n"),
        "{}",
        done.stderr()
    );
}

#[test]
fn threads_without_their_leader_still_use_pipes() {
    let done = same(&python(
        r"
import ctypes, os, select, threading, time
ends = os.pipe()
def read():
    print(select.select([ends[0]], [], [], 5)[0] == [ends[0]])
    while data := os.read(ends[0], 100): print(data, time.monotonic())
    print(os.popen('echo a child').read(), len(os.listdir('/proc/self/fd')), flush=True)
def write():
    for n in range(5):
        time.sleep(0.01)
        os.write(ends[1], b'%d' % n)
    os.close(ends[1])
for body in read, write: threading.Thread(target=body).start()
ctypes.CDLL(None).syscall(60, 6)
",
    ));
    assert_eq!(done.report.exit_code, 6, "{}", done.stderr());
    assert!(done.stdout().contains("a child\n"), "{}", done.stdout());
}

/// As by the kernel, if it were dead.
#[test]
fn locks_of_a_leader_that_ends_first_are_told_as_lost() {
    let done = same(&python(
        r"
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
kind = ctypes.create_string_buffer(8); libc.pthread_mutexattr_init(kind); libc.pthread_mutexattr_setrobust(kind, 1)
locks = [ctypes.create_string_buffer(64) for _ in range(3)]
for lock in locks: libc.pthread_mutex_init(lock, kind); libc.pthread_mutex_lock(lock)
libc.pthread_mutex_unlock(locks[1])
r, w = os.pipe()
def wait(n):
    got = libc.pthread_mutex_lock(locks[n])
    if got == 130: libc.pthread_mutex_consistent(locks[n])
    os.write(w, b'%d %d\n' % (n, got))
    libc.pthread_mutex_unlock(locks[n])
def read():
    got = b''
    while got.count(b'\n') < 4: got += os.read(r, 99)
    os.write(1, got); os._exit(7)
for n in [0, 0, 1, 2]: threading.Thread(target=wait, args=(n,)).start()
threading.Thread(target=read).start()
time.sleep(0.1)
libc.syscall(60, 0)
",
    ));
    let out = done.stdout();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0 0", "0 130", "1 0", "2 130"], "{}", done.stderr());
    assert_eq!(done.report.exit_code, 7);
}

#[test]
fn many_messages_at_once_come_in_virtual_time_and_pages_are_never_taken_later() {
    let done = same(&python(
        r"
import ctypes, errno, mmap, socket, threading, time
libc = ctypes.CDLL(None, use_errno=True)
class Piece(ctypes.Structure): _fields_ = [('at', ctypes.c_void_p), ('length', ctypes.c_size_t)]
class Message(ctypes.Structure):
    _fields_ = [('name', ctypes.c_void_p), ('namelen', ctypes.c_uint), ('pieces', ctypes.POINTER(Piece)),
                ('count', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t),
                ('flags', ctypes.c_int), ('done', ctypes.c_uint)]
text = ctypes.create_string_buffer(b'message', 64)
pieces = [Piece(ctypes.addressof(text), 7) for _ in range(5)]
many = (Message * 5)(*[Message(pieces=ctypes.pointer(piece), count=1) for piece in pieces])
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
def send():
    time.sleep(0.01)
    left = 30
    while left: left -= libc.sendmmsg(a.fileno(), many, min(left, 5), 0)
thread = threading.Thread(target=send)
thread.start()
got = 0
while got < 30:
    got += libc.recvmmsg(b.fileno(), many, 4, 0, None)
    print(got, time.monotonic())
    time.sleep(0.001)
thread.join()
print(libc.recvmmsg(b.fileno(), many, 1, 0, (ctypes.c_long * 2)(0, 5000000)), ctypes.get_errno() == errno.EAGAIN)
pages = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pages.write(b'x' * (1 << 20))
try: pages.madvise(8)
except OSError as error: print(error.errno == errno.EINVAL, pages[:2] + pages[-2:])
print(libc.syscall(289, -1, ctypes.byref(ctypes.c_ulong(1)), 8, 0), ctypes.get_errno() == errno.ENOSYS)
",
    ));
    assert!(
        done.stdout().ends_with("-1 True\nTrue b'xxxx'\n-1 True\n"),
        "{} {}",
        done.stdout(),
        done.stderr()
    );
    assert_eq!(done.report.exit_code, 0, "{}", done.stderr());
}

#[test]
fn the_clock_is_the_same_by_call_by_vdso_and_by_instruction() {
    let done = same(&python(
        r"
import ctypes, time, mmap
print(time.time(), time.monotonic(), time.perf_counter_ns(), time.clock_gettime(11))
libc = ctypes.CDLL(None)
class T(ctypes.Structure): _fields_ = [('s', ctypes.c_long), ('n', ctypes.c_long)]
t = T()
print(libc.syscall(228, 1, ctypes.byref(t)), t.s, t.n)
code = mmap.mmap(-1, 4096, prot=7)
def run(code_bytes):
    code.seek(0); code.write(code_bytes)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_ulong)(address)()
# rdtsc; shl rdx, 32; or rax, rdx; ret
print(run(bytes.fromhex('0f3148c1e2204809d0c3')))
# push rbx; mov eax, 1; xor ecx, ecx; cpuid; mov rax, rcx; pop rbx; ret
features = run(bytes.fromhex('53b80100000031c90fa24889c85bc3'))
print(bool(features >> 30 & 1), bool(features >> 28 & 1), bool(features >> 12 & 1))
",
    ));
    // where the processor answers for itself it says what it has
    assert!(
        done.stdout().ends_with("False False False\n") || !sandrun_sandbox::masks_cpuid(),
        "{} {}",
        done.stdout(),
        done.stderr()
    );
}

/// Random calls, arguments, signals, threads and programs: the job ends with a status, and the next one is clean.
#[test]
fn the_tracer_lives_through_random_calls() {
    let text = r"
import ctypes, os, random, signal, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
random.seed(int(sys.argv[1]))
never = {0, 60, 231, 15}
memory = ctypes.create_string_buffer(65536)
base = ctypes.addressof(memory)
def value():
    return random.choice([0, 1, 2, 3, 4, 5, 7, -1, -100, 2**31, 2**63 - 1, base, base + 8 * random.randrange(8000), random.getrandbits(64) - 2**63])
def calls(count):
    for _ in range(count):
        number = random.randrange(0, 470)
        if number in never: continue
        libc.syscall(ctypes.c_long(number), *[ctypes.c_long(value()) for _ in range(6)])
def child():
    pid = os.fork()
    if pid == 0:
        for n in range(1, 32):
            try: signal.signal(n, random.choice([signal.SIG_IGN, signal.SIG_DFL]))
            except OSError: pass
        for _ in range(random.randrange(3)): threading.Thread(target=calls, args=(60,), daemon=True).start()
        calls(150)
        os._exit(0)
    return pid
for _ in range(6): child()
try:
    while True: os.wait()
except (ChildProcessError, InterruptedError): pass
print('over')
";
    for seed in 0..6_u32 {
        let mut job = python(text).limits(|limits| {
            limits.wall = Duration::from_secs(10);
            limits.processes = 40;
        });
        job.args = vec![seed.to_string()];
        let done = job.run();
        assert!(
            !matches!(done.report.outcome, RunOutcome::Internal),
            "{}",
            done.report.explanation
        );
    }
    let done = python("print('clean')").run();
    assert_eq!(done.stdout(), "clean\n");
}

#[test]
fn one_clock_goes_on_over_forks_and_programs() {
    let done = same(&python(
        r#"
import os, resource, subprocess, sys, time
def look(n):
    for _ in range(n): time.time()
def page():
    return [line.split() for line in open("/proc/self/maps") if line.startswith("00100000-")]
if sys.argv[1:]:
    look(1000)
    print(page(), os.listdir("/proc/self/fd"), time.time() > float(sys.argv[1]), flush=True)
    sys.exit(0)
times = [time.time()]
print(page(), flush=True)
for child in range(3):
    pid = os.fork()
    if pid == 0:
        look(5000)
        os._exit(0 if time.time() - times[-1] >= 0.005 else 1)
    look(child)
    assert os.waitpid(pid, 0)[1] == 0
    times.append(time.time())
# what a killed child has read is not counted, and takes no time from others
pid = os.fork()
if pid == 0:
    look(100)
    os.kill(os.getpid(), 9)
os.waitpid(pid, 0)
times.append(time.time())
assert times == sorted(times) and times[3] - times[0] >= 0.015, times
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 1 << 20))
subprocess.run([sys.executable, __file__, str(times[-1])], check=True)
# no file is left to be had: the program has a clock, and cannot load its library
code = "ulimit -n 3; exec /bin/true"
print(subprocess.run(["/bin/sh", "-c", code], stderr=subprocess.DEVNULL).returncode)
print(f"{time.time() - times[-1]:.3f}" != "0.000")
"#,
    ));
    let page = "[['00100000-00101000', 'rw-p', '00000000', '00:00', '0']]";
    let expected = format!("{page}\n{page} ['0', '1', '2', '3'] True\n127\nTrue\n");
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

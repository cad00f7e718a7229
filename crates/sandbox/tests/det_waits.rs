//! Class `det`: calls that wait end, and go on, as the kernel lets them.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Done, Job, same};
use sandrun_sandbox::{CancelHandle, Class, Limits, OutputSink};

/// A busy machine takes its time.
fn roomy(limits: &mut Limits) {
    limits.processes = 64;
    limits.wall = Duration::from_secs(100);
}

/// Runs a program twice: its end, after it was the same both times.
fn python(text: &str) -> Done {
    same(Job::python(text).limits(roomy))
}

#[test]
fn signals_end_calls_that_are_tried_again_and_again() {
    let done = python(
        r"
import fcntl, os, signal, socket, time
class Over(Exception): pass
def over(*_): raise Over
signal.signal(signal.SIGALRM, over)
child = os.fork()
if child == 0:
    held = open('/tmp/held', 'w')
    fcntl.lockf(held, fcntl.LOCK_EX)
    time.sleep(20)
    os._exit(0)
time.sleep(0.1)
def timed(name, wait):
    start = time.monotonic()
    signal.alarm(1)
    try: wait()
    except Over: pass
    print(name, round(time.monotonic() - start))
timed('wait4', lambda: os.waitpid(child, 0))
timed('waitid', lambda: os.waitid(os.P_PID, child, os.WEXITED))
one, two, held = open('/tmp/lock', 'w'), open('/tmp/lock', 'w'), open('/tmp/held', 'w')
fcntl.flock(one, fcntl.LOCK_EX)
timed('flock', lambda: fcntl.flock(two, fcntl.LOCK_EX))
timed('fcntl', lambda: fcntl.lockf(held, fcntl.LOCK_EX))
r, w = os.pipe()
timed('write', lambda: os.write(w, bytes(200_000)))
os.mkfifo('/tmp/fifo')
timed('open', lambda: os.open('/tmp/fifo', os.O_WRONLY))
server = socket.socket(socket.AF_UNIX)
server.bind('/tmp/socket')
server.listen(0)
clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
clients[0].connect('/tmp/socket')
timed('connect', lambda: clients[1].connect('/tmp/socket'))
signal.siginterrupt(signal.SIGALRM, False)
timed('restarted', lambda: os.waitpid(child, 0))
",
    );
    let lines: Vec<String> = done.stdout().lines().map(str::to_owned).collect();
    let expected = "wait4 1,waitid 1,flock 1,fcntl 1,write 1,open 1,connect 1,restarted 13";
    assert_eq!(lines.join(","), expected, "{}", done.stderr());
}

#[test]
fn a_write_that_a_signal_ends_tells_what_it_has_written() {
    let done = python(
        r"
import os, signal, time
wake = os.pipe()
os.set_blocking(wake[1], False)
signal.set_wakeup_fd(wake[1])
signal.signal(signal.SIGALRM, lambda *_: None)
data = bytes(n * 7 % 251 for n in range(200_000))
r, w = os.pipe()
child = os.fork()
if child == 0:
    os.close(w)
    time.sleep(1)
    got = b''
    while piece := os.read(r, 65536): got += piece
    print(len(got), got == data, flush=True)
    os._exit(0)
os.close(r)
signal.setitimer(signal.ITIMER_REAL, 0.5)
first = done = os.write(w, data)
while done < len(data): done += os.write(w, data[done:])
os.close(w)
os.waitpid(child, 0)
print(first)
",
    );
    assert_eq!(done.stdout(), "200000 True\n65536\n", "{}", done.stderr());
}

#[test]
fn a_wait_that_lets_a_signal_through_sees_one_that_came_long_before() {
    let done = python(
        r"
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
signal.signal(signal.SIGUSR1, lambda *_: print('signal'))
main = os.getpid()
if os.fork() == 0:
    os.kill(main, signal.SIGUSR1)
    os._exit(0)
os.wait()
for _ in range(3): time.sleep(0.1)
start = time.monotonic()
libc.ppoll(None, 0, (ctypes.c_long * 2)(5, 0), (ctypes.c_ulong * 1)(0))
print(time.monotonic() - start < 1)
",
    );
    assert_eq!(done.stdout(), "signal\nTrue\n", "{}", done.stderr());
}

#[test]
fn a_server_with_little_room_takes_one_client_after_the_other() {
    let done = python(
        r"
import os, socket
server = socket.socket(socket.AF_UNIX)
server.bind('/tmp/socket')
server.listen(0)
for n in range(3):
    if os.fork() == 0:
        client = socket.socket(socket.AF_UNIX)
        client.connect('/tmp/socket')
        client.sendall(b'%d' % n)
        client.recv(1)
        os._exit(0)
taken = [server.accept()[0] for _ in range(3)]
print(sorted(one.recv(1) for one in taken))
",
    );
    assert_eq!(done.stdout(), "[b'0', b'1', b'2']\n", "{}", done.stderr());
}

#[test]
fn a_receiver_of_all_waits_for_all() {
    let done = python(
        r"
import os, socket, time
a, b = socket.socketpair()
if os.fork() == 0:
    a.close()
    for n in range(8):
        time.sleep(0.01)
        b.sendall(b'%d' % n * 10)
    os._exit(0)
b.close()
print(a.recv(25, socket.MSG_WAITALL))
into = [bytearray(7), bytearray(18)]
print(a.recvmsg_into(into, 0, socket.MSG_WAITALL)[0], into)
print(a.recv(9, socket.MSG_WAITALL | socket.MSG_PEEK)[:5])
a.settimeout(None)
print(len(a.recv(500, socket.MSG_WAITALL)), a.recv(1, socket.MSG_WAITALL))
c, d = socket.socketpair()
c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, (1).to_bytes(8, 'little') + bytes(8))
d.send(b'some')
print(c.recv(9, socket.MSG_WAITALL))
try: c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 2)
except OSError: print('refused')
",
    );
    let expected = "b'0000000000111111111122222'\n\
        25 [bytearray(b'2222233'), bytearray(b'333333334444444444')]\n\
        b'55555'\n30 b''\nb'some'\nrefused\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

#[test]
fn timer_descriptors_are_forgotten_when_they_are_closed() {
    let done = python(
        r"
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
often = (ctypes.c_long * 4)(0, 1000000, 0, 1000000)
kept = libc.timerfd_create(1, 0)
assert libc.timerfd_settime(kept, 0, often, None) == 0
failed = 0
for _ in range(3000):
    fd = libc.timerfd_create(1, 0)
    failed += libc.timerfd_settime(fd, 0, often, None) != 0
    os.close(fd)
time.sleep(1)
print(failed, int.from_bytes(os.read(kept, 8), 'little') >= 1000)
",
    );
    assert_eq!(done.stdout(), "0 True\n", "{}", done.stderr());
}

#[test]
fn what_goes_on_elsewhere_on_the_machine_counts_no_call() {
    let job = Job::python(
        r"
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
os.mkdir('/tmp/a')
open('/tmp/f', 'w').close()
top, how = os.open('/tmp', os.O_PATH), (ctypes.c_ulong * 3)(0, 0, 8)
for _ in range(3000): os.close(libc.syscall(437, top, b'a/../a/../a/../f', how, 24))
print(time.monotonic_ns())
",
    )
    .class(Class::Det)
    .limits(roomy);
    let quiet = job.run();
    let busy = AtomicBool::new(true);
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let directory = tempfile::tempdir().unwrap();
            let (one, two) = (directory.path().join("one"), directory.path().join("two"));
            std::fs::write(&one, "").unwrap();
            while busy.load(Ordering::Relaxed) {
                std::fs::rename(&one, &two).unwrap();
                std::fs::rename(&two, &one).unwrap();
            }
        });
        let done = job.run();
        busy.store(false, Ordering::Relaxed);
        done
    });
    assert_eq!(quiet.stdout(), done.stdout(), "{}", done.stderr());
}

/// Stops a job that waits for its output to be read, and lets it go on.
struct Stopper {
    mark: String,
    stops: AtomicBool,
}

impl OutputSink for Stopper {
    fn stdout(&self, _: &[u8]) {
        if self.stops.swap(false, Ordering::Relaxed) {
            let pid = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
                let environment = std::fs::read(entry.path().join("environ")).ok()?;
                let mut all = environment.split(|byte| *byte == 0);
                let is_ours = all.any(|one| one == self.mark.as_bytes());
                entry.file_name().to_str()?.parse().ok().filter(|_| is_ours)
            });
            let pid = pid.and_then(rustix::process::Pid::from_raw).expect("it runs");
            let call = format!("/proc/{}/syscall", pid.as_raw_nonzero());
            while !std::fs::read_to_string(&call).unwrap().starts_with("1 0x1 ") {
                std::thread::yield_now();
            }
            // it has filled the pipe, and waits in the next write
            let state = format!("/proc/{}/stat", pid.as_raw_nonzero());
            while !std::fs::read_to_string(&state).unwrap().contains(") S ") {
                std::thread::yield_now();
            }
            for signal in [rustix::process::Signal::STOP, rustix::process::Signal::CONT] {
                rustix::process::kill_process(pid, signal).unwrap();
            }
        }
    }

    fn stderr(&self, _: &[u8]) {}
}

#[test]
fn a_stop_in_a_call_that_is_not_seen_hides_no_other() {
    let run = |text: &str, stops| {
        let mark = format!("mark-{}", std::process::id());
        let mut job = Job::python(text).class(Class::Det).limits(roomy);
        job.env.insert("MARK".to_owned(), mark.clone());
        let stopper = Stopper {
            mark: format!("MARK={mark}"),
            stops: AtomicBool::new(stops),
        };
        let done = job.run_with(&common::SANDBOX, &stopper, &CancelHandle::new().unwrap());
        assert!(!stopper.stops.load(Ordering::Relaxed));
        let text = done.unwrap().stdout();
        (text.len(), text.trim_start_matches(['x', 'y']).to_owned())
    };
    let text = r"
import os, time
for _ in range(4): os.write(1, b'x' * 65536)
print(time.monotonic_ns())
";
    assert_eq!(run(text, false), run(text, true));
    let text = "import os; print(os.write(1, b'x' * 400_000), os.writev(1, [b'y' * 99_999] * 3))";
    assert_eq!(run(text, false), run(text, true));
}

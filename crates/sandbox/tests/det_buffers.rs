//! Class `det`: what the kernel would count for real is in no buffer that it fills, and in no signal's frame.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use common::{Done, Job, same};

/// Functions of the jobs: a child that takes its time, and calls past the library.
const CHILD: &str = r"
import ctypes, fcntl, os, resource, signal, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long
def child(code, after=lambda: None):
    pid = os.fork()
    if pid == 0:
        sum(range(3_000_000)); after(); os._exit(code)
    return pid
def call(number, *a):
    r = libc.syscall(number, *(ctypes.c_long(x) if isinstance(x, int) else x for x in a))
    return r if r >= 0 else -ctypes.get_errno()
def usage(buffer): return struct.unpack('18q', buffer.raw) == (0, 0, 0, 0, 16384) + (0,) * 13
def fate(info):
    signal, error, code, _, pid, uid, status, _, user, system = struct.unpack('iiiiiiiiqq', info[:48])
    return signal, error, code, pid, uid, status, user, system
def marked(length): return ctypes.create_string_buffer(b'x' * length, length)
";

fn python(text: &str) -> Done {
    same(Job::python(&format!("{CHILD}{text}")))
}

#[test]
fn children_have_used_what_getrusage_says_of_them() {
    let done = python(
        r"
WAIT4, WAITID, EXITED, NOHANG = 61, 247, 4, 1
pid = child(1); print(os.wait4(pid, 0)[2] == resource.getrusage(resource.RUSAGE_CHILDREN))
pid = child(1); os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); print(os.wait3(os.WNOHANG)[2].ru_maxrss)
pid = child(2); info, used = marked(128), marked(144)
print(call(WAITID, 0, 0, info, EXITED | NOHANG, used), set(info.raw[16:20]), used.raw == b'x' * 144)
print(call(WAITID, 0, 0, info, EXITED, used), fate(info.raw)[2:6], info.raw[32:] == b'x' * 96, usage(used))
start = time.monotonic(); pid = child(3, lambda: time.sleep(0.5)); used = marked(144)
print(call(WAITID, 0, 0, None, EXITED, used), usage(used), time.monotonic() - start >= 0.5)
pid = child(3); print(call(WAITID, 0, 0, None, EXITED, None), call(WAITID, 0, 0, None, EXITED, None))
pid = child(4); print(call(WAIT4, pid, None, 0, 8), call(WAIT4, pid, None, 0, 8))
",
    );
    let expected = "True\n16384\n0 {0} True\n0 (1, 5, 1000, 2) True True\n0 True True\n0 -10\n-14 -10\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

/// The kernel finds the child before it looks for the signal.
#[test]
fn a_wait_that_a_signal_interrupts_tells_no_more() {
    let done = python(
        r"
signal.signal(signal.SIGUSR1, lambda *_: print('signal')); signal.siginterrupt(signal.SIGUSR1, False)
def tell():
    os.kill(os.getppid(), signal.SIGUSR1)
    for _ in range(500): os.stat('/')
pid = child(0, tell); used = marked(144); print(call(61, pid, None, 0, used) == pid, usage(used))
pid = child(0, tell); used, info = marked(144), marked(128)
print(call(247, 0, 0, info, 4, used), fate(info.raw)[2:6], usage(used))
",
    );
    let expected = "signal\nTrue True\nsignal\n0 (1, 4, 1000, 0) True\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

#[test]
fn a_childs_signal_tells_no_time() {
    let done = python(
        r"
@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def handler(number, info, context): print('handler', fate(ctypes.string_at(info, 48)))
class Action(ctypes.Structure): _fields_ = [('handler', ctypes.c_void_p), ('mask', ctypes.c_char * 128), ('flags', ctypes.c_int), ('restorer', ctypes.c_void_p)]
def catch(number): libc.sigaction(number, ctypes.byref(Action(ctypes.cast(handler, ctypes.c_void_p), b'', 4)), None)
catch(17); catch(10)
pid = child(3); libc.pause(); os.waitpid(pid, 0)
# a child may end with another signal than SIGCHLD
pid = call(56, 10, 0, 0, 0, 0)
if pid == 0: sum(range(3_000_000)); os._exit(5)
libc.pause(); print(call(61, pid, None, 0x80000000, None) == pid)
signal.signal(17, signal.SIG_DFL); signal.pthread_sigmask(signal.SIG_BLOCK, [17])
def take():
    info = marked(128); print('taken', call(128, (ctypes.c_ulong * 1)(1 << 16), info, None, 8), fate(info.raw), set(info.raw[48:]))
pid = child(4); take(); os.waitpid(pid, 0)
pid = child(4); os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); take(); os.waitpid(pid, 0)
",
    );
    let expected = "handler (17, 0, 1, 3, 1000, 3, 0, 0)\nhandler (10, 0, 1, 4, 1000, 5, 0, 0)\nTrue\n\
        taken 17 (17, 0, 1, 5, 1000, 4, 0, 0) {0}\ntaken 17 (17, 0, 1, 6, 1000, 4, 0, 0) {0}\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

/// The tracer sends them, whoever that is.
#[test]
fn a_timers_signal_is_nobodys() {
    let done = python(
        r"
signal.pthread_sigmask(signal.SIG_BLOCK, [14, 40])
def take():
    info = marked(128); call(128, (ctypes.c_ulong * 1)(1 << 13 | 1 << 39), info, None, 8)
    print(struct.unpack('iii4xiiQ', info.raw[:32]))
signal.alarm(1); take()
timer = ctypes.c_void_p(); often = (ctypes.c_long * 4)(0, 0, 1, 0)
for value, how in [(7, 0), (8, 4)]:
    event = ctypes.create_string_buffer(struct.pack('Qiii', value, 40, how, os.getpid()), 64)
    print(libc.timer_create(1, event, ctypes.byref(timer)), libc.timer_settime(timer, 0, often, None)); take()
",
    );
    let expected = "(14, 0, 0, 0, 0, 0)\n0 0\n(40, 0, -2, 0, 0, 7)\n0 0\n(40, 0, -2, 1, 0, 8)\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

#[test]
fn a_timers_function_is_called() {
    let done = python(
        r"
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def over(value): print('over', value, flush=True); os.write(w, b'1')
r, w = os.pipe(); timer = ctypes.c_void_p()
event = ctypes.create_string_buffer(struct.pack('QiiQQ', 7, 0, 2, ctypes.cast(over, ctypes.c_void_p).value, 0), 64)
print(libc.timer_create(1, event, ctypes.byref(timer)), libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 1, 0), None))
os.read(r, 1)
",
    );
    assert_eq!(done.stdout(), "0 0\nover 7\n", "{}", done.stderr());
}

#[test]
fn a_links_text_leaves_nothing_behind_its_end() {
    let done = python(
        r"
r, w = os.pipe(); a, b = socket.socketpair(); gone = open('gone', 'w'); os.unlink('gone')
names = [f'/proc/self/fd/{fd}' for fd in [r, 1, a.fileno(), gone.fileno()]] + ['/proc/self/ns/net', '/proc/self/ns/pid']
for name in names:
    for room in [128, 4096, 8]:
        buffer = marked(4096); n = call(89, name.encode(), buffer, room)
        print(name.split('/')[3], buffer.raw[:n], set(buffer.raw[n:]))
        buffer = marked(4096); n = call(267, -100, name.encode(), buffer, room); print(set(buffer.raw[n:]))
def texts(*calls): print(*(b.raw[:n].split(b'[')[0].decode() + str(len(b.raw.rstrip(b'x'))) for a in calls for b in [marked(128)] for n in [call(*a, b, 128)]))
fds = os.open('/proc/self/fd', os.O_RDONLY); link = os.open(f'/proc/self/fd/{r}', os.O_PATH | os.O_NOFOLLOW)
texts((267, fds, b'./%d' % r), (267, link, b''))
os.symlink('/proc/self/fd', 'fds'); os.symlink('pipe:[12]', 'fd-'); texts((89, b'fds/%d' % r), (89, b'fd-'))
# only a part of it can be written to
page = libc.mmap; page.restype = ctypes.c_void_p
start = page(None, 8192, 3, 0x22, -1, 0); libc.mprotect(ctypes.c_void_p(start + 4096), 4096, 0)
ctypes.memset(start, 120, 4096)
print(call(89, b'/proc/self/ns/net', start + 4096 - 8, 100), ctypes.string_at(start + 4080, 16))
",
    );
    let text = done.stdout();
    assert_eq!(text.matches("{120}").count(), 36, "{text}{}", done.stderr());
    assert!(
        text.ends_with("pipe:11 pipe:11\npipe:11 pipe:9\n-14 b'xxxxxxxxxxxxxxxx'\n"),
        "{text}{}",
        done.stderr()
    );
}

/// The kernel writes what it can before it fails.
#[test]
fn half_an_answer_tells_nothing() {
    let done = python(
        r"
libc.mmap.restype = ctypes.c_void_p
start = libc.mmap(None, 8192, 3, 0x22, -1, 0); libc.mprotect(ctypes.c_void_p(start + 4096), 4096, 0)
open('file', 'w').write('x'); signal.pthread_sigmask(signal.SIG_BLOCK, [17])
def half(length, *a):
    ctypes.memset(start, 120, 4096); end = start + 4096 - length
    print(call(*(end if x is None else x for x in a)), ctypes.string_at(end, length).strip(b'\0'))
half(64, 4, b'file', None); half(64, 262, -100, b'file', None, 0); half(64, 332, -100, b'file', 0, 0xfff, None); half(40, 137, b'/tmp', None)
pid = child(1); half(40, 61, pid, 0, 0, None)
pid = child(1); half(40, 128, (ctypes.c_ulong * 1)(1 << 16), None, 0, 8)
",
    );
    let expected = "-14 b''\n-14 b''\n-14 b''\n-14 b''\n-14 b'@'\n-14 b''\n";
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

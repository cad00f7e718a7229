//! Class `det`: the room that sockets and pipes have is the class's, not the machine's.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use common::{Job, same};

#[test]
fn sockets_have_one_size_and_give_no_more() {
    let done = same(Job::python(
        r"
import os, socket
SEND, RECEIVE = socket.SO_SNDBUF, socket.SO_RCVBUF
def sizes(s): return [s.getsockopt(1, which) for which in (SEND, RECEIVE)]
a, b = socket.socketpair()
server = socket.socket(socket.AF_UNIX); server.bind('s'); server.listen()
client = socket.socket(socket.AF_UNIX); client.connect('s')
print([sizes(s) for s in (a, b, server, client, server.accept()[0])])
for wanted in [1 << 24, -1, 1, 50000]:
    for which in (SEND, RECEIVE): a.setsockopt(1, which, wanted)
    print(wanted, sizes(a))
try: os.pipe() and None; socket.socket(socket.AF_UNIX).setsockopt(1, SEND, b'x')
except OSError as e: print(e.errno)
r, w = os.pipe(); os.set_blocking(w, False)
os.mkfifo('p'); f = os.open('p', os.O_RDWR); os.set_blocking(f, False)
for fd in (w, f):
    total = 0
    try:
        while True: total += os.write(fd, b'x' * 4096)
    except BlockingIOError: print(total)
",
    ));
    let all = "[212992, 212992]";
    let expected = format!(
        "[{}]\n16777216 {all}\n-1 {all}\n1 [4608, 4608]\n50000 [100000, 100000]\n22\n65536\n65536\n",
        [all; 5].join(", ")
    );
    assert_eq!(done.stdout(), expected, "{}", done.stderr());
}

/// As a blocking call of the kernel's own, however much room there is.
#[test]
fn a_message_is_sent_as_a_whole() {
    let done = same(Job::python(
        r"
import array, os, socket, threading
a, b = socket.socketpair()
parts = [b'a' * 300_000, b'', b'b' * 700_001, b'c']
got = []
def read():
    data, rest, *_ = b.recvmsg(1000, 1000)
    got.append(data); fds = array.array('i', rest[0][2]); print(len(fds), os.read(fds[0], 4))
    while data := b.recv(50_000): got.append(data)
r, w = os.pipe(); os.write(w, b'sent')
thread = threading.Thread(target=read); thread.start()
print(a.sendmsg(parts, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [r]))]))
a.close(); thread.join()
print(b''.join(got) == b''.join(parts))
c, d = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
print(c.sendmsg([b'one', b'two']), d.recv(9))
e, f = socket.socketpair()
def leave(): f.recv(9); f.close()
thread = threading.Thread(target=leave); thread.start()
try: print(0 < e.sendmsg([bytes(1 << 20)]) < 1 << 20)
except OSError as error: print(error.errno)
",
    ));
    assert_eq!(
        done.stdout(),
        "1 b'sent'\n1000002\nTrue\n6 b'onetwo'\nTrue\n",
        "{}",
        done.stderr()
    );
}

/// The service may read late, or at once.
#[test]
fn nothing_tells_how_much_of_the_output_is_read() {
    let done = same(Job::python(
        r"
import array, fcntl, os, select
def unread(fd):
    count = array.array('i', [-1]); fcntl.ioctl(fd, 0x541b, count); return count[0]
for _ in range(200):
    os.write(1, b'.' * 100)
    if unread(1) or unread(os.open('/dev/stdout', os.O_WRONLY)): os.write(2, b'seen'); break
r, w = os.pipe(); os.write(w, b'abc'); print(unread(r), unread(w))
poll = select.epoll(); poll.register(r, select.EPOLLIN)
print(len(poll.poll(0)))
for fd in (1, 2, os.dup(1)):
    try: poll.register(fd, select.EPOLLOUT); print('DONE')
    except OSError as e: print(e.errno)
",
    ));
    let end = done.stdout().trim_start_matches('.').to_owned();
    assert_eq!((end.as_str(), done.stderr().as_str()), ("3 3\n1\n1\n1\n1\n", ""));
}

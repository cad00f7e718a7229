//! Class `det`: what a kernel or a machine has besides, no name and no number of a file tells.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use common::{Job, same};

#[test]
fn proc_has_the_same_names_by_every_call() {
    let done = same(Job::python(
        r"
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long
own = os.path.abspath('main.py')
def call(*a):
    if libc.syscall(*(ctypes.c_long(x) if isinstance(x, int) else x for x in a)) < 0: raise OSError(ctypes.get_errno(), '')
names = ['/proc/config.gz', '/proc/pressure', '/proc/kallsyms', '/proc/net', '/proc/nothing', '/proc/self/ksm_stat', '/proc/self/attr',
    '/proc/self/map_files', '/proc/self/timers', '/proc/thread-self/children', '/proc/self/net/dev']
calls = {
    'stat': os.stat, 'lstat': os.lstat, 'open': lambda p: os.close(os.open(p, os.O_RDONLY)), 'path': lambda p: os.close(os.open(p, os.O_PATH)),
    'readlink': os.readlink, 'chdir': os.chdir, 'statvfs': os.statvfs, 'listdir': os.listdir,
    'access': lambda p: os.access(p, os.F_OK) or None,
    'effective': lambda p: os.access(p, os.F_OK, effective_ids=True, follow_symlinks=False) or None,
    'chmod': lambda p: os.chmod(p, 0), 'fchmodat2': lambda p: call(452, -100, p.encode(), 0, 0), 'chown': lambda p: os.chown(p, -1, -1),
    'lchown': lambda p: os.lchown(p, -1, -1), 'fchownat': lambda p: call(260, -100, p.encode(), -1, -1, 0),
    'link': lambda p: os.link(p, 'hard'), 'linked': lambda p: os.link(own, p), 'follow': lambda p: call(265, -100, p.encode(), -100, b'hard', 0x400),
    'rename': lambda p: os.rename(p, 'moved'), 'renamed': lambda p: os.rename(own, p), 'unlink': os.unlink, 'mkdir': os.mkdir, 'rmdir': os.rmdir,
    'mkfifo': os.mkfifo, 'symlink': lambda p: os.symlink('main.py', p), 'truncate': lambda p: os.truncate(p, 0), 'utime': os.utime,
    'utimes': lambda p: call(235, p.encode(), None), 'execve': lambda p: os.execv(p, [p]), 'creat': lambda p: call(85, p.encode(), 0o600),
    'bind': lambda p: socket.socket(socket.AF_UNIX).bind(p), 'connect': lambda p: socket.socket(socket.AF_UNIX).connect(p),
    'sendto': lambda p: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', p),
    'sendmsg': lambda p: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, p),
}
def ask(names):
    for name in names:
        for call, ask in calls.items():
            try:
                if ask(name) is not None: print(call, name)
            except OSError as e:
                if e.errno != 2: print(call, name, e.errno)
ask(names)
os.symlink('/proc', 'link'); ask(name.replace('/proc', 'link') for name in names)
ask('../' + name.strip('/') for name in names)
os.chdir('/proc'); ask(name.removeprefix('/proc/') for name in names if 'self' not in name)
there = ['/proc', '/proc/self/status', '/proc/sys/kernel/ostype', '/proc/self/fd', '/proc/meminfo', '/proc/self/task', '/proc/2/fd/0', '/proc/self/exe']
print([n for n in there if not os.path.exists(n) or not os.access(n, os.R_OK)])
print([n for n in os.listdir('/proc') + ['self/' + n for n in os.listdir('/proc/self')] if not os.path.lexists('/proc/' + n)])
",
    ));
    assert_eq!(done.stdout(), "[]\n[]\n", "{}", done.stderr());
}

#[test]
fn numbers_of_files_are_none_of_the_machines() {
    let done = same(Job::python(
        r"
import os, socket
for path in ['/dev/null', '/usr', '/', '/dev', '/work', '/tmp', '/proc', '/proc/self/status', '/dev/fd/0']:
    fs = os.statvfs(path); print(path, fs.f_blocks, fs.f_files, fs.f_flag & 1)
for file in [os.open('/dev/zero', 0), os.open('/proc/self/status', 0)]: print(os.fstatvfs(file).f_blocks)
links = {os.lstat(os.path.join(top, name)).st_nlink for top in ['/usr/bin', '/usr/share/zoneinfo'] if os.path.isdir(top) for name in os.listdir(top)}
print(links)
r, w = os.pipe(); pair = socket.socketpair()
print([oct(os.fstat(fd).st_mode) for fd in (r, os.pidfd_open(os.getpid()), os.eventfd(0), pair[0].fileno(), w)])
for fd in (r, pair[0].fileno()): os.fchmod(fd, 0o640)
os.link('main.py', 'second'); print(os.stat('second').st_nlink)
print([line for line in open('/proc/self/status') if 'Ngid' in line])
",
    ));
    let out = done.stdout();
    let lines: Vec<&str> = out.lines().collect();
    for system in ["/dev/null", "/usr", "/", "/dev", "/dev/fd/0"] {
        assert!(lines.contains(&format!("{system} 1048576 0 1").as_str()), "{out}");
    }
    assert!(out.contains("\n/proc 0 0 0\n/proc/self/status 0 0 0\n"), "{out}");
    let end =
        "\n1048576\n0\n{1}\n['0o10600', '0o600', '0o600', '0o140777', '0o10600']\n2\n['Ngid:\\t0\\n']\n";
    assert!(out.ends_with(end), "{out} {}", done.stderr());
}

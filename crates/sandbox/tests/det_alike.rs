//! Class `det`: what a machine's jobs share, how fast its service reads, which memory, file system and kernel it has,
//! shows in no answer.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::Path;

use common::{Done, Job, LAUNCHER};
use rustix::fs::{FlockOperation, flock};
use sandrun_sandbox::{Class, Sandbox, SandboxConfig};
use sandrun_types::RunOutcome;

/// Functions of the jobs: what a call gives, or the name of its error.
const SAY: &str = r"
import ctypes, errno, fcntl, mmap, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True); libc.syscall.restype = ctypes.c_long
def say(name, do, *a):
    try: result = do(*a)
    except OSError as e: result = errno.errorcode[e.errno]
    print(name, result, file=sys.stderr)
def call(name, *a):
    ctypes.set_errno(0)
    r = libc.syscall(*(ctypes.c_long(x) if isinstance(x, int) else x for x in a))
    print(name, errno.errorcode.get(ctypes.get_errno(), r) if r < 0 else 'DONE', file=sys.stderr)
    return r
";

/// Runs a job twice: its end, after it was the same both times and no limit's.
fn same(text: &str) -> Done {
    let done = common::same(Job::python(&format!("{SAY}{text}")));
    assert_eq!(done.report.outcome, RunOutcome::Exited, "{}", done.stderr());
    done
}

/// They lie on inodes that every job of the machine has.
#[test]
fn locks_of_the_systems_files_are_nobodys() {
    let held = File::open("/usr/bin/env").unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let done = same(
        r"
env = os.open('/usr/bin/env', os.O_RDONLY); null = os.open('/dev/null', os.O_RDWR); own = open('own', 'w+')
event = os.eventfd(0); path = os.open('own', os.O_PATH); r, w = os.pipe()
for name, fd in [('env', env), ('null', null), ('event', event), ('own', own), ('pipe', r), ('path', path), ('none', 99)]:
    for how in [fcntl.LOCK_EX, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH, fcntl.LOCK_UN, 0, 32]:
        say(f'{name} {how}', fcntl.flock, fd, how)
def lock(fd, command, kind):
    return struct.unpack('hhqqi', fcntl.fcntl(fd, command, struct.pack('hhqqi', kind, 0, 0, 0, 0)))[0]
for name, fd in [('env', env), ('null', null), ('own', own)]:
    for command in [5, 6, 7, 36, 37, 38]:
        print(name, command, end=' ', file=sys.stderr)
        for kind in [0, 1, 2]: 
            try: print(lock(fd, command, kind), end=' ', file=sys.stderr)
            except OSError as e: print(errno.errorcode[e.errno], end=' ', file=sys.stderr)
        print(file=sys.stderr)
",
    );
    let expected = "env 2 ENOLCK\nenv 6 ENOLCK\nenv 1 None\nenv 8 None\nenv 0 EINVAL\nenv 32 EINVAL\n\
        null 2 ENOLCK\nnull 6 ENOLCK\nnull 1 None\nnull 8 None\nnull 0 EINVAL\nnull 32 EINVAL\n\
        event 2 ENOLCK\nevent 6 ENOLCK\nevent 1 None\nevent 8 None\nevent 0 EINVAL\nevent 32 EINVAL\n\
        own 2 None\nown 6 None\nown 1 None\nown 8 None\nown 0 EINVAL\nown 32 EINVAL\n\
        pipe 2 None\npipe 6 None\npipe 1 None\npipe 8 None\npipe 0 EINVAL\npipe 32 EINVAL\n\
        path 2 EBADF\npath 6 EBADF\npath 1 EBADF\npath 8 EBADF\npath 0 EINVAL\npath 32 EINVAL\n\
        none 2 EBADF\nnone 6 EBADF\nnone 1 EBADF\nnone 8 EBADF\nnone 0 EINVAL\nnone 32 EINVAL\n\
        env 5 2 2 EINVAL \nenv 6 0 EBADF 2 \nenv 7 0 EBADF 2 \nenv 36 2 2 EINVAL \nenv 37 0 EBADF 2 \nenv 38 0 EBADF 2 \n\
        null 5 2 2 EINVAL \nnull 6 0 ENOLCK 2 \nnull 7 0 ENOLCK 2 \nnull 36 2 2 EINVAL \nnull 37 0 ENOLCK 2 \nnull 38 0 ENOLCK 2 \n\
        own 5 2 2 EINVAL \nown 6 0 1 2 \nown 7 0 1 2 \nown 36 2 2 EINVAL \nown 37 0 1 2 \nown 38 0 1 2 \n";
    assert_eq!(done.stderr(), expected);
}

/// However the job asks not to wait, and however large the machine's pipes are.
#[test]
fn nothing_tells_how_fast_the_output_is_read() {
    let done = same(
        r"
much = b'.' * 400_000
say('write', os.write, 1, much)
os.set_blocking(1, False); say('flag', os.write, 1, much)
fcntl.ioctl(1, 0x5421, struct.pack('i', 1)); say('request', os.write, 1, much)
for name in ['/dev/stdout', '/proc/self/fd/1', '/dev/fd/1']:
    say('open ' + name, os.write, os.open(name, os.O_WRONLY | os.O_NONBLOCK), much)
how = ctypes.create_string_buffer(struct.pack('QQQ', os.O_WRONLY | os.O_NONBLOCK, 0, 0))
say('openat2', os.write, libc.syscall(437, -100, b'/dev/stdout', how, ctypes.c_long(24)), much)
say('creat', os.write, libc.creat(b'/dev/stdout', 0o600), much)
open('file', 'wb').write(much)
say('sendfile', lambda: os.sendfile(1, os.open('file', os.O_RDONLY), 0, 400_000))
r, w = os.pipe(); os.set_blocking(w, False)
say('own pipe', os.write, w, much)
os.set_blocking(1, False); say('traced', os.write, 1, much); say('vector', os.writev, 1, [much, b'', much])
say('sendfile', lambda: os.sendfile(1, os.open('file', os.O_RDONLY), 0, 400_000))
print(os.get_blocking(1), os.get_blocking(w), file=sys.stderr)
for fd in (1, 2, os.open('/dev/stderr', os.O_WRONLY)):
    say('has', fcntl.fcntl, fd, 1032); say('less', fcntl.fcntl, fd, 1031, 4096); say('same', fcntl.fcntl, fd, 1031, 65536)
say('own has', fcntl.fcntl, r, 1032)
",
    );
    let mut expected: Vec<String> = [
        "write",
        "flag",
        "request",
        "open /dev/stdout",
        "open /proc/self/fd/1",
        "open /dev/fd/1",
        "openat2",
        "creat",
    ]
    .map(|name| format!("{name} 400000"))
    .into();
    expected.extend(
        [
            "sendfile EINVAL",
            "own pipe 65536",
            "traced 400000",
            "vector 800000",
            "sendfile EINVAL",
            "True False",
        ]
        .map(String::from),
    );
    for _ in 0..3 {
        expected.extend(["has 65536", "less EPERM", "same EPERM"].map(String::from));
    }
    expected.push("own has 65536\n".to_owned());
    assert_eq!(done.stderr(), expected.join("\n"));
}

/// What the kernel has there is of its own making, and of its version.
#[test]
fn creat_opens_no_file_of_proc() {
    let done = same(
        r"
os.symlink('/proc/self', 'link')
for name in ['sched', 'timerslack_ns', 'autogroup', 'oom_score_adj', 'mem', 'status', 'comm']:
    for path in ['/proc/self/' + name, 'link/' + name]: call(name, 85, path.encode(), 0o600)
",
    );
    let open = "try:\n os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600); print(name, 'DONE', file=sys.stderr)\n\
        except OSError as e: print(name, errno.errorcode[e.errno], file=sys.stderr)\n";
    let opened = same(&format!(
        "os.symlink('/proc/self', 'link')\ndef ask(name, path):\n {}\n\
        for name in ['sched', 'timerslack_ns', 'autogroup', 'oom_score_adj', 'mem', 'status', 'comm']:\n\
        \x20   for path in ['/proc/self/' + name, 'link/' + name]: ask(name, path)\n",
        open.replace('\n', "\n ")
    ));
    assert_eq!(done.stderr(), opened.stderr());
    for line in ["sched ENOENT", "mem ENOENT", "status EACCES", "oom_score_adj E"] {
        assert!(done.stderr().contains(line), "{line}: {}", done.stderr());
    }
}

/// Shared memory is counted by no limit of the kernel's but the machine's own size.
#[test]
fn memory_that_is_shared_is_refused_at_the_jobs_limit() {
    let done = same(
        r"
zero = os.open('/dev/zero', os.O_RDWR); file = os.open('file', os.O_RDWR | os.O_CREAT); os.truncate('file', 4096)
MAP = lambda name, length, flags, fd=-1: call(name, 9, 0, length, 3, flags, fd, 0)
for length in [400 << 20, 513 << 20, 64 << 30, 1 << 46]:
    MAP('anonymous', length, 0x21); MAP('unreserved', length, 0x4021); MAP('checked', length, 0x23); MAP('device', length, 1, zero)
MAP('file', 4096, 1, file)
MAP('large pages', 2 << 20, 0x40022); MAP('shared large pages', 2 << 20, 0x40021); MAP('droppable', 4096, 0x28)
try: mmap.mmap(-1, 64 << 30); print('DONE', file=sys.stderr)
except OSError as e: print(errno.errorcode[e.errno], file=sys.stderr)
",
    );
    let refused = "anonymous ENOMEM\nunreserved ENOMEM\nchecked ENOMEM\ndevice ENOMEM\n";
    let expected = format!(
        "anonymous DONE\nunreserved DONE\nchecked EINVAL\ndevice DONE\n{}file DONE\n\
         large pages ENOMEM\nshared large pages ENOMEM\ndroppable EINVAL\nENOMEM\n",
        refused.repeat(3)
    );
    assert_eq!(done.stderr(), expected);
}

/// A sandbox whose jobs see a directory more.
fn with(dir: &Path) -> Sandbox {
    let mut config = SandboxConfig::new(vec![LAUNCHER.into()]);
    config.extra_dirs = vec![dir.to_owned()];
    Sandbox::start(config).expect("the sandbox starts")
}

/// A node's copy of a file may have holes or not, and its directories end where its file system says.
#[test]
fn holes_and_directories_ends_are_none_of_the_file_systems() {
    // a job has a directory of its own in place of the usual one
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let sparse = File::create(folder.path().join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    sparse.write_at(b"end", (1 << 20) - 3).unwrap();
    std::fs::set_permissions(folder.path().join("sparse"), PermissionsExt::from_mode(0o644)).unwrap();
    let text = format!(
        "{SAY}{}",
        r"
sparse = os.open(sys.argv[1] + '/sparse', os.O_RDONLY); place = lambda: os.lseek(sparse, 0, os.SEEK_CUR)
for offset in [0, 5, (1 << 20) - 1, 1 << 20, -1]:
    say('data', os.lseek, sparse, offset, os.SEEK_DATA); print(place(), file=sys.stderr)
    say('hole', os.lseek, sparse, offset, os.SEEK_HOLE); print(place(), file=sys.stderr)
say('end', os.lseek, sparse, -1, os.SEEK_END); say('none', os.lseek, sparse, 0, 9); say('closed', os.lseek, 99, 0, 2)
say('path', os.lseek, os.open('/usr', os.O_PATH), 0, 2)
for name in ['/usr/bin', '.', '/proc', sys.argv[1]]:
    fd = os.open(name, os.O_RDONLY)
    for whence in [2, 3, 4]: say(name[:8], os.lseek, fd, 0, whence)
    say('begin', os.lseek, fd, 0, 0)
open('own', 'wb').write(b'abc'); say('own', os.lseek, os.open('own', os.O_RDONLY), 0, 2)
say('pipe', os.lseek, os.pipe()[0], 0, 2); say('null', os.lseek, os.open('/dev/null', 0), 7, 2)
"
    );
    let mut job = Job::python(&text).class(Class::Det);
    job.args = vec![folder.path().display().to_string()];
    let done = job.run_in(&with(folder.path())).unwrap();
    let dir = &folder.path().display().to_string()[..8];
    let directory = |name: &str| format!("{name} EINVAL\n{name} EINVAL\n{name} EINVAL\nbegin 0\n");
    let expected = format!(
        "data 0\n0\nhole 1048576\n1048576\ndata 5\n5\nhole 1048576\n1048576\ndata 1048575\n1048575\nhole 1048576\n1048576\n\
         data ENXIO\n1048576\nhole ENXIO\n1048576\ndata ENXIO\n1048576\nhole ENXIO\n1048576\n\
         end 1048575\nnone EINVAL\nclosed EBADF\npath EBADF\n{}{}{}{}own 3\npipe ESPIPE\nnull 0\n",
        directory("/usr/bin"),
        directory("."),
        directory("/proc"),
        directory(dir)
    );
    assert_eq!(done.stderr(), expected, "{}", done.report.explanation);
}

/// Which files can be read past the machine's memory is a matter of file systems and kernels.
#[test]
fn nothing_is_read_or_written_directly() {
    let done = same(
        r"
for path in ['own', '/tmp/x', '/dev/shm/x', '/usr/bin/env', '/dev/null', '/dev/stdout', '/proc/self/status']:
    say(path, os.open, path, os.O_DIRECT | (os.O_RDWR | os.O_CREAT if path[1:4] in ('wn', 'tmp', 'dev') else 0))
print(os.path.exists('own'), file=sys.stderr)
open('own', 'w')
for path in ['own', '/usr/bin/env', '/dev/null']:
    say(path, fcntl.fcntl, os.open(path, os.O_RDONLY), 4, os.O_DIRECT)
r, w = os.pipe2(os.O_DIRECT)
say('kept', fcntl.fcntl, w, 4, fcntl.fcntl(w, 3) | os.O_NONBLOCK); os.write(w, b'one'); os.write(w, b'two'); say('packets', os.read, r, 9)
say('new', fcntl.fcntl, os.pipe()[1], 4, os.O_DIRECT); say('outer', fcntl.fcntl, 1, 4, os.O_DIRECT)
os.close(os.open('/usr', os.O_PATH | os.O_DIRECT))
",
    );
    let expected = "own EINVAL\n/tmp/x EINVAL\n/dev/shm/x EINVAL\n/usr/bin/env EINVAL\n/dev/null EINVAL\n/dev/stdout EINVAL\n\
        /proc/self/status EINVAL\nFalse\nown EINVAL\n/usr/bin/env EINVAL\n/dev/null EINVAL\nkept 0\npackets b'one'\nnew EINVAL\nouter EINVAL\n";
    assert_eq!(done.stderr(), expected);
}

/// A text that was empty once may lie where another one does later.
#[test]
fn an_empty_name_is_looked_at_each_time() {
    let done = same(
        r"
libc.mmap.restype = ctypes.c_void_p; libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
buffer = ctypes.create_string_buffer(144)
def ask(name, at): call(name, 262, top, ctypes.c_void_p(at), buffer, 0x1000)
top = os.open('/work', os.O_RDONLY)
file = os.open('file', os.O_RDWR | os.O_CREAT); os.write(file, bytes(4096))
at = libc.mmap(None, 4096, 1, 2, file, 0)
ask('empty', at); os.pwrite(file, b'none', 0); ask('written', at); os.pwrite(file, b'file', 0); ask('file', at)
program = os.open('/usr/bin/env', os.O_RDONLY)
zero = open('/usr/bin/env', 'rb').read(4096).index(0)
at = libc.mmap(None, 4096, 1, 2, program, 0)
ask('empty', at + zero)
os.pwrite(file, bytes(zero) + b'none', 0); libc.mmap(at, 4096, 1, 0x12, file, 0); ask('mapped', at + zero)
print([os.fstat(file).st_size for _ in range(3)], file=sys.stderr)
",
    );
    assert_eq!(
        done.stderr(),
        "empty DONE\nwritten ENOENT\nfile DONE\nempty DONE\nmapped ENOENT\n[4096, 4096, 4096]\n"
    );
}

/// The kernel looks at six files before it gives up.
#[test]
fn a_32_bit_program_behind_many_scripts_is_none() {
    let done = same(
        r"
def make(name, data): open(name, 'wb').write(data); os.chmod(name, 0o755)
code = bytes.fromhex('b801000000bb07000000cd80')
head = b'\x7fELF\1\1\1' + bytes(9) + struct.pack('<HHIIIIIHHHHHH', 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
make('s0', head + struct.pack('<IIIIIIII', 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 4096) + code)
make('t0', open('/bin/true', 'rb').read())
for n in range(1, 8):
    make(f's{n}', b'#!/work/s%d\n' % (n - 1)); make(f't{n}', b'#!/work/t%d\n' % (n - 1))
def run(name):
    pid = os.fork()
    if pid == 0:
        try: os.execv(name, [name])
        except OSError as e: os._exit(e.errno)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print([run(f's{n}') for n in range(8)], [run(f't{n}') for n in range(8)], file=sys.stderr)
# one that kernels with the x32 interface alone would load, if they looked at it as at one of theirs
true = bytearray(open('/bin/true', 'rb').read())
for name, change in [('class', {4: 1}), ('x32', {42: 32, 44: 1}), ('same', {})]:
    for at, byte in change.items(): true[at] = byte
    make(name, bytes(true)); print(name, run(name), file=sys.stderr)
    true = bytearray(open('/bin/true', 'rb').read())
",
    );
    assert_eq!(
        done.stderr(),
        "[8, 8, 8, 8, 8, 8, 40, 40] [0, 0, 0, 0, 0, 0, 40, 40]\nclass 8\nx32 8\nsame 0\n"
    );
}

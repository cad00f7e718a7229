//! Ways out of a sandbox that others had.

use sandrun_sandbox::Class;

use crate::common::Job;
use crate::{CALLS, hostile};

pub fn roots_and_mounts_stay(class: Class) {
    let text = format!(
        "{CALLS}\
         # chroot and fchdir upwards; the classic\n\
         fd = os.open('/', os.O_PATH)\nos.mkdir('r')\ncall('chroot', 161, b'r')\nos.fchdir(fd)\n\
         for _ in range(50): os.chdir('..')\nprint(os.stat('.').st_ino == os.stat('/').st_ino, os.path.exists('/work'))\n\
         for flags in [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x4000000, 0x8000000, 0x2000000, 0x80]: call(hex(flags), 272, flags)\n\
         for flags in [0x10000000, 0x20000, 0x30020000, 0x800000]: call(hex(flags), 56, flags | 17, 0, 0, 0, 0)\n\
         call('clone3', 435, struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)\n\
         for name in ['mnt', 'pid', 'user', 'net', 'ipc', 'uts', 'cgroup']:\n\
         \x20 for pid in ['1', 'self']:\n    try: call(name, 308, os.open(f'/proc/{{pid}}/ns/{{name}}', os.O_RDONLY), 0)\n    except OSError: print(name, 'EPERM')\n"
    );
    let done = hostile(class, &Job::python(&text));
    let out = done.stdout();
    assert!(
        !out.contains("DONE") && out.contains("True True\n"),
        "{out} {}",
        done.stderr()
    );
    assert_eq!(out.lines().count(), 29, "{out} {}", done.stderr());
}

pub fn processes_of_the_sandbox_are_out_of_reach(class: Class) {
    let text = format!(
        "{CALLS}\
         for name in ['mem', 'environ', 'maps', 'fd', 'cwd', 'root', 'exe', 'auxv', 'syscall', 'stack', 'map_files', 'pagemap']:\n\
         \x20 path = f'/proc/1/{{name}}'\n\
         \x20 for flags in [os.O_RDONLY, os.O_RDWR]:\n\
         \x20   try: data = os.read(os.open(path, flags), 99); print(name, data) if data else 0\n    except OSError: pass\n\
         \x20 try: print(name, os.listdir(path))\n  except OSError: pass\n\
         \x20 try: print(name, os.readlink(path))\n  except OSError: pass\n\
         for request in [0, 16, 0x4206]:\n  for pid in [1, os.getppid(), os.getpid()]: call('ptrace', 101, request, pid, 0, 0)\n\
         call('readv', 310, 1, 0, 0, 0, 0, 0)\ncall('kcmp', 312, 1, 1, 0, 0, 0)\n\
         pidfd = libc.syscall(434, 1, 0)\ncall('getfd', 438, pidfd, 0, 0)\ncall('mem of a child', 311, 1, 0, 0, 0, 0, 0)\n\
         for option in [(35, 1, 0), (35, 14, 0), (4, 1), (0x59616d61, -1 & 0xffffffff)]: libc.prctl(*option)\n\
         print('over')\n"
    );
    let done = hostile(class, &Job::python(&text));
    let out = done.stdout();
    let calls = out.lines().filter(|line| line.ends_with(" EPERM"));
    assert_eq!(calls.count(), out.lines().count() - 1, "{out} {}", done.stderr());
    assert!(out.ends_with("over\n"), "{out} {}", done.stderr());
}

/// Whoever owns a user namespace has every right in it: nobody gets one, and its files say nothing new.
pub fn owners_of_namespaces(class: Class) {
    let text = format!(
        "{CALLS}\
         for file, line in [('uid_map', '0 0 1'), ('uid_map', '0 1000 1'), ('gid_map', '0 0 1'), ('setgroups', 'allow'), ('projid_map', '0 0 1'), ('oom_score_adj', '-1000'), ('loginuid', '0'), ('attr/exec', 'unconfined'), ('timerslack_ns', '0')]:\n\
         \x20 try: open(f'/proc/self/{{file}}', 'w').write(line); print('wrote', file)\n  except OSError: pass\n\
         for number in [105, 106, 113, 114, 117, 119]: call('id', number, 0, 0, 0)\n\
         call('groups', 116, 1, struct.pack('I', 0))\ncall('caps', 126, struct.pack('Ii', 0x20080522, 0), struct.pack('IIIIII', *[0xffffffff] * 6))\n\
         call('ambient', 157, 47, 2, 21, 0, 0)\ncall('securebits', 157, 28, 0, 0, 0, 0)\ncall('personality', 135, 0x40000)\n\
         print(os.getresuid(), os.getresgid(), [l for l in open('/proc/self/status') if l.startswith('CapEff')])\n"
    );
    let done = hostile(class, &Job::python(&text));
    let out = done.stdout();
    assert!(
        !out.contains("DONE") && !out.contains("wrote"),
        "{out} {}",
        done.stderr()
    );
    assert!(
        out.contains("(1000, 1000, 1000) (1000, 1000, 1000) ['CapEff:\\t0000000000000000\\n']"),
        "{out}"
    );
}

pub fn programs_with_more_rights_have_none(class: Class) {
    let text = r"
import os, subprocess
own = open('/bin/id', 'rb').read()
for mode in [0o4755, 0o2755, 0o6755]:
    open('own', 'wb').write(own); os.chmod('own', mode)
    print(subprocess.run(['./own', '-u'], capture_output=True, text=True).stdout.strip())
for name in ['su', 'sudo', 'mount', 'newgrp', 'passwd', 'pkexec', 'unshare', 'nsenter', 'chsh']:
    for path in ['/bin/', '/usr/bin/', '/sbin/']:
        if not os.path.exists(path + name): continue
        arguments = {'unshare': ['-Ur', 'id', '-u'], 'nsenter': ['-t', '1', '-a', 'id', '-u'], 'su': ['-c', 'id -u']}.get(name, ['-n', 'id'])
        try: result = subprocess.run([path + name] + arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=5).stdout
        except Exception: continue
        if result.strip() == '0' or 'uid=0' in result: print('root by', path + name)
";
    let done = hostile(class, &Job::python(text));
    assert_eq!(done.stdout(), "1000\n1000\n1000\n", "{}", done.stderr());
}

pub fn loader_and_argument_tricks(class: Class) {
    let text = r#"
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
open('evil.so', 'wb').write(b'\x7fELF' + bytes(100))
for name in ['LD_PRELOAD', 'LD_AUDIT', 'LD_LIBRARY_PATH', 'GCONV_PATH', 'LD_DEBUG_OUTPUT', 'MALLOC_TRACE', 'BASH_ENV', 'PYTHONSTARTUP']:
    r = subprocess.run(['/bin/echo', 'fine'], env={name: '/work/evil.so'}, capture_output=True, text=True)
    if 'fine' not in r.stdout: print(name, r)
def execute(path, argv, env):
    pid = os.fork()
    if pid == 0:
        null = os.open('/dev/null', os.O_WRONLY); os.dup2(null, 1); os.dup2(null, 2)
        a = (ctypes.c_char_p * (len(argv) + 1))(*argv, None); e = (ctypes.c_char_p * (len(env) + 1))(*env, None)
        libc.execve(path, a, e); os._exit(99)
    return os.waitpid(pid, 0)[1]
for argv in [[], [b''], [b'x' * 100_000], [b'\n\x1b[31m'], [b'-c', b'id'], [b'a'] * 50_000]:
    for path in [b'/bin/true', b'/bin/sh', b'/usr/bin/env']:
        status = execute(path, argv, [])
        if status < 0: print(status)
print(execute(b'/bin/true', [b'true'], [b'x=' + b'y' * 120_000] * 5), execute(b'/bin/true', [b'x' * 200_000], []))
print(execute(b'/proc/self/exe', [b'python3', b'-c', b'raise SystemExit(7)'], []))
for fd in [os.open('/bin/true', os.O_RDONLY), os.open('/bin/true', os.O_PATH)]:
    pid = os.fork()
    if pid == 0: libc.syscall(322, fd, b'', (ctypes.c_char_p * 2)(b'true', None), None, 0x1000); os._exit(9)
    print(os.waitpid(pid, 0)[1])
print('over')
"#;
    let done = hostile(class, &Job::python(text));
    assert_eq!(done.stdout(), "0 25344\n1792\n0\n0\nover\n", "{}", done.stderr());
}

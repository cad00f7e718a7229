//! What a job of class `det` is told instead of what the machine would say: the same in every run, whatever runs
//! beside it, wherever the service lives and whoever it is.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout
)]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Done, Job, SANDBOX};
use sandrun_sandbox::{Class, Sandbox, SandboxConfig};

/// Runs of each program.
const RUNS: usize = 20;

fn det(job: Job) -> Job {
    job.class(Class::Det)
}

/// One run's output; stderr belongs to it.
fn text(done: &Done) -> String {
    format!("{}{}", done.stdout(), done.stderr())
}

/// Runs a job many times, half of them while the machine is busy, and wants one output and one trace.
fn one_output(job: &Job) -> Done {
    let mut outputs = BTreeSet::new();
    let mut traces = BTreeSet::new();
    let mut last = None;
    for run in 0..RUNS {
        let busy = (run % 2 == 1).then(Busy::start);
        let done = job.run();
        drop(busy);
        outputs.insert(text(&done));
        traces.insert(done.report.trace_root.to_string());
        last = Some(done);
    }
    let last = last.expect("there were runs");
    assert_eq!(outputs.len(), 1, "{}", differing(&outputs));
    assert_eq!(
        traces.len(),
        1,
        "{} traces of one output:\n{}",
        traces.len(),
        text(&last)
    );
    last
}

/// The first line in which two outputs differ.
fn differing(outputs: &BTreeSet<String>) -> String {
    let mut message = format!("{} different outputs\n", outputs.len());
    let mut two = outputs.iter().take(2).map(|text| text.lines());
    if let (Some(one), Some(other)) = (two.next(), two.next()) {
        for (a, b) in one.zip(other).filter(|(a, b)| a != b).take(3) {
            let _ = writeln!(message, "< {a}\n> {b}");
        }
    }
    message
}

/// Keeps processors, page cache and inode numbers busy while it lives.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..3)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let file = tempfile::NamedTempFile::new().expect("a file");
                        std::fs::write(file.path(), [7; 5000]).expect("it is written");
                        let _ = std::process::Command::new("/bin/true").status();
                    }
                })
            })
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn entropy_comes_from_the_job_alone() {
    let job = det(Job::python(
        "import os, random, uuid, secrets, ctypes\n\
         print(os.urandom(40).hex(), random.random(), uuid.uuid4(), secrets.token_hex())\n\
         print(open('/proc/sys/kernel/random/uuid').read(), open('/proc/sys/kernel/random/uuid').read())\n\
         libc = ctypes.CDLL(None)\n\
         libc.getauxval.restype = ctypes.c_ulong\n\
         print(ctypes.string_at(libc.getauxval(25), 16).hex())\n\
         pid = os.fork()\n\
         print('child' if pid == 0 else 'parent', os.urandom(8).hex(), flush=True)\n\
         if pid: os.wait()\n",
    ));
    let done = one_output(&job);
    let out = done.stdout();
    let lines: Vec<&str> = out.lines().collect();
    assert_ne!(lines[1], lines[2], "each reading gives another identity");
    let draws: BTreeSet<&str> = out
        .lines()
        .filter_map(|line| line.strip_prefix("child ").or(line.strip_prefix("parent ")))
        .collect();
    assert_eq!(draws.len(), 2, "{out}");
    // Another job has other entropy.
    let mut other = job;
    other.args.push("x".to_owned());
    assert_ne!(other.run().stdout(), out);
}

#[test]
fn devices_of_entropy_have_no_end_and_one_content() {
    let job = det(Job::bash(
        "head -c 5 /dev/urandom | od -An -tx1\n\
         head -c 300000 /dev/urandom | cksum\n\
         dd if=/dev/random bs=1000 count=3 status=none | cksum\n\
         cat /dev/urandom | head -c 20 | od -An -tx1\n\
         read -r -N 4 x < /dev/urandom; echo ${#x}\n",
    ));
    let done = one_output(&job);
    assert!(
        done.stdout().contains(" 300000\n") && done.stdout().contains(" 3000\n"),
        "{}",
        text(&done)
    );
}

#[test]
fn directories_are_sorted() {
    let job = det(Job::python(
        "import os\n\
         names = [f'{i * 7919 % 10007:05}' for i in range(1500)]\n\
         for n in names: open(n, 'w').close()\n\
         assert os.listdir() == sorted(os.listdir()), 'sorted'\n\
         os.mkdir('d')\n\
         seen, gone = [], names[9]\n\
         with os.scandir('.') as it:\n\
         \x20   for i, e in enumerate(it):\n\
         \x20       seen.append((e.name, e.name == gone or e.inode() == os.stat(e.name).st_ino))\n\
         \x20       if i == 3: os.unlink(gone); open('zz', 'w').close()\n\
         assert len(seen) == 1502 and all(same for _, same in seen), len(seen)\n\
         print(os.listdir('/usr')[:5], len(os.listdir('/usr/lib')) > 5, os.listdir('/proc/self/fd'))\n\
         print(os.listdir('/proc'), os.listdir('/proc/self'))\n\
         for e in os.scandir('/usr'): print(e.name, e.inode(), e.is_dir())\n\
         import ctypes\n\
         libc = ctypes.CDLL(None); libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p\n\
         libc.telldir.argtypes = libc.readdir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]\n\
         libc.telldir.restype = ctypes.c_long; libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]\n\
         d = libc.opendir(b'.')\n\
         name = lambda: ctypes.string_at(libc.readdir(d) + 19)\n\
         first = [name() for _ in range(5)]; at = libc.telldir(d); sixth = name()\n\
         libc.seekdir(d, at); assert name() == sixth\n\
         libc.rewinddir(d); assert [name() for _ in range(5)] == first\n\
         print(first, sixth)\n",
    ));
    let done = one_output(&job);
    assert_eq!(done.report.exit_code, 0, "{}", text(&done));
}

#[test]
fn files_have_virtual_numbers_and_times() {
    let job = det(Job::python(
        "import os, time, tempfile\n\
         show = lambda p: print(p, tuple(os.stat(p, follow_symlinks=False)), os.stat(p, follow_symlinks=False).st_blocks)\n\
         for p in ['.', 'main.py', '/usr', '/usr/bin/env', '/dev/null', '/tmp', '/proc', '/proc/self/stat']: show(p)\n\
         open('a', 'w').write('x' * 5000); show('a')\n\
         time.sleep(3)\n\
         before = os.stat('a').st_mtime_ns; assert before == os.stat('a').st_mtime_ns\n\
         f = open('a', 'a'); f.write('y'); f.flush()\n\
         after = os.fstat(f.fileno()).st_mtime_ns; assert after - before >= 3e9, (before, after)\n\
         assert os.stat('a').st_mtime_ns == after\n\
         os.utime('a', ns=(1, 2)); assert (os.stat('a').st_atime_ns, os.stat('a').st_mtime_ns) == (1, 2)\n\
         f.write('z'); f.close(); assert os.stat('a').st_mtime_ns > after\n\
         os.utime('a'); assert abs(os.stat('a').st_mtime - time.time()) < 1\n\
         d = os.stat('.').st_mtime_ns; time.sleep(1); open('b', 'w'); assert os.stat('.').st_mtime_ns - d >= 1e9\n\
         os.link('a', 'c'); os.symlink('a', 'l')\n\
         assert os.stat('a').st_ino == os.stat('c').st_ino == os.stat('l').st_ino != os.lstat('l').st_ino\n\
         assert os.stat('a').st_nlink == 2 and os.path.samefile('a', 'c')\n\
         for p in 'abcl': show(p)\n\
         with tempfile.TemporaryFile() as t: print(tuple(os.fstat(t.fileno())), os.readlink(f'/proc/self/fd/{t.fileno()}'))\n\
         r, w = os.pipe(); print(tuple(os.fstat(r)), os.readlink(f'/proc/self/fd/{w}'))\n\
         print(os.statvfs('.'), os.statvfs('/usr'))\n\
         with open('big', 'wb') as g: g.truncate(1 << 20)\n\
         show('big')\n",
    ));
    let done = one_output(&job);
    assert_eq!(done.report.exit_code, 0, "{}", text(&done));
    assert!(
        !text(&done).contains("2000000"),
        "no id of the host: {}",
        text(&done)
    );
}

#[test]
fn make_sees_what_is_newer() {
    let script = "printf 'out: in\\n\\tcp in out; echo made\\n' > Makefile\n\
                  echo 1 > in; make; make; sleep 1; echo 2 > in; make; cat out; touch -d 2001-01-01 in; make\n\
                  find . -newer in | sort\n";
    let done = one_output(&det(Job::bash(script)));
    assert_eq!(done.stdout().matches("\nmade\n").count(), 2, "{}", text(&done));
}

#[test]
fn processes_tell_nothing_of_the_machine() {
    let mut script = String::from("import os\n");
    for name in [
        "stat",
        "status",
        "statm",
        "maps",
        "smaps",
        "mountinfo",
        "mounts",
        "cgroup",
        "limits",
        "io",
        "uid_map",
        "auxv",
        "cmdline",
        "environ",
        "oom_score",
        "sched",
        "wchan",
        "fdinfo/1",
        "task/2/stat",
        "../1/stat",
        "../1/cmdline",
        "../uptime",
        "../mounts",
        "../net/dev",
        "../cpuinfo",
        "../meminfo",
        "../stat",
        "../loadavg",
        "../version",
        "../filesystems",
        "../sys/kernel/random/boot_id",
        "../../etc/mtab",
        "../../etc/hostname",
    ] {
        let _ = writeln!(
            script,
            "try: print('{name}', open('/proc/self/{name}', 'rb').read())\nexcept OSError as e: print('{name}', e)"
        );
    }
    script.push_str(
        "os.chdir('/proc/self'); print(open('stat').read(), open('./status').read())\n\
         print(os.readlink('ns/mnt'), os.readlink('fd/1'))\n\
         os.symlink('/proc/self', 'link') if os.chdir('/work') is None else 0\n\
         for f in ['link/stat', '/work/link/status', os.path.join('/proc/self/root', 'proc/self/stat'), '/proc/self/cwd/link/maps']:\n\
         \x20   try: print(open(f).read())\n\
         \x20   except OSError as e: print(e)\n\
         os.symlink('/proc/self/stat', 'x'); print(open('x').read())\n\
         open('status', 'w').write('mine'); assert open('status').read() == 'mine'\n\
         import threading\n\
         threading.Thread(target=lambda: print(open('/proc/thread-self/stat').read())).start()\n",
    );
    let done = one_output(&det(Job::python(&script)));
    let out = text(&done);
    assert_eq!(done.report.exit_code, 0, "{out}");
    assert!(!out.contains("sandrun-supervi"), "{out}");
}

#[test]
fn the_machine_has_one_processor_and_no_load() {
    let job = det(Job::python(
        "import os, platform, resource, time\n\
         print(platform.uname(), os.cpu_count(), os.sched_getaffinity(0), os.getloadavg())\n\
         os.sched_setaffinity(0, {0, 5})\n\
         try: os.sched_setaffinity(0, {5})\n\
         except OSError as e: print(e)\n\
         for r in sorted(n for n in dir(resource) if n.startswith('RLIMIT_')): print(r, resource.getrlimit(getattr(resource, r)))\n\
         resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)); print(resource.getrlimit(resource.RLIMIT_AS))\n\
         print(resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN), os.times())\n\
         print(os.getpriority(os.PRIO_PROCESS, 0), os.nice(5), os.getpriority(os.PRIO_PROCESS, 0))\n\
         print(os.sysconf('SC_PHYS_PAGES') * 4096, os.sysconf('SC_NPROCESSORS_ONLN'))\n\
         print(time.clock_getres(time.CLOCK_MONOTONIC), time.process_time())\n",
    ));
    let done = one_output(&job);
    let out = text(&done);
    assert!(
        out.contains("node='sandbox', release='6.0.0'") && out.contains(" 1 {0} (0.0, 0.0, 0.0)"),
        "{out}"
    );
    assert!(
        out.contains("(1099511627776, 1099511627776)\n") && out.contains("\n0 5 5\n"),
        "{out}"
    );
    assert!(out.contains("\n536870912 1\n"), "{out}");
}

#[test]
fn instructions_tell_the_same_processor_everywhere() {
    if !sandrun_sandbox::masks_cpuid() {
        println!("this processor answers for itself");
        return;
    }
    // Skipped where there is no compiler to make a program that runs them.
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("cpu.c");
    std::fs::write(
        &source,
        "#include <cpuid.h>\n#include <stdio.h>\n#include <sys/auxv.h>\n#include <x86intrin.h>\n\
         int main() { unsigned a, b, c, d, x;\n\
         for (unsigned l = 0; l <= 0x20; l++) for (unsigned s = 0; s < 4; s++) {\n\
         __cpuid_count(l, s, a, b, c, d); printf(\"%x.%x %x %x %x %x\\n\", l, s, a, b, c, d); }\n\
         for (unsigned l = 0x80000000; l <= 0x80000008; l++) {\n\
         __cpuid(l, a, b, c, d); printf(\"%x %x %x %x %x\\n\", l, a, b, c, d); }\n\
         unsigned long long t = __rdtsc(), u = __rdtscp(&x); printf(\"%llu %llu %u\\n\", t, u, x);\n\
         for (int k = 0; k < 60; k++) if (k != 3 && k != 9 && k != 15 && k != 25 && k != 31 && k != 33)\n\
         printf(\"aux %d %lx\\n\", k, getauxval(k));\n\
         printf(\"%d %d\\n\", !!__builtin_cpu_supports(\"avx2\"), !!__builtin_cpu_supports(\"sse4.2\")); return 0; }\n",
    )
    .expect("the source is written");
    let program = dir.path().join("cpu");
    let compiled = std::process::Command::new("cc")
        .args(["-O1", "-static", "-o"])
        .args([&program, &source])
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        return;
    }
    let bytes = std::fs::read(&program).expect("the program");
    let done = one_output(&det(Job::new(sandrun_types::Interpreter::Itself, "cpu", bytes)));
    let out = text(&done);
    assert!(out.starts_with("0.0 b 756e6547 6c65746e 49656e69\n"), "{out}");
    assert!(out.ends_with("\n0 1\n"), "no AVX, but SSE 4.2: {out}");
}

/// A program that prints whatever it can learn of itself and the machine.
const NOSY: &str = "import os, glob, platform, random, resource, socket, subprocess, tempfile, threading, time, uuid\n\
    print(os.urandom(8).hex(), random.random(), uuid.uuid4(), uuid.getnode() >> 40 & 1, id(object()), hash('x'))\n\
    print(time.time(), time.monotonic(), time.process_time(), time.localtime(), os.times())\n\
    print(platform.uname(), socket.gethostname(), os.getcwd(), os.getuid(), os.getgroups(), os.getpid(), os.umask(0))\n\
    print(os.cpu_count(), os.sched_getaffinity(0), os.getloadavg(), os.getpriority(os.PRIO_PROCESS, 0))\n\
    print([resource.getrlimit(getattr(resource, r)) for r in sorted(dir(resource)) if r.startswith('RLIMIT_')])\n\
    for f in ['stat', 'status', 'maps', 'limits', 'mountinfo', 'cgroup', 'auxv', 'uid_map', 'environ', 'fdinfo/1']:\n\
    \x20   print(f, open('/proc/self/' + f, 'rb').read())\n\
    for f in glob.glob('/proc/*') + glob.glob('/proc/sys/*/*') + glob.glob('/etc/*'):\n\
    \x20   if os.path.isfile(f) and os.access(f, os.R_OK): print(f, hash(open(f, 'rb').read()))\n\
    open('a', 'w').write('x'); os.mkdir('d')\n\
    for f in ['.', 'a', 'd', '/', '/usr', '/usr/bin/env', '/tmp', '/dev/null', '/proc/self', '/etc/hostname']:\n\
    \x20   print(f, tuple(os.stat(f)), os.statvfs(f))\n\
    print(os.listdir('/proc'), os.listdir('/proc/self'), os.listdir('/dev'), os.listdir('/usr/lib')[:20])\n\
    print(open('/dev/urandom', 'rb').read(8), os.readlink('/proc/self/fd/1'), os.readlink('/proc/self/ns/net'))\n\
    print(subprocess.run(['sh', '-c', 'ulimit -a; id; date; hostname; env; echo $$; ls -lai'], capture_output=True))\n\
    t = [threading.Thread(target=lambda: print(threading.get_native_id(), os.urandom(2))) for _ in range(4)]\n\
    [x.start() for x in t]; [x.join() for x in t]\n\
    print(tempfile.mkdtemp())\n";

/// Ways to start a service: on another processor, under another name, as another user, with other limits.
fn services(launcher: &str) -> Vec<Vec<String>> {
    let shell = |script: &'static str| vec!["sh", "-c", script, launcher];
    let ways = [
        vec![launcher],
        vec!["nice", "-n", "7", launcher],
        shell("ulimit -n 400; ulimit -v 90000000; umask 077; cd /; exec \"$0\""),
        shell("trap '' HUP INT USR1; exec 9</dev/null 8</dev/null; LANG=xx TZ=Asia/Tokyo X=1 exec \"$0\""),
        vec!["taskset", "-c", "1", launcher],
        vec![
            "unshare",
            "--uts",
            "sh",
            "-c",
            "hostname another; exec \"$0\"",
            launcher,
        ],
        vec![
            "unshare",
            "--time",
            "--boottime",
            "1000000",
            "--monotonic",
            "999",
            launcher,
        ],
        vec![
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            launcher,
        ],
    ];
    ways.into_iter()
        .map(|way| way.into_iter().map(str::to_owned).collect())
        .collect()
}

#[test]
fn whoever_runs_the_service_makes_no_difference() {
    let dir = tempfile::tempdir().expect("a directory");
    // Where another user can reach it.
    let launcher = dir.path().join("another-name");
    std::fs::copy(common::LAUNCHER, &launcher).expect("a copy");
    for (path, mode) in [(dir.path(), 0o755), (launcher.as_path(), 0o755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }
    let job = det(Job::python(NOSY));
    let first = job.run();
    assert_eq!(first.report.exit_code, 0, "{}", text(&first));
    let mut outputs = BTreeSet::from([text(&first)]);
    let mut roots = BTreeSet::from([job.run().report.trace_root.to_string()]);
    let mut started = 0;
    for command in services(&launcher.to_string_lossy()) {
        let config = SandboxConfig::new(command.iter().map(Into::into).collect());
        // Where a machine cannot start a service in this way, there is nothing to compare.
        let Ok(sandbox) = Sandbox::start(config) else {
            println!("not started: {}", command.join(" "));
            continue;
        };
        if sandbox.class_of(job.class) != SANDBOX.class_of(job.class) {
            println!("another class: {}", command.join(" "));
            continue;
        }
        started += 1;
        for _ in 0..2 {
            let done = job.run_in(&sandbox).expect("the job runs");
            outputs.insert(text(&done));
            roots.insert(done.report.trace_root.to_string());
            assert_eq!(outputs.len(), 1, "{}: {}", command.join(" "), differing(&outputs));
            assert_eq!(roots.len(), 1, "{}", command.join(" "));
        }
    }
    assert!(started >= 3, "{started} services were started");
}

#[test]
fn readings_of_libraries_are_the_same_as_those_of_calls() {
    let done = det(Job::python(
        "import os\n\
         with open('x', 'w') as f: f.write('1')\n\
         a, b = os.stat('x'), os.fstat(os.open('x', os.O_RDONLY))\n\
         assert a == b and a.st_mtime_ns == b.st_mtime_ns, (a, b)\n\
         a, b = os.stat(os.__file__), os.fstat(os.open(os.__file__, os.O_RDONLY))\n\
         assert a == b, (a, b)\n\
         print(sum(1 for _ in os.walk('/usr/lib/python3')) > 0)\n",
    ))
    .run();
    assert_eq!(done.stdout(), "True\n", "{}", text(&done));
    assert!(
        SANDBOX
            .layers()
            .names()
            .iter()
            .any(|name| name.contains("seccomp"))
    );
}

#[test]
fn a_file_that_is_made_for_a_job_says_how_it_was_opened_as_the_kernels_own_does() {
    let text = "import os\nfrom fcntl import *\n\
                for name in ['self/status', 'uptime', 'self/maps']:\n    \
                for flags in [0, os.O_NONBLOCK, os.O_APPEND | os.O_CLOEXEC, os.O_NOFOLLOW, os.O_SYNC]:\n        \
                f = os.open('/proc/' + name, flags)\n        \
                said = [oct(fcntl(f, F_GETFL)), fcntl(f, F_SETFL, os.O_NONBLOCK), oct(fcntl(f, F_GETFL))]\n        \
                told = open(f'/proc/self/fdinfo/{f}').read().split()\n        \
                print(name, flags, *said, told[2:4])\n        os.close(f)\n\
                print(oct(fcntl(0, F_GETFL)))\n";
    let (native, det) = (Job::python(text).run(), det(Job::python(text)).run());
    assert_eq!(self::text(&det), self::text(&native));
    assert_eq!(det.stdout().lines().count(), 16, "{}", self::text(&det));
}

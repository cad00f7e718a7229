//! Class `det`: no job keeps its supervisor busy beyond the job's limits.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{Done, Job, LAUNCHER, SANDBOX};
use sandrun_sandbox::{CancelHandle, Class, OutputSink, RunError, Sandbox, SandboxConfig};
use sandrun_types::RunOutcome;

fn python(text: &str) -> Job {
    Job::python(text)
        .class(Class::Det)
        .limits(|limits| limits.wall = Duration::from_secs(5))
}

/// Runs a job: its end, which came soon.
fn soon(job: &Job) -> Done {
    // the first look at the system's files is none of a job's time
    let _ = SANDBOX.classes();
    let begun = Instant::now();
    let done = job.run();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    done
}

fn is_over(done: &Done) -> bool {
    matches!(done.report.outcome, RunOutcome::Budget | RunOutcome::Timeout)
}

#[test]
fn a_timer_that_wakes_nobody_ends_with_the_job() {
    let done = soon(&python(
        r"
import ctypes, signal
libc = ctypes.CDLL(None)
fd = libc.timerfd_create(1, 0)
libc.timerfd_settime(fd, 0, (ctypes.c_long * 4)(0, 1, 0, 1), None)
signal.pause()
",
    ));
    assert!(is_over(&done), "{:?}", done.report.outcome);
}

/// Stops the supervisor of a job that writes something.
struct Stopper {
    launcher: u32,
    supervisor: Mutex<Option<rustix::process::Pid>>,
}

impl OutputSink for Stopper {
    fn stdout(&self, _: &[u8]) {
        let launcher = self.launcher;
        let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
        let pid = rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        *self.supervisor.lock().unwrap() = Some(pid);
    }

    fn stderr(&self, _: &[u8]) {}
}

#[test]
fn a_supervisor_that_does_not_answer_is_given_up() {
    let sandbox = Sandbox::start(SandboxConfig {
        grace: Duration::from_secs(1),
        ..SandboxConfig::new(vec![LAUNCHER.into()])
    })
    .unwrap();
    let stopper = Stopper {
        launcher: sandbox.launcher_id(),
        supervisor: Mutex::new(None),
    };
    let job = python("print('here', flush=True)\nwhile True: pass")
        .limits(|limits| limits.wall = Duration::from_secs(10));
    // the first look at the system's files is none of a job's time
    let _ = sandbox.classes();
    let ended = job.run_with(&sandbox, &stopper, &CancelHandle::new().unwrap());
    let supervisor = stopper.supervisor.lock().unwrap().expect("it was stopped");
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    assert!(matches!(ended, Err(RunError::Internal(_))));
}

#[test]
fn hashing_takes_the_jobs_time_and_ends_with_it() {
    let begins = r"
import os, resource
size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
fds = []
try:
    while True:
        fds.append(os.open('/tmp/%d' % len(fds), os.O_RDWR | os.O_CREAT))
        os.truncate(fds[-1], size)
except OSError: pass
assert len(fds) > 100
";
    for ends in ["os._exit(0)", "os.closerange(3, 1000)"] {
        let done = soon(&python(&format!("{begins}{ends}\n")));
        assert!(is_over(&done), "{:?} {}", done.report.outcome, done.stderr());
    }
    let done = soon(&python(
        r"
import os, time
fd = os.open('/tmp/file', os.O_RDWR | os.O_CREAT)
os.truncate(fd, 20_000_000)
start = time.monotonic_ns()
os.close(fd)
print(20_000_000 <= time.monotonic_ns() - start < 21_000_000)
",
    ));
    assert_eq!(done.stdout(), "True\n", "{}", done.stderr());
}

#[test]
fn nobody_asks_for_more_files_than_it_may_have_open() {
    let done = soon(&python(
        r"
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
r, w = os.pipe()
def poll(count, number):
    asked = (ctypes.c_int * (2 * count))(*[number, 1] * count)
    ready = libc.poll(asked, count, 0)
    return (ready, asked[1] >> 16) if ready >= 0 else errno.errorcode[ctypes.get_errno()]
limit = os.sysconf('SC_OPEN_MAX')
print(poll(limit, r), poll(limit + 1, r), poll(60000, r), poll(limit, 99))
os.write(w, b'x')
print(poll(limit, r), poll(1, r))
",
    ));
    assert_eq!(
        done.stdout(),
        "(0, 0) EINVAL EINVAL (256, 32)\n(256, 1) (1, 1)\n",
        "{}",
        done.stderr()
    );
}

//! Class `det`: what the kernel counts for each user of the host, other jobs use up without being seen.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use common::{Done, Job, LAUNCHER};
use sandrun_sandbox::{CancelHandle, CgroupPolicy, Class, OutputSink, RunError, Sandbox, SandboxConfig};

/// Sends as many descriptors as go, says how it went, and keeps them on their way.
const HOG: &str = r"
import array, os, signal, socket
pairs = [socket.socketpair() for _ in range(20)]
try:
    for a, b in pairs:
        for _ in range(5): a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * 20))])
except OSError as e: print(e.errno, flush=True)
signal.pause()
";

/// Passes one.
const PASSES: &str = r"
import multiprocessing
if __name__ == '__main__':
    multiprocessing.set_start_method('forkserver')
    one = multiprocessing.Process(target=print, args=('child runs',)); one.start(); one.join(); print(one.exitcode)
";

/// Runs the victim while the hog has all that it gets, and ends the hog.
struct Meanwhile<'a> {
    victim: &'a Sandbox,
    stop: &'a CancelHandle,
    done: Mutex<Option<Result<Done, RunError>>>,
}

impl OutputSink for Meanwhile<'_> {
    fn stdout(&self, text: &[u8]) {
        assert_eq!(text, b"109\n");
        let job = Job::python(PASSES)
            .class(Class::Det)
            .limits(|limits| limits.processes = 64);
        *self.done.lock().unwrap() = Some(job.run_in(self.victim));
        self.stop.cancel();
    }

    fn stderr(&self, text: &[u8]) {
        panic!("{}", String::from_utf8_lossy(text));
    }
}

fn beside_a_hog(hog: &Sandbox, victim: &Sandbox) -> Result<Done, RunError> {
    let stop = CancelHandle::new().unwrap();
    let meanwhile = Meanwhile {
        victim,
        stop: &stop,
        done: Mutex::new(None),
    };
    let _ = Job::python(HOG).run_with(hog, &meanwhile, &stop);
    meanwhile.done.into_inner().unwrap().expect("the hog has spoken")
}

/// Of two services, which start alike, and of one.
#[test]
fn jobs_of_services_of_root_have_users_of_their_own() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (one, two) = (
        common::start(CgroupPolicy::Auto),
        common::start(CgroupPolicy::Auto),
    );
    for victim in [&two, &one] {
        let done = beside_a_hog(&one, victim).unwrap();
        assert_eq!(done.stdout(), "child runs\n0\n", "{}", done.stderr());
    }
}

/// It has no result: not one that says what the neighbours did.
#[test]
fn a_job_that_shares_its_user_is_given_up_where_that_shows() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let launcher = place.path().join("launcher");
    std::fs::copy(LAUNCHER, &launcher).unwrap();
    for path in [place.path(), launcher.as_path()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let user = ["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"];
    let command = user
        .into_iter()
        .map(Into::into)
        .chain([launcher.into_os_string()]);
    let sandbox = Sandbox::start(SandboxConfig::new(command.collect())).unwrap();
    let alone = Job::python(PASSES)
        .class(Class::Det)
        .limits(|limits| limits.processes = 64);
    let alone = alone.run_in(&sandbox).unwrap();
    assert_eq!(alone.stdout(), "child runs\n0\n", "{}", alone.stderr());
    let error = beside_a_hog(&sandbox, &sandbox)
        .map(|done| done.stdout())
        .unwrap_err();
    assert!(
        matches!(&error, RunError::Internal(what) if what.contains("descriptors")),
        "{error}"
    );
}

//! What is left when the sandbox goes: nothing. Alone in its program, since it counts processes and groups.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Job, start};
use sandrun_sandbox::{CancelHandle, CgroupPolicy, MemoryControl, OutputSink, ProcessControl, Sandbox};
use sandrun_types::RunOutcome;

/// Control groups below any mount that a launcher with this process id made.
fn groups_of(pid: &str) -> Vec<PathBuf> {
    fn search(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy() == name {
                    found.push(entry.path());
                }
                search(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), &format!("sandrun-{pid}"), &mut found);
    found
}

/// Process ids whose command line holds this word, or whose ancestor's does, as far as we see them.
fn processes_with(word: &str) -> Vec<String> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let named =
        |pid: &String| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, word));
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(named)
        .collect()
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Blocks until the process is gone, without polling.
fn await_end(pid: &str) {
    let pid = pid
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process id");
    // An error means that it is gone already.
    if let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).expect("poll");
    }
}

/// Not a test by itself: the service that [`kill_of_the_service`] kills.
#[test]
fn service_to_be_killed() {
    if std::env::var_os("SANDRUN_TEST_SERVICE").is_none() {
        return;
    }
    struct Print;
    impl OutputSink for Print {
        fn stdout(&self, piece: &[u8]) {
            eprintln!("{}", String::from_utf8_lossy(piece));
        }
        fn stderr(&self, _: &[u8]) {}
    }
    let sandbox = start(CgroupPolicy::Auto);
    let text = "import os, signal\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\n\
        for _ in range(2):\n  if os.fork() == 0:\n    os.setsid()\n    while True: signal.pause()\n\
        print('running', flush=True)\nwhile True: signal.pause()\n";
    let job = Job {
        args: vec!["31415926".into()],
        ..Job::python(text)
    };
    let cancel = CancelHandle::new().unwrap();
    let _ = job.run_with(&sandbox, &Print, &cancel);
}

#[test]
fn kill_of_the_service() {
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "service_to_be_killed", "--nocapture"])
        .env("SANDRUN_TEST_SERVICE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "running"));
    let launcher = children(&service.id().to_string()).pop().expect("a launcher");
    let mut family = children(&launcher);
    family.extend(processes_with("31415926"));
    assert!(family.len() >= 4, "{family:?}");
    service.kill().unwrap();
    service.wait().unwrap();
    family.push(launcher.clone());
    family.iter().for_each(|pid| await_end(pid));
    assert_eq!(processes_with("31415926"), Vec::<String>::new());
    assert_eq!(groups_of(&launcher), Vec::<PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(".sandrun"), "{mounts}");
}

fn children(pid: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let all = threads.find_map(|task| {
        let text = fs::read_to_string(task.path().join("children")).ok()?;
        (!text.is_empty()).then_some(text)
    });
    all.unwrap_or(text)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn nothing_is_left_after_the_sandbox() {
    let sandbox = start(CgroupPolicy::Auto);
    Job::bash("sleep 27182818 & exit 3").run_in(&sandbox).unwrap();
    assert_eq!(processes_with("27182818"), Vec::<String>::new());
    let launcher = sandbox.launcher_id().to_string();
    for group in groups_of(&launcher) {
        let jobs = fs::read_dir(&group)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .count();
        assert_eq!(jobs, 0, "{}", group.display());
    }
    drop(sandbox);
    assert_eq!(groups_of(&launcher), Vec::<PathBuf>::new());
    assert!(!Path::new("/proc").join(&launcher).exists());
}

#[test]
fn a_dead_launcher_is_replaced() {
    let sandbox = start(CgroupPolicy::Auto);
    let launcher = sandbox.launcher_id();
    let pid = rustix::process::Pid::from_raw(i32::try_from(launcher).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitid(
        rustix::process::WaitId::Pid(pid),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    )
    .unwrap();
    assert_eq!(
        Job::bash("echo again").run_in(&sandbox).unwrap().stdout(),
        "again\n"
    );
    assert_ne!(sandbox.launcher_id(), launcher);
}

#[test]
fn resource_limits_alone_hold() {
    let sandbox = start(CgroupPolicy::Off);
    assert_eq!(sandbox.layers().memory, MemoryControl::Rlimit);
    assert_eq!(sandbox.layers().processes, ProcessControl::Rlimit);
    works_without_groups(&sandbox);
}

#[test]
fn any_user_may_run_jobs() {
    if !rustix::process::geteuid().is_root() {
        // Then all the other tests say so.
        return;
    }
    // Where the build lies may be closed to others.
    let place = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let copy = |from: &Path, name: &str| {
        let to = place.path().join(name);
        fs::copy(from, &to).unwrap();
        to
    };
    let launcher = copy(Path::new(common::LAUNCHER), "launcher");
    let tests = copy(&std::env::current_exe().unwrap(), "tests");
    let output = Command::new(tests)
        .args([
            "--exact",
            "resource_limits_alone_hold",
            "nothing_is_left_after_the_sandbox",
        ])
        .env("SANDRUN_TEST_LAUNCHER", launcher)
        .current_dir("/")
        .gid(65_534)
        .uid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 passed"), "{text}");
}

fn works_without_groups(sandbox: &Sandbox) {
    let small = |job: Job| job.limits(|limits| limits.memory_bytes = 64 << 20);
    let one = small(Job::python("b = 'x' * (200 << 20)\n"))
        .run_in(sandbox)
        .unwrap();
    assert_eq!(
        (one.report.outcome, one.report.exit_code),
        (RunOutcome::Exited, 1)
    );
    assert!(one.stderr().contains("MemoryError"), "{}", one.stderr());
    // Each within the limit, all together over it; and memory that is shared, which no limit of one process counts.
    let text = "import mmap, os, signal\nfor _ in range(6):\n  if os.fork() == 0:\n    b = bytearray(b'x' * (20 << 20)); signal.pause()\nsignal.pause()\n";
    assert_eq!(
        small(Job::python(text)).run_in(sandbox).unwrap().report.outcome,
        RunOutcome::Memory
    );
    let text = "import mmap, signal\nm = mmap.mmap(-1, 200 << 20)\nm.write(b'x' * (1 << 20) * 30)\nfor _ in range(5): m.write(b'x' * (1 << 20) * 30)\nsignal.pause()\n";
    assert_eq!(
        small(Job::python(text)).run_in(sandbox).unwrap().report.outcome,
        RunOutcome::Memory
    );
    let node = Job::new(
        sandrun_types::Interpreter::Node,
        "index.js",
        "console.log('node')",
    )
    .run_in(sandbox)
    .unwrap();
    assert_eq!(node.stdout(), "node\n", "{}", node.stderr());
    let spin =
        Job::python("while True: pass\n").limits(|limits| limits.cpu = std::time::Duration::from_millis(300));
    assert_eq!(spin.run_in(sandbox).unwrap().report.outcome, RunOutcome::Timeout);
}

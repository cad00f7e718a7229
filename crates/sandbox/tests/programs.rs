//! Honest programs: interpreters, outputs, live output, the trace.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::sync::Mutex;
use std::time::Duration;

use common::{Job, SANDBOX};
use sandrun_sandbox::{CancelHandle, Layer, OutputSink, RunError, SkipReason};
use sandrun_types::{ExitStatus, Interpreter, RunOutcome, Sha256Hex};

#[test]
fn every_layer_holds() {
    for layer in Layer::ALL.into_iter().filter(|layer| layer.is_required()) {
        assert!(SANDBOX.layers().has(layer), "{layer}");
    }
    let done = Job::bash("exit 0").run();
    assert_eq!(&done.report.layers, SANDBOX.layers());
}

#[test]
fn python_writes_outputs() {
    let job = Job::python(
        "import os, sys\nos.makedirs('out/deep')\nopen('out/deep/a.txt', 'w').write('hello')\n\
         open('b.csv', 'w').write('1,2\\n')\nprint('done', sys.argv[1:], os.getcwd())\n",
    );
    let done = Job {
        args: vec!["x".into(), "y z".into()],
        ..job
    }
    .run();
    assert_eq!(done.stdout(), "done ['x', 'y z'] /work\n", "{}", done.stderr());
    assert_eq!(done.report.exit, Some(ExitStatus::Code(0)));
    assert_eq!(done.output_names(), ["b.csv", "out/deep/a.txt"]);
    assert_eq!(done.output("out/deep/a.txt"), b"hello");
    assert_eq!(done.report.outputs[0].sha256, Sha256Hex::of(b"1,2\n"));
    assert!(done.report.usage.memory_peak_bytes > 0 && !done.report.usage.cpu.is_zero());
}

#[test]
fn node_runs_with_threads() {
    let text = "const {Worker, isMainThread, parentPort} = require('worker_threads');\n\
        if (isMainThread) { const w = new Worker(__filename); w.on('message', m => console.log(m)); }\n\
        else parentPort.postMessage('from a thread');\n";
    let done = Job::new(Interpreter::Node, "index.js", text).run();
    assert_eq!(done.stdout(), "from a thread\n", "{}", done.stderr());
}

#[test]
fn bash_pipelines_and_temporary_files() {
    let text = "set -e\nseq 5 | sort -r | head -n 2 > /tmp/x\ncat /tmp/x > res.txt\ncat <(echo fd)\n\
        echo s > /dev/shm/s\nprintf %s \"$0\" > name.txt\nexit 7\n";
    let done = Job::bash(text).run();
    assert_eq!(done.output("res.txt"), b"5\n4\n", "{}", done.stderr());
    assert_eq!(done.stdout(), "fd\n");
    assert_eq!(done.report.exit_code, 7);
}

#[test]
fn own_executables_and_scripts_of_any_interpreter() {
    let mut job = Job::new(
        Interpreter::Itself,
        "bin/tool",
        std::fs::read("/bin/echo").unwrap(),
    );
    job.args = vec!["itself".into()];
    assert_eq!(job.run().stdout(), "itself\n");
    let perl = Job::new(
        Interpreter::Itself,
        "tool",
        "#!/usr/bin/perl\nprint \"perl\\n\";\n",
    )
    .run();
    assert_eq!(perl.stdout(), "perl\n", "{}", perl.stderr());
    let none = Job::new(Interpreter::Itself, "tool", "#!/nowhere/x\n").run();
    assert_eq!(none.report.exit_code, 127);
    assert!(
        none.report.explanation.contains("cannot be executed"),
        "{}",
        none.report.explanation
    );
    assert_eq!(
        Job::new(Interpreter::Itself, "tool", "no program\n")
            .run()
            .report
            .exit_code,
        126
    );
}

#[test]
fn local_sockets_timers_and_locks_work() {
    let text = "import socket, fcntl, signal, threading, multiprocessing, select\n\
        a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n\
        s = socket.socket(socket.AF_UNIX); s.bind('/tmp/s'); s.listen()\n\
        f = open('/tmp/l', 'w'); fcntl.flock(f, fcntl.LOCK_EX)\n\
        signal.setitimer(signal.ITIMER_REAL, 0.01); signal.signal(signal.SIGALRM, lambda *_: None); signal.pause()\n\
        t = threading.Thread(target=lambda: None); t.start(); t.join()\n\
        p = multiprocessing.Process(target=lambda: None); p.start(); p.join(); assert p.exitcode == 0\n\
        l = multiprocessing.Lock()\n\
        print(open('/proc/self/comm').read().strip(), open('/proc/cpuinfo').read()[:9], select.epoll() is not None)\n";
    let done = Job::python(text).run();
    assert_eq!(done.stdout(), "python3 processor True\n", "{}", done.stderr());
}

#[test]
fn only_what_matches_leaves_and_inputs_stay_when_unchanged() {
    let job = || {
        let mut job = Job::bash("echo 1 > a.txt; mkdir plots; echo 2 > plots/b.png; echo new >> data.csv\n");
        job.files.push(("data.csv".into(), b"old\n".to_vec()));
        job.files.push(("same.csv".into(), b"old\n".to_vec()));
        job
    };
    assert_eq!(job().run().output_names(), ["a.txt", "data.csv", "plots/b.png"]);
    assert_eq!(
        job().outputs(r#"["*.png", "same.csv"]"#).run().output_names(),
        ["plots/b.png", "same.csv"]
    );
    assert_eq!(
        job().outputs(r#"["*"]"#).run().output_names(),
        ["a.txt", "data.csv", "plots/b.png"]
    );
    assert_eq!(job().outputs(r#"["*.csv"]"#).run().output_names(), ["data.csv"]);
}

#[test]
fn links_and_special_files_are_not_followed() {
    let text = "ln -s /etc/passwd link; ln -s /usr dir; ln -s loop loop; mkfifo fifo; echo x > real; ln real hard\n\
        mkdir closed; echo y > closed/in; chmod 000 closed/in closed; printf z > $'new\\nline'\n\
        python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('sock')\"\n";
    let done = Job::bash(text).run();
    assert_eq!(
        done.output_names(),
        ["closed/in", "hard", "real"],
        "{}",
        done.stderr()
    );
    let reason = |name: &str| {
        done.report
            .skipped
            .iter()
            .find(|file| file.name.starts_with(name))
            .map(|f| f.reason)
    };
    for name in ["link", "dir", "loop"] {
        assert_eq!(reason(name), Some(SkipReason::Symlink));
    }
    assert_eq!(reason("fifo"), Some(SkipReason::SpecialFile));
    assert_eq!(reason("sock"), Some(SkipReason::SpecialFile));
    assert_eq!(reason("new"), Some(SkipReason::BadName));
}

#[test]
fn the_same_job_has_the_same_trace() {
    let job = Job::python(
        "import os, sys\nprint({'a', 'b', 'c'}, sorted(os.environ))\nprint('e', file=sys.stderr)\n\
         open('x', 'w').write('x' * 100000)\nprint('y' * 100000)\n",
    );
    let (one, two) = (job.run(), job.run());
    assert_eq!(one.report.trace_root, two.report.trace_root);
    assert_eq!(one.report.output_root, two.report.output_root);
    // header, two chunks of stdout, one of stderr, output tree, exit
    assert_eq!((one.trace().len(), one.report.trace.leaves), (6, 6));
    assert_eq!(one.trace(), two.trace());
    let other = Job {
        args: vec!["1".into()],
        ..job
    }
    .run();
    assert_ne!(one.report.trace_root, other.report.trace_root);
    assert_eq!(one.report.output_root, other.report.output_root);
}

#[test]
fn a_job_that_a_limit_ends_has_a_trace_of_its_beginning_alone() {
    let job = Job::python("print('x', flush=True)\nwhile True: pass\n")
        .limits(|limits| limits.wall = Duration::from_millis(500));
    let done = job.run();
    // header, output tree, exit
    assert_eq!(
        (done.report.outcome, done.trace().len()),
        (RunOutcome::Timeout, 3)
    );
}

#[test]
fn live_output_arrives_while_the_job_waits() {
    /// Cancels the run as soon as it has seen the first piece, which the job prints before it waits for ever.
    struct Cancelling<'a>(&'a CancelHandle, Mutex<Vec<u8>>);
    impl OutputSink for Cancelling<'_> {
        fn stdout(&self, piece: &[u8]) {
            self.1.lock().unwrap().extend_from_slice(piece);
            self.0.cancel();
        }
        fn stderr(&self, _: &[u8]) {}
    }
    let cancel = CancelHandle::new().unwrap();
    let sink = Cancelling(&cancel, Mutex::default());
    let result = Job::bash("echo first; read < <(sleep infinity)").run_with(&SANDBOX, &sink, &cancel);
    assert!(matches!(
        result.map(|done| done.report.outcome),
        Err(RunError::Cancelled)
    ));
    assert_eq!(*sink.1.lock().unwrap(), b"first\n");
}

#[test]
fn bad_requests_are_refused_and_say_why() {
    let nul = Job {
        args: vec!["a\0b".into()],
        ..Job::bash("")
    }
    .run_in(&SANDBOX);
    assert!(matches!(nul, Err(RunError::BadRequest(text)) if text.contains("NUL")));
    let million = Job {
        args: vec!["x".into(); 1_000_000],
        ..Job::bash("")
    }
    .run_in(&SANDBOX);
    assert!(matches!(million, Err(RunError::BadRequest(text)) if text.contains("together")));
    let preload = Job {
        env: [("LD_PRELOAD".into(), "/x.so".into())].into(),
        ..Job::bash("echo $LD_PRELOAD")
    }
    .run();
    assert_eq!(preload.stdout(), "\n");
    assert_eq!(preload.stderr(), "");
}

#[test]
fn jobs_run_in_parallel_without_seeing_each_other() {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number: u32| {
                scope.spawn(move || {
                    let text = format!(
                        "echo {number} > /tmp/x; echo {number} > own; ls /proc | grep -c '^[0-9]'; cat /tmp/x"
                    );
                    Job::bash(&text).run()
                })
            })
            .collect();
        for (number, thread) in threads.into_iter().enumerate() {
            let done = thread.join().unwrap();
            assert_eq!(done.report.outcome, RunOutcome::Exited);
            assert!(
                done.stdout().ends_with(&format!("\n{number}\n")),
                "{}",
                done.stdout()
            );
            assert_eq!(done.output("own"), format!("{number}\n").as_bytes());
        }
    });
}

#[test]
fn every_job_has_namespaces_of_its_own() {
    // Held by the first job while the second one runs, so that a number cannot be used again.
    let job =
        Job::bash("readlink /proc/self/ns/{net,ipc,uts,mnt,pid,user}; echo >&2; read < <(sleep infinity)");
    struct Second<'a>(&'a CancelHandle, Mutex<(String, String)>);
    impl OutputSink for Second<'_> {
        fn stdout(&self, piece: &[u8]) {
            self.1.lock().unwrap().0.push_str(&String::from_utf8_lossy(piece));
        }
        fn stderr(&self, _: &[u8]) {
            let second = Job::bash("readlink /proc/self/ns/{net,ipc,uts,mnt,pid,user}")
                .run()
                .stdout();
            self.1.lock().unwrap().1 = second;
            self.0.cancel();
        }
    }
    let cancel = CancelHandle::new().unwrap();
    let sink = Second(&cancel, Mutex::default());
    assert!(matches!(
        job.run_with(&SANDBOX, &sink, &cancel),
        Err(RunError::Cancelled)
    ));
    let (first, second) = &*sink.1.lock().unwrap();
    assert_eq!(
        (first.lines().count(), second.lines().count()),
        (6, 6),
        "{first}{second}"
    );
    for (one, two) in first.lines().zip(second.lines()) {
        assert_ne!(one, two);
    }
}

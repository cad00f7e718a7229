//! Real programs and probes in class `det`: every run of one gives the same output root and the same trace root.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::Job;
use sandrun_sandbox::Class;
use sandrun_types::{Interpreter, Manifest, OutputRoot, TraceRoot};

/// How often each program runs; `SANDRUN_DET_RUNS` for more.
fn runs() -> usize {
    let set = std::env::var("SANDRUN_DET_RUNS").ok();
    set.map_or(3, |text| text.parse().expect("a number of runs"))
}

fn testnet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testnet")
        .join(name)
}

/// Runs a job several times, two at once for another load, and compares.
fn one_trace(name: &str, job: Job) {
    let job = job.class(Class::Det).limits(|limits| {
        limits.wall = Duration::from_secs(120);
        limits.cpu = Duration::from_secs(240);
    });
    let mut answers: BTreeSet<(OutputRoot, TraceRoot)> = BTreeSet::new();
    for run in 0..runs() {
        let load = (run % 2 == 1).then(|| {
            Job::python("while True: pass").limits(|limits| {
                limits.wall = Duration::from_millis(500);
            })
        });
        let done = std::thread::scope(|scope| {
            let busy = load.as_ref().map(|load| scope.spawn(|| load.run()));
            let done = job.run();
            busy.map(|busy| busy.join().unwrap());
            done
        });
        assert_eq!(
            done.report.exit_code,
            0,
            "{name}, run {run}: {} {}",
            done.report.explanation,
            done.stderr()
        );
        answers.insert((done.report.output_root, done.report.trace_root));
        assert_eq!(
            answers.len(),
            1,
            "{name}: run {run} is another\n{}",
            done.stdout()
        );
    }
}

/// A directory of `testnet/jobs` as it is submitted.
fn job(directory: &Path) -> Job {
    let text = std::fs::read(directory.join("job.json")).unwrap();
    let manifest = Manifest::parse(&text).unwrap();
    let entrypoint = manifest.entrypoint.clone().unwrap().to_string();
    let mut files = Vec::new();
    collect(directory, "", &mut files);
    files.retain(|(name, _)| name != "job.json");
    files.sort_by_key(|(name, _)| *name != entrypoint);
    let outputs = serde_json::from_slice::<serde_json::Value>(&text).unwrap()["outputs"].to_string();
    Job {
        files,
        args: manifest.args,
        env: manifest.env,
        ..Job::new(manifest.interpreter.unwrap(), &entrypoint, "").outputs(outputs.leak())
    }
}

fn collect(directory: &Path, below: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for item in std::fs::read_dir(directory).unwrap() {
        let item = item.unwrap();
        let name = format!("{below}{}", item.file_name().to_str().unwrap());
        if item.file_type().unwrap().is_dir() {
            collect(&item.path(), &format!("{name}/"), files);
        } else {
            files.push((name, std::fs::read(item.path()).unwrap()));
        }
    }
}

#[test]
fn every_example_job_has_one_trace() {
    let mut names: Vec<_> = std::fs::read_dir(testnet("jobs"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    assert!(names.len() >= 13, "{names:?}");
    let wanted = std::env::var("SANDRUN_DET_JOB").unwrap_or_default();
    for directory in names {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(&wanted) {
            one_trace(&name, job(&directory));
        }
    }
}

fn probe(name: &str) -> Vec<u8> {
    std::fs::read(testnet("probes").join(name)).unwrap()
}

#[test]
fn python_that_draws_random_numbers_and_asks_for_the_machine() {
    one_trace(
        "entropy.py",
        Job::new(Interpreter::Python3, "entropy.py", probe("entropy.py")),
    );
}

#[test]
fn python_with_eight_threads() {
    one_trace(
        "threads.py",
        Job::new(Interpreter::Python3, "threads.py", probe("threads.py")),
    );
}

#[test]
fn python_with_subprocesses_forks_and_signals() {
    one_trace(
        "processes.py",
        Job::new(Interpreter::Python3, "processes.py", probe("processes.py")),
    );
}

#[test]
fn processes_with_threads_that_end_in_every_way() {
    one_trace(
        "endings.py",
        Job::new(Interpreter::Python3, "endings.py", probe("endings.py")),
    );
}

#[test]
fn node_with_worker_threads_and_timers() {
    one_trace(
        "workers.js",
        Job::new(Interpreter::Node, "workers.js", probe("workers.js")),
    );
}

#[test]
fn bash_with_background_jobs() {
    one_trace(
        "background.sh",
        Job::new(Interpreter::Bash, "background.sh", probe("background.sh")),
    );
}

/// Compiles a probe; `None`, and a message, where the compiler is missing.
#[allow(
    clippy::print_stderr,
    reason = "who reads the test's output is told what it did not try"
)]
fn compiled(source: &str, compiler: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("det_programs");
    std::fs::create_dir_all(&directory).unwrap();
    let program = directory.join(source.replace('.', "-"));
    let mut command = Command::new(compiler);
    command
        .args(arguments)
        .arg("-o")
        .arg(&program)
        .arg(testnet("probes").join(source));
    command
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", directory.join("go-cache"));
    let Ok(output) = command.output() else {
        eprintln!("{source} is skipped: there is no {compiler}");
        return None;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(std::fs::read(program).unwrap())
}

#[test]
fn a_static_c_program_with_threads() {
    if let Some(program) = compiled("static.c", "gcc", &["-O2", "-static", "-pthread"]) {
        one_trace("static.c", Job::new(Interpreter::Itself, "program", program));
    }
}

#[test]
fn a_static_rust_program_with_threads() {
    let flags = ["-O", "-C", "target-feature=+crt-static"];
    if let Some(program) = compiled("static.rs", "rustc", &flags) {
        one_trace("static.rs", Job::new(Interpreter::Itself, "program", program));
    }
}

#[test]
fn a_go_program_with_goroutines() {
    let beside = Path::new("/usr/local/go/bin/go");
    let compiler = if beside.is_file() {
        "/usr/local/go/bin/go"
    } else {
        "go"
    };
    if let Some(program) = compiled("goroutines.go", compiler, &["build"]) {
        one_trace("goroutines.go", Job::new(Interpreter::Itself, "program", program));
    }
}

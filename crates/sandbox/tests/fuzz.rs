//! The tracer of class `det` under random programs: system calls with random arguments, signals, threads, programs
//! executed by threads, random bytes as programs. It lives, each job ends with a status, and two runs of one seed have
//! one output and one trace. `SANDRUN_FUZZ_SEEDS=from-to` runs more of them.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::print_stderr
)]

mod common;

use std::time::{Duration, Instant};

use common::{Done, Job, SANDBOX};
use sandrun_sandbox::Class;
use sandrun_types::RunOutcome;

/// What a seed stands for. Each child draws from its own source and writes down what its calls gave, so that two runs
/// that differ show where.
const PROGRAM: &str = include_str!("fuzz/program.py");

fn seeds() -> std::ops::Range<u32> {
    let text = std::env::var("SANDRUN_FUZZ_SEEDS").unwrap_or_else(|_| "0-6".to_owned());
    let (from, to) = text.split_once('-').expect("from-to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn run(kind: &str, seed: u32) -> Done {
    let mut job = Job::python(PROGRAM).class(Class::Det).limits(|limits| {
        limits.wall = Duration::from_secs(10);
        limits.processes = 48;
    });
    job.args = vec![kind.to_owned(), seed.to_string()];
    // the first look at the system's files is none of a job's time
    let _ = SANDBOX.classes();
    let started = Instant::now();
    let done = job.run();
    assert!(started.elapsed() < Duration::from_secs(30), "{kind} {seed}");
    assert!(
        !matches!(done.report.outcome, RunOutcome::Internal),
        "{kind} {seed}: {}",
        done.report.explanation
    );
    done
}

/// The end of what both have, and what comes then in each.
fn difference(one: &str, other: &str) -> String {
    let mut lines = one.lines().zip(other.lines());
    let first = lines.position(|(a, b)| a != b).unwrap_or(0);
    let around = |text: &str| {
        let lines = text.lines().skip(first.saturating_sub(6)).take(10);
        lines.collect::<Vec<_>>().join("\n")
    };
    format!("{}\n---\n{}", around(one), around(other))
}

fn one_trace(kind: &str) {
    let mut differ = Vec::new();
    for seed in seeds() {
        let (mut one, mut two) = (run(kind, seed), run(kind, seed));
        let timed_out = |done: &Done| done.report.outcome == RunOutcome::Timeout;
        if timed_out(&one) && timed_out(&two) {
            // it computes for ever, which no event can show
            continue;
        }
        // the machine may have stood still
        if timed_out(&one) {
            one = run(kind, seed);
        }
        if timed_out(&two) {
            two = run(kind, seed);
        }
        if one.report.trace_root != two.report.trace_root {
            differ.push(seed);
            eprintln!(
                "{kind} {seed} {:?} {:?}\n{}\n{}",
                one.report.outcome,
                two.report.outcome,
                difference(&one.stdout(), &two.stdout()),
                difference(&leaves(&one), &leaves(&two)),
            );
        }
    }
    assert!(differ.is_empty(), "{kind}: seeds {differ:?}");
    let next = Job::python("print('clean')").class(Class::Det).run();
    assert_eq!(next.stdout(), "clean\n");
}

fn leaves(done: &Done) -> String {
    let leaves = done.trace();
    leaves.iter().map(|leaf| format!("{leaf}\n")).collect()
}

#[test]
fn random_calls() {
    one_trace("calls");
}

#[test]
fn random_signals_to_threads_and_processes() {
    one_trace("signals");
}

#[test]
fn threads_that_execute_programs() {
    one_trace("programs");
}

#[test]
fn random_bytes_as_programs() {
    one_trace("bytes");
}

#[test]
fn random_files_and_pipes() {
    one_trace("files");
}

/// Numbers of tasks end before any kernel's do.
#[test]
#[ignore = "it makes 32,000 processes: run it with --include-ignored"]
fn numbers_of_tasks_run_out_at_one_place() {
    let text = "import os\nn = 0\ntry:\n  while True:\n    n = os.fork()\n    if n == 0: os._exit(0)\n    os.waitpid(n, 0)\n\
        except OSError as e: print(n, e.errno)\n";
    let job = Job::python(text).class(Class::Det);
    let done = job.limits(|limits| limits.wall = Duration::from_secs(200)).run();
    assert_eq!(done.stdout(), "32000 11\n", "{}", done.stderr());
}

//! `run` and `run --verify` as a user runs them: programs that are deterministic in one class, and programs that are not.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandrun-pool"))
        .arg("run")
        .args(arguments)
        .env("SANDRUN_CONFIG", "/dev/null")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The deterministic class that this machine has.
fn det() -> String {
    sandrun_sandbox::Class::deterministic_here().to_string()
}

/// A script of its own in a temporary directory.
fn script(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    (directory, path)
}

fn probe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testnet/probes")
        .join(name)
}

/// What `run --verify --json` says, and the exit code.
fn verify(code: &Path, class: &str, more: &[&str]) -> (Value, i32) {
    let code = code.to_str().unwrap();
    let mut arguments = vec!["--verify", "--json", "--class", class, code];
    arguments.extend(more);
    let output = run(&arguments);
    let said = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr)));
    (said, output.status.code().unwrap())
}

#[test]
fn traces_of_local_runs_are_kept_and_compared() {
    let (directory, path) = script(
        "main.py",
        "import sys\nopen('a', 'w').write(sys.argv[1])\nprint('done')\n",
    );
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let code = path.to_str().unwrap();
    let kept = |name: &str, argument: &str| {
        let trace = file(name);
        let output = run(&[
            code,
            "--json",
            "--class",
            &det(),
            "--trace",
            &trace,
            "--",
            argument,
        ]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["trace"], trace);
        said["trace_root"].as_str().unwrap().to_owned()
    };
    let roots = [kept("1", "x"), kept("2", "x"), kept("2", "y")];
    let trace = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandrun-pool"));
        command
            .arg("trace")
            .args(arguments)
            .env("SANDRUN_CONFIG", "/dev/null");
        let output = command.output().unwrap();
        (text(&output.stdout), output.status.code().unwrap())
    };
    assert_eq!(roots[0], roots[1]);
    assert!(trace(&["show", &file("1")]).0.contains(&roots[0][2..]));
    let (said, code) = trace(&["diff", &file("1"), &file("2"), "--right-root", &roots[2]]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("arguments"), "{said}");

    let nowhere = run(&[path.to_str().unwrap(), "--trace", &file("missing/trace")]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(nowhere.stdout.is_empty());
}

#[test]
fn a_program_runs_and_its_exit_code_is_the_commands() {
    let (directory, path) = script(
        "main.py",
        "import os, sys\nprint(sys.argv[1:], os.environ['A'])\nprint('e', file=sys.stderr)\n\
         open('out.txt', 'w').write('42')\nsys.exit(7)\n",
    );
    let out = directory.path().join("out");
    let (code, out_text) = (path.to_str().unwrap(), out.to_str().unwrap());
    let output = run(&[code, "--env", "A=b", "--out", out_text, "--", "--x", "1"]);
    assert_eq!(
        text(&output.stdout),
        "['--x', '1'] b\n",
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stderr).starts_with("e\n"));
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(std::fs::read_to_string(out.join("out.txt")).unwrap(), "42");
    let output = run(&[code, "--env", "A=b", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&said["exit_code"], &said["stdout"]),
        (&7.into(), &"[] b\n".into())
    );
    assert_eq!(said["outputs"][0]["path"], "out.txt");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn bad_input_is_refused_before_anything_runs() {
    let (_directory, path) = script("main.py", "print(1)\n");
    let code = path.to_str().unwrap();
    for (arguments, says) in [
        (vec!["/no/such/code"], "can't be read"),
        (vec![code, "--class", "best"], "expected native, det, det-soft"),
        (vec![code, "--env", "x"], "give NAME=VALUE"),
        (vec![code, "--runs", "3"], "--verify"),
        (vec![code, "--verify", "--runs", "1"], "2..=1000"),
        (vec![code, "--verify", "--out", "x"], "cannot be used with"),
        (vec![code, "--out", "/proc/x"], "--out"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_program_that_prints_the_clock_fails_in_class_native_at_the_chunk() {
    let (_directory, path) = script("clock.py", "import time\nprint('now')\nprint(int(time.time()))\n");
    let (said, code) = verify(&path, "native", &[]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(
        (&said["deterministic"], &said["distinct"]),
        (&false.into(), &2.into())
    );
    let difference = &said["difference"];
    assert_eq!((&difference["run"], &difference["event"]), (&2.into(), &0.into()));
    assert!(
        difference["first"]
            .as_str()
            .unwrap()
            .starts_with("stdout bytes 0.."),
        "{difference}"
    );
    assert_eq!(difference["printed"]["line"], 2, "{difference}");
    assert!(said["needs"].as_str().unwrap().starts_with("class det"), "{said}");
    let (said, code) = verify(&path, &det(), &[]);
    assert_eq!((code, &said["deterministic"]), (0, &true.into()), "{said}");
}

#[test]
fn every_run_but_the_first_is_under_conditions_that_are_shown() {
    let (_directory, path) = script("main.sh", "echo same\n");
    let (said, code) = verify(&path, "native", &["--runs", "3"]);
    assert_eq!((code, &said["distinct"]), (0, &1.into()), "{said}");
    let runs = said["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[0]["changes"], Value::Array(Vec::new()));
    for run in &runs[1..] {
        let changes = run["changes"].as_array().unwrap();
        let kinds: Vec<&str> = changes
            .iter()
            .map(|change| change["kind"].as_str().unwrap())
            .collect();
        let all = [
            "host_name",
            "directory",
            "user",
            "clocks",
            "file_dates",
            "load",
            "cpu",
            "open_files",
            "environment",
            "addresses",
            "stack",
        ];
        assert_eq!(kinds, all);
        // those that any user may change
        for change in changes
            .iter()
            .filter(|change| change["kind"] != "clocks" && change["kind"] != "user")
        {
            assert_eq!(change.get("failed"), None, "{change}");
        }
    }
    let shown = run(&[path.to_str().unwrap(), "--verify", "--class", "native"]);
    let shown = text(&shown.stdout);
    for words in ["host name", "deterministic: 2 runs, one trace", "trace root"] {
        assert!(shown.contains(words), "{shown}");
    }
}

#[test]
fn probes_are_deterministic_in_class_det() {
    for name in [
        "entropy.py",
        "threads.py",
        "processes.py",
        "workers.js",
        "background.sh",
    ] {
        let (said, code) = verify(&probe(name), &det(), &["--runs", "3"]);
        assert_eq!((code, &said["distinct"]), (0, &1.into()), "{name}: {said}");
        assert_eq!(said["runs"][0]["exit_code"], 0, "{name}: {said}");
    }
}

/// The first event at which each leaves the path is named.
#[test]
fn programs_that_ask_the_processor_leave_the_path_in_class_det() {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    for (name, feature, event) in [
        ("hardware_random.py", "rdrand", "wrote"),
        ("processor_number.py", "rdpid", "stdout bytes 0.."),
    ] {
        if !flags.split_whitespace().any(|flag| flag == feature) {
            eprintln!("{name} is skipped: this processor has no {feature}");
            continue;
        }
        let (said, code) = verify(&probe(&format!("loose/{name}")), &det(), &[]);
        assert_eq!(
            (code, &said["deterministic"]),
            (1, &false.into()),
            "{name}: {said}"
        );
        let first = said["difference"]["first"].as_str().unwrap();
        assert!(first.contains(event), "{name}: {said}");
    }
}

#[test]
fn a_spin_between_processes_needs_class_native() {
    let (_directory, manifest) = script("job.json", r#"{"timeout": 5}"#);
    let more = ["--manifest", manifest.to_str().unwrap()];
    let (said, code) = verify(&probe("loose/spin.py"), &det(), &more);
    assert_eq!((code, &said["soft"]), (1, &1.into()), "{said}");
    assert!(said["needs"].as_str().unwrap().contains("class native"), "{said}");
    assert!(
        said["runs"][0]["explanation"]
            .as_str()
            .unwrap()
            .contains("class native"),
        "{said}"
    );
}

#[test]
fn programs_that_need_class_det_are_told_so_in_class_native() {
    // where nobody can mask what the processor is, both classes say it
    let masked = (det() == "det").then_some("cpu_model.py");
    for name in masked
        .into_iter()
        .chain(["time_stamp.py", "raw_clock.py", "race.py"])
    {
        let path = probe(&format!("loose/{name}"));
        let (said, code) = verify(&path, "native", &[]);
        assert_eq!(
            (code, &said["deterministic"]),
            (1, &false.into()),
            "{name}: {said}"
        );
        assert!(
            said["needs"].as_str().unwrap().starts_with("class det"),
            "{name}: {said}"
        );
        let (said, code) = verify(&path, &det(), &[]);
        assert_eq!(
            (code, &said["deterministic"]),
            (0, &true.into()),
            "{name}: {said}"
        );
    }
}

#[test]
fn an_exact_class_is_this_machines_or_none() {
    let (_directory, path) = script("main.py", "print(1)\n");
    let code = path.to_str().unwrap();
    let own = verify(&path, &det(), &[]).0["class"].as_str().unwrap().to_owned();
    assert_eq!(verify(&path, &own, &[]).1, 0);
    let mut other = own;
    let last = other.pop().unwrap();
    other.push(if last == '0' { '1' } else { '0' });
    for arguments in [
        &["--class", &other, code][..],
        &["--verify", "--class", &other, code],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains("is not this machine's"),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    use std::io::Read as _;
    let (directory, path) = script("main.py", "print('begun', flush=True)\nwhile True: pass\n");
    let scratch = directory.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    for (class, signal, code) in [("native", "-INT", 130), (&det(), "-TERM", 143)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sandrun-pool"))
            .args(["run", "--class", class])
            .arg(&path)
            .env("SANDRUN_CONFIG", "/dev/null")
            .env("TMPDIR", &scratch)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut begun = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
        let interrupted = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(interrupted.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{class}");
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "{class}");
    }
}

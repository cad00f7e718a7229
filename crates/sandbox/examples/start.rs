//! Measures the start of isolated programs against bubblewrap and against the bare program, in one run.
//!
//! `cargo run --release -p sandrun-sandbox --example start -- path/to/sandrun-supervisor [rounds]`

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sandrun_sandbox::{CancelHandle, Limits, RunRequest, Sandbox, SandboxConfig};
use sandrun_types::{BundlePath, Entry, Interpreter, OutputPatterns};

/// Something to be timed.
type Case<'a> = (&'a str, Box<dyn Fn() -> anyhow::Result<()> + 'a>);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let launcher = arguments.next().context("name the supervisor program")?;
    let rounds = arguments
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(100);
    let sandbox = Sandbox::start(SandboxConfig::new(vec![launcher]))?;
    let python = sandbox
        .interpreters()
        .iter()
        .find(|(name, _)| *name == Interpreter::Python3);
    let python = python.context("python3 is not installed")?.1.clone();
    let files = tempfile::tempdir()?;
    std::fs::write(files.path().join("true"), std::fs::read("/bin/true")?)?;
    std::fs::write(files.path().join("pass.py"), "pass\n")?;
    let cases: [Case<'_>; 6] = [
        ("bare /bin/true", Box::new(|| spawn(Command::new("/bin/true")))),
        ("bwrap /bin/true", Box::new(|| spawn(bwrap(&["/bin/true"])))),
        (
            "sandbox /bin/true",
            Box::new(|| run(&sandbox, files.path(), "true", Interpreter::Itself)),
        ),
        ("bare python3", Box::new(|| spawn(bare_python(&python)))),
        (
            "bwrap python3",
            Box::new(|| spawn(bwrap(&["/usr/bin/python3", "-c", "pass"]))),
        ),
        (
            "sandbox python3",
            Box::new(|| run(&sandbox, files.path(), "pass.py", Interpreter::Python3)),
        ),
    ];
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); cases.len()];
    // Interleaved, so that whatever else the machine does hits all alike.
    for _ in 0..rounds {
        for ((_, case), times) in cases.iter().zip(&mut times) {
            let start = Instant::now();
            case()?;
            times.push(start.elapsed());
        }
    }
    for ((name, _), times) in cases.iter().zip(&mut times) {
        times.sort();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
        println!(
            "{name:20} median {:7.3} ms   10 % {:7.3}   90 % {:7.3}",
            at(50),
            at(10),
            at(90)
        );
    }
    Ok(())
}

fn run(sandbox: &Sandbox, files: &Path, name: &str, interpreter: Interpreter) -> anyhow::Result<()> {
    let outputs = tempfile::tempdir()?;
    let request = RunRequest {
        workspace: files.to_path_buf(),
        outputs_dir: outputs.path().to_path_buf(),
        entry: Entry {
            entrypoint: BundlePath::parse(name)?,
            interpreter,
        },
        args: Vec::new(),
        env: Default::default(),
        limits: Limits::default(),
        outputs: OutputPatterns::default(),
        class: sandrun_sandbox::Class::Native,
        environment: None,
        trace: None,
    };
    let report = sandbox.run(&request, &(), &CancelHandle::new()?)?;
    ensure!(
        report.exit_code == 0,
        "{name} ended with {}: {}",
        report.exit_code,
        report.explanation
    );
    Ok(())
}

fn bare_python(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", "pass"]);
    command
}

fn bwrap(program: &[&str]) -> Command {
    let mut command = Command::new("bwrap");
    command.args([
        "--unshare-all",
        "--unshare-user",
        "--die-with-parent",
        "--cap-drop",
        "ALL",
    ]);
    command.args([
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
    ]);
    command.args([
        "--symlink",
        "usr/bin",
        "/bin",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
    ]);
    command.args(program);
    command
}

fn spawn(mut command: Command) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

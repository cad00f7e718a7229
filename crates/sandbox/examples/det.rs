//! Runs a program in class `det` and prints what it printed: `det SUPERVISOR CLASS RUNS DIR ENTRYPOINT [ARGUMENT…]`.
//! With `DET_TRACES=DIRECTORY` one trace of each different answer is kept there; with `DET_OUTPUTS=PATTERN` only such files
//! are handed out.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sandrun_sandbox::{CancelHandle, Class, Limits, RunRequest, Sandbox, SandboxConfig};
use sandrun_types::{BundlePath, Entry, Interpreter, Manifest, OutputPatterns};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let launcher = arguments.next().context("name the supervisor program")?;
    let class = match arguments.next().as_deref() {
        Some("det") => Class::Det,
        Some("soft") => Class::DetSoft,
        _ => Class::Native,
    };
    let runs: u32 = arguments.next().context("how many runs")?.parse()?;
    let workspace = PathBuf::from(arguments.next().context("name a directory")?);
    let entrypoint = arguments.next().context("name the entrypoint")?;
    let rest: Vec<String> = arguments.collect();
    let sandbox = Sandbox::start(SandboxConfig::new(vec![launcher.into()]))?;
    let interpreter = match entrypoint.rsplit_once('.').map(|(_, end)| end) {
        Some("py") => Interpreter::Python3,
        Some("js") => Interpreter::Node,
        Some("sh") => Interpreter::Bash,
        _ => Interpreter::Itself,
    };
    // seconds; the default of the HTTP API without it
    let wall = std::env::var("DET_WALL").ok().and_then(|text| text.parse().ok());
    let wall = wall.map_or(Limits::default().wall, Duration::from_secs);
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let kept = std::env::var_os("DET_TRACES").map(PathBuf::from);
    let patterns = match std::env::var("DET_OUTPUTS") {
        Ok(pattern) => Manifest::parse(format!(r#"{{"outputs":[{pattern:?}]}}"#).as_bytes())?.outputs,
        Err(_) => OutputPatterns::default(),
    };
    for _ in 0..runs {
        let outputs = tempfile::tempdir()?;
        let trace = kept.as_ref().map(|_| outputs.path().with_extension("trace"));
        let request = RunRequest {
            workspace: workspace.clone(),
            outputs_dir: outputs.path().to_path_buf(),
            entry: Entry {
                entrypoint: BundlePath::parse(&entrypoint)?,
                interpreter,
            },
            args: rest.clone(),
            env: BTreeMap::new(),
            limits: Limits {
                processes: 128,
                wall,
                ..Limits::default()
            },
            outputs: patterns.clone(),
            class,
            environment: None,
            trace: trace.clone(),
        };
        let started = Instant::now();
        let report = sandbox.run(&request, &(), &CancelHandle::new()?)?;
        let mut text = report.stdout.clone();
        text.extend_from_slice(&report.stderr);
        text.extend(
            format!(
                "[{:?} {} {} {}]\n",
                report.outcome, report.exit_code, report.explanation, report.trace_root
            )
            .bytes(),
        );
        if runs <= 3 {
            println!("{:?} cpu {:?}", started.elapsed(), report.usage.cpu);
        }
        let different = seen.len();
        let count = seen.entry(text).or_default();
        *count += 1;
        if let (Some(directory), Some(trace)) = (&kept, &trace) {
            if *count == 1 {
                std::fs::copy(trace, directory.join(format!("{different}.trace")))?;
            }
            std::fs::remove_file(trace)?;
        }
    }
    for (text, count) in &seen {
        println!("--- {count} times\n{}", String::from_utf8_lossy(text));
    }
    println!("{} distinct", seen.len());
    Ok(())
}

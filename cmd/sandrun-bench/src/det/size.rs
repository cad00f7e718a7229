//! `trace.size.*`: how fast a trace grows.

use std::path::Path;

use anyhow::Context as _;
use sandrun_sandbox::{CancelHandle, Limits, RunRequest, Sandbox, SandboxConfig};
use sandrun_types::{BundlePath, Entry, Interpreter, OutputPatterns};

use super::{Load, class};

/// Bytes of the trace's file for each second of a run.
///
/// # Errors
/// A sandbox that does not start, a run that fails.
pub(crate) fn bytes_per_second(load: Load, program: &Path) -> anyhow::Result<f64> {
    let sandbox = Sandbox::start(SandboxConfig::new(vec![program.into(), "__sandbox".into()]))?;
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let (files, outputs_dir) = (directory.path().join("files"), directory.path().join("outputs"));
    load.write(&files)?;
    std::fs::create_dir(&outputs_dir)?;
    let request = RunRequest {
        workspace: files,
        outputs_dir,
        entry: Entry {
            entrypoint: BundlePath::parse("main.py")?,
            interpreter: Interpreter::Python3,
        },
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        limits: Limits::default(),
        outputs: OutputPatterns::default(),
        class: class(),
        environment: None,
        trace: None,
    };
    let report = sandbox.run(&request, &(), &CancelHandle::new()?)?;
    anyhow::ensure!(
        report.exit_code == 0,
        "the job ended with {}: {}",
        report.exit_code,
        report.explanation
    );
    let bytes = u32::try_from(report.trace.bytes).context("a trace of more than 4 GiB")?;
    Ok(f64::from(bytes) / report.usage.wall.as_secs_f64())
}

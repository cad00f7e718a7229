//! `node.tasks`: isolated `/bin/true` jobs from a client's batches to their results, through the released binary's
//! broker, node and executor on this machine, beside the sandbox alone: the same program under the same layers by as many
//! threads as there are cores, without executor and HTTP, half of it before and half after.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::body::Bytes;
use sandrun_executor::worker_key;
use sandrun_sandbox::{CancelHandle, Class, Layer, Limits, RunRequest, Sandbox, SandboxConfig};
use sandrun_testnet::{Service, ServiceSpec, listening};
use sandrun_types::{BundlePath, Entry, Interpreter, OutputPatterns};
use serde_json::{Value, json};

use super::Rate;
use super::broker::Broker;
use super::wire::Wire;

/// Jobs that are measured.
const JOBS: u32 = 10_000;
/// Jobs that go first.
const WARM_UP: u32 = 500;
/// Jobs of one batch request.
const BATCH: u32 = 1_000;
/// Runs of the sandbox alone, each time.
const ALONE: u32 = 2_000;
/// Jobs that the node has at once: enough that the executor always has one to begin with.
const SLOTS: &str = "64";
/// Pause between two looks at the broker's counters.
const LOOK: Duration = Duration::from_millis(5);
/// Longest wait for all jobs.
const PATIENCE: Duration = Duration::from_secs(120);
/// The program: the kernel starts `/bin/true` for it.
const PROGRAM: &str = "#!/bin/true\n";

/// Jobs a second through all three services, and through the sandbox alone.
///
/// # Errors
/// A service that does not start, a job that does not complete.
pub(crate) async fn node_tasks(program: &Path) -> anyhow::Result<Rate> {
    let before = alone(program).await?;
    let broker = Broker::start(program).await?;
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let (mut executor, url) = executor(program, directory.path()).await?;
    let mut node = node(program, directory.path(), &broker.url, &url).await?;
    let rate = measure(&broker.url).await;
    node.stop().await;
    executor.stop().await;
    broker.stop().await;
    let after = alone(program).await?;
    Ok(Rate {
        rate: rate?,
        // as one run of both halves
        peer: 2.0 / (1.0 / before + 1.0 / after),
    })
}

async fn executor(program: &Path, directory: &Path) -> anyhow::Result<(Service, String)> {
    let key = directory.join("worker.pem");
    worker_key::generate(&key)?;
    let mut command = vec![program.into()];
    command.extend(["sandrun", "--no-quota", "--port", "0", "--worker-key"].map(Into::into));
    command.extend([key.into(), "--data-dir".into(), directory.join("executor").into()]);
    Service::start(spec("sandrun", program, command, directory), listening).await
}

async fn node(program: &Path, directory: &Path, broker: &str, executor: &str) -> anyhow::Result<Service> {
    let mut command = vec![program.into()];
    command.extend(["node", "--broker", broker, "--sandrun", executor].map(Into::into));
    command.extend(["--max-concurrent-jobs", SLOTS, "--data-dir"].map(Into::into));
    command.push(directory.join("node").into());
    let ready = |line: &str| line.starts_with("ready: node ").then_some(());
    let (service, ()) = Service::start(spec("node", program, command, directory), ready).await?;
    Ok(service)
}

fn spec(name: &str, program: &Path, command: Vec<std::ffi::OsString>, directory: &Path) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        tether: program.to_owned(),
        command,
        logs: directory.join("logs"),
        // a user's own settings must not leak into the figure
        env: vec![
            ("SANDRUN_CONFIG".into(), "/dev/null".into()),
            ("RUST_LOG".into(), "warn".into()),
        ],
    }
}

async fn measure(broker: &str) -> anyhow::Result<f64> {
    let mut wire = Wire::open(broker).await?;
    complete(&mut wire, WARM_UP, 0).await?;
    let start = Instant::now();
    complete(&mut wire, JOBS, WARM_UP).await?;
    Ok(f64::from(JOBS) / start.elapsed().as_secs_f64())
}

/// Submits so many jobs, and returns when all of them have completed as well as those before.
async fn complete(wire: &mut Wire, jobs: u32, before: u32) -> anyhow::Result<()> {
    let (start, mut left) = (Instant::now(), jobs);
    while left > 0 {
        let size = left.min(BATCH);
        let job = json!({"code": PROGRAM, "interpreter": Interpreter::Itself.name(), "timeout": 60});
        let list: Vec<Value> = (0..size).map(|_| job.clone()).collect();
        let body: Bytes = serde_json::to_vec(&list)?.into();
        let answer: Vec<Value> = serde_json::from_slice(&wire.post("/v1/jobs/batch", None, body).await?)?;
        let refused = answer.iter().find(|it| it.get("error").is_some());
        anyhow::ensure!(refused.is_none(), "a job was refused: {refused:?}");
        left -= size;
    }
    loop {
        let [completed, failed] = ended(&wire.get("/metrics").await?)?;
        anyhow::ensure!(failed == 0, "{failed} jobs failed");
        if completed >= jobs + before {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < PATIENCE, "{completed} of {jobs} jobs completed");
        tokio::time::sleep(LOOK).await;
    }
}

/// Jobs that have completed, and jobs that have failed.
fn ended(metrics: &[u8]) -> anyhow::Result<[u32; 2]> {
    let text = std::str::from_utf8(metrics).context("the broker's metrics")?;
    let count = |status: &str| {
        let name = format!("sandrun_jobs_ended_total{{status=\"{status}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.with_context(|| format!("no {name}"))?.parse().context(name)
    };
    Ok([count("completed")?, count("failed")?])
}

/// Runs a second of the sandbox by as many threads as there are cores.
async fn alone(program: &Path) -> anyhow::Result<f64> {
    let command = vec![program.into(), "__sandbox".into()];
    tokio::task::spawn_blocking(move || {
        let sandbox = Sandbox::start(SandboxConfig::new(command))?;
        let directory = tempfile::tempdir().context("a temporary directory")?;
        let files = directory.path().join("files");
        std::fs::create_dir(&files)?;
        std::fs::write(files.join("main"), PROGRAM)?;
        let threads = std::thread::available_parallelism()?.get();
        let left = AtomicU32::new(ALONE);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let run = |thread: usize| {
                let outputs = directory.path().join(format!("outputs-{thread}"));
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1))
                    .is_ok()
                {
                    isolated(&sandbox, &files, &outputs)?;
                }
                anyhow::Ok(())
            };
            let runs: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || run(thread)))
                .collect();
            runs.into_iter()
                .try_for_each(|run| run.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
        })?;
        Ok(f64::from(ALONE) / start.elapsed().as_secs_f64())
    })
    .await?
}

/// One run, the directory for its outputs included.
fn isolated(sandbox: &Sandbox, files: &Path, outputs: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(outputs)?;
    let request = RunRequest {
        workspace: files.to_owned(),
        outputs_dir: outputs.to_owned(),
        entry: Entry {
            entrypoint: BundlePath::parse("main")?,
            interpreter: Interpreter::Itself,
        },
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        limits: Limits::default(),
        outputs: OutputPatterns::default(),
        class: Class::Native,
        environment: None,
        trace: None,
    };
    let report = sandbox.run(&request, &(), &CancelHandle::new()?)?;
    anyhow::ensure!(
        report.exit_code == 0,
        "the sandbox alone: {} {}",
        report.exit_code,
        report.explanation
    );
    let off = Layer::ALL.into_iter().find(|layer| !report.layers.has(*layer));
    anyhow::ensure!(off.is_none(), "a layer was off: {off:?}");
    std::fs::remove_dir(outputs)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_read_from_the_metrics() {
        let text = "# HELP x\nsandrun_jobs_ended_total{status=\"completed\"} 12\n\
            sandrun_jobs_ended_total{status=\"failed\"} 3\n";
        assert_eq!(ended(text.as_bytes()).unwrap(), [12, 3]);
        assert!(ended(b"").is_err());
    }
}

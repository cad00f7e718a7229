//! `executor.jobs_per_second`: trivial jobs through the HTTP service of the released binary, quotas off, receipts
//! signed, from the first submission until the last one is seen as completed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sandrun_executor::wire::JobState;
use sandrun_executor::{ExecutorClient, FileContent, Submission, worker_key};
use sandrun_testnet::{Service, ServiceSpec, listening};
use sandrun_types::BundlePath;
use tokio::sync::{Semaphore, mpsc};

/// Jobs that are measured.
const JOBS: usize = 500;
/// Jobs that go first.
const WARM_UP: usize = 50;
/// Jobs that are submitted and not yet seen as completed, at most: enough to keep every core busy.
const IN_FLIGHT: usize = 64;
/// Pause between two looks at a job.
const LOOK: Duration = Duration::from_millis(2);

/// Completed jobs per second.
///
/// # Errors
/// A service that does not start, a job that does not complete.
pub(crate) async fn jobs_per_second(program: &Path) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let key = directory.path().join("worker.pem");
    worker_key::generate(&key)?;
    let mut command = vec![program.into()];
    command.extend(["sandrun", "--no-quota", "--port", "0", "--worker-key"].map(Into::into));
    command.extend([
        key.into(),
        "--data-dir".into(),
        directory.path().join("data").into(),
    ]);
    let spec = ServiceSpec {
        name: "sandrun".to_owned(),
        tether: program.to_owned(),
        command,
        logs: directory.path().join("logs"),
        // a user's own settings must not leak into the figure
        env: vec![("SANDRUN_CONFIG".into(), "/dev/null".into())],
    };
    let (mut service, url) = Service::start(spec, listening).await?;
    let rate = measure(&url).await;
    service.stop().await;
    rate
}

async fn measure(url: &str) -> anyhow::Result<f64> {
    let client = ExecutorClient::new(url)?;
    complete(&client, WARM_UP).await?;
    let start = Instant::now();
    complete(&client, JOBS).await?;
    Ok(f64::from(u32::try_from(JOBS)?) / start.elapsed().as_secs_f64())
}

/// Submits so many jobs and sees each completed.
async fn complete(client: &ExecutorClient, jobs: usize) -> anyhow::Result<()> {
    let name = BundlePath::parse("true")?;
    let content = std::fs::read("/bin/true").context("/bin/true")?;
    let manifest = r#"{"entrypoint":"true"}"#.to_owned();
    let submission = Submission::new()
        .file(name, FileContent::Bytes(content))
        .manifest_text(manifest);
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let (submitted, mut ids) = mpsc::channel(IN_FLIGHT);
    let (to_submit, submission) = (client.clone(), Arc::new(submission));
    let submitter = tokio::spawn(async move {
        for _ in 0..jobs {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (client, submission, submitted) =
                (to_submit.clone(), Arc::clone(&submission), submitted.clone());
            tokio::spawn(async move {
                let answer = client.submit((*submission).clone()).await;
                // nobody listens any more when a job before this one has failed
                let _ = submitted.send((answer, place)).await;
            });
        }
    });
    let mut done = 0;
    while let Some((answer, place)) = ids.recv().await {
        let status = client.wait(&answer?.job_id, LOOK).await?;
        anyhow::ensure!(
            status.status == JobState::Completed,
            "a job ended as {}",
            status.status.name()
        );
        drop(place);
        done += 1;
    }
    submitter.await?;
    anyhow::ensure!(done == jobs, "{done} of {jobs} jobs were seen");
    Ok(())
}

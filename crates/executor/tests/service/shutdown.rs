//! Start and stop.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use sandrun_executor::{Executor, ExecutorClient, ServeError};
use tokio_tungstenite::connect_async;

use crate::support::{Service, config, eventually};

/// Whether any process on this machine has this text among its arguments.
fn is_running(marker: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(marker)
    })
}

#[tokio::test]
async fn ends_jobs_streams_and_requests_within_ten_seconds() {
    let service = Service::start_with(|config| config.parallel = std::num::NonZeroU32::MIN).await;
    let marker = format!("7654.{}", std::process::id());
    let code = format!("trap '' TERM INT; (trap '' TERM; sleep {marker}) & sleep {marker}");
    let job = service.submit("", &[("run.sh", &code)]).await.job_id;
    let waiting = service.submit("", &[("run.sh", "true")]).await.job_id;
    eventually("the job runs", async || is_running(&marker)).await;
    let mut streams = Vec::new();
    for job in [&job, &waiting] {
        let url = service.url(&format!("/stream/{job}")).replace("http://", "ws://");
        streams.push(connect_async(url).await.unwrap().0);
    }
    let data = service.folder.path().join("data/jobs");
    let (client, started) = (ExecutorClient::new(&service.base).unwrap(), Instant::now());
    // held until the service is gone, so that its folder is still there to be looked at
    let folder = tempfile::tempdir().unwrap();
    std::fs::hard_link(service.folder.path().join("worker.pem"), folder.path().join("x")).ok();
    let stopped = service.stop();
    let (stopped, gone) = tokio::join!(stopped, async {
        for stream in &mut streams {
            while let Some(Ok(_)) = stream.next().await {}
        }
        started.elapsed()
    });
    stopped.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!(gone < Duration::from_secs(10), "{gone:?}");
    assert!(!is_running(&marker), "a job's process is left");
    assert!(!data.exists());
    assert!(client.health().await.is_err_and(|error| error.is_transient()));
}

#[tokio::test]
async fn cleans_up_after_a_former_run_and_keeps_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let leftover = folder.path().join("data/jobs/job-0123/bundle");
    std::fs::create_dir_all(&leftover).unwrap();
    let first = Executor::start(config(folder.path())).await.unwrap();
    assert!(!leftover.exists());
    assert!(matches!(
        Executor::start(config(folder.path())).await,
        Err(ServeError::Locked(_))
    ));
    let other = tempfile::tempdir().unwrap();
    let mut taken = config(other.path());
    taken.listen = first.local_addr();
    let error = Executor::start(taken).await.unwrap_err();
    assert!(
        matches!(error, ServeError::Listen { .. }) && error.to_string().contains("another port"),
        "{error}"
    );
    first.run(async {}).await.unwrap();
    Executor::start(config(folder.path()))
        .await
        .unwrap()
        .run(async {})
        .await
        .unwrap();
}

#[tokio::test]
async fn bad_settings_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = config(folder.path());
    let key = wrong.worker_key.clone().unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = Executor::start(wrong.clone()).await.unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    wrong.worker_key = Some(folder.path().join("none.pem"));
    let error = Executor::start(wrong.clone()).await.unwrap_err().to_string();
    assert!(error.contains("--generate-key"), "{error}");
    wrong.worker_key = None;
    wrong.data_dir = key.clone();
    assert!(matches!(
        Executor::start(wrong.clone()).await,
        Err(ServeError::DataDir { .. })
    ));
    wrong.data_dir = folder.path().join("data");
    wrong.sandbox.launcher = vec!["/nonexistent/launcher".into()];
    assert!(matches!(
        Executor::start(wrong).await,
        Err(ServeError::Sandbox(_))
    ));
}

//! Workers and coordinators come and go.

use serde_json::{Value, json};

use crate::between::Between;
use crate::support::{Mortal, Service, Worker};

/// Long enough to be found running, short enough to be run twice.
const SLOW: &str = "echo begun; sleep 2; echo over > out.txt";

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_a_worker_that_dies_goes_to_another() {
    let (mut mortal, listed, _folder) = Mortal::worker().await;
    let service = Service::start(&[&listed]).await;
    service.until_healthy(1).await;
    let other = Worker::start().await;
    let job = service.submit(SLOW).await;
    let path = format!("/status/{job}");
    let running = service.until(&path, |it| it["pool_status"] == "running").await;
    assert_eq!(running["worker_id"], json!(listed.id));
    service.list(&[&listed, &other.listed]);
    service.until_healthy(2).await;
    mortal.process.kill().await.unwrap();
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    assert_eq!(status["worker_id"], json!(other.listed.id));
    let view = service.ok(&format!("/v1/jobs/{job}")).await;
    assert_eq!(view["attempt"], 2, "{view}");
    service.until_healthy(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_the_run_that_goes_on() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    let job = service.submit(SLOW).await;
    let waiting = service.submit("sleep 1").await;
    // its run is kept by then
    service
        .until(&format!("/v1/jobs/{job}"), |it| it["status"] == "running")
        .await;
    let run = service.ok(&format!("/status/{job}")).await["worker_status"]["job_id"].clone();
    assert!(run.is_string());
    let service = service.restart().await;
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    assert_eq!(
        status["worker_status"]["job_id"], run,
        "the very run, not another one"
    );
    assert_eq!(service.ok(&format!("/v1/jobs/{job}")).await["attempt"], 1);
    assert_eq!(service.ok(&format!("/outputs/{job}/out.txt")).await, "over\n");
    assert_eq!(service.ended(&waiting).await["pool_status"], "completed");
    let service = service.restart().await;
    assert_eq!(service.ok("/pool").await["total_jobs"], 2, "ended ones, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_read_again_and_who_is_off_it_ends_what_it_has() {
    let (one, two) = (Worker::start().await, Worker::start().await);
    let service = Service::start(&[&one.listed]).await;
    service.until_healthy(1).await;
    let job = service.submit(SLOW).await;
    service
        .until(&format!("/status/{job}"), |it| it["pool_status"] == "running")
        .await;
    service.list(&[&two.listed]);
    let pool = service
        .until("/pool", |it| {
            it["workers"][0]["worker_id"] == json!(two.listed.id)
        })
        .await;
    assert_eq!(pool["total_workers"], 1, "{pool}");
    let next = service.submit("true").await;
    assert_eq!(service.ended(&next).await["worker_id"], json!(two.listed.id));
    let status = service.ended(&job).await;
    assert_eq!(status["pool_status"], "completed");
    assert_eq!(status["worker_id"], json!(one.listed.id));
    assert_eq!(service.ok(&format!("/v1/jobs/{job}")).await["attempt"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_ended_at_its_worker() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    let job = service.submit("sleep 600").await;
    let path = format!("/status/{job}");
    let status = service.until(&path, |it| it["pool_status"] == "running").await;
    let run = status["worker_status"]["job_id"].as_str().unwrap().to_owned();
    let url = format!("{}/v1/jobs/{job}", service.base);
    service
        .http
        .delete(url)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    assert_eq!(service.ended(&job).await["pool_status"], "failed");
    let client = sandrun_executor::ExecutorClient::new(&worker.listed.endpoint).unwrap();
    let patience = std::time::Duration::from_millis(5);
    let ended = tokio::time::timeout(crate::support::PATIENCE, client.wait(&run, patience)).await;
    // its data may have gone with it
    let state = ended.unwrap().map(|it| it.status.name());
    assert!(matches!(state, Ok("failed") | Err(_)), "{state:?}");
    service
        .until("/pool", |it| it["workers"][0]["active_jobs"] == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_while_its_worker_takes_it_is_ended_there() {
    let worker = Worker::start().await;
    // the worker runs it, and what it says about that is on its way
    let mut between = Between::start(&worker, |_, _| (), 0).await;
    let service = Service::start(&[&between.listed]).await;
    let job = service.submit("sleep 600").await;
    let run = between.runs.recv().await.unwrap();
    let url = format!("{}/v1/jobs/{job}", service.base);
    let answer = service.http.delete(url).send().await.unwrap();
    answer.error_for_status().unwrap();
    assert_eq!(service.ended(&job).await["pool_status"], "failed");
    between.gate.add_permits(1);
    let client = sandrun_executor::ExecutorClient::new(&worker.listed.endpoint).unwrap();
    let patience = std::time::Duration::from_millis(5);
    let ended = tokio::time::timeout(crate::support::PATIENCE, client.wait(&run, patience)).await;
    // its data may have gone with it
    let state = ended.unwrap().map(|it| it.status.name());
    assert!(matches!(state, Ok("failed") | Err(_)), "{state:?}");
}

/// Says nothing that can be understood about a run.
fn no_status(path: &str, answer: &mut Value) {
    if path.starts_with("/status/") {
        *answer = Value::Null;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_given_up_does_not_go_on() {
    let worker = Worker::start().await;
    let mut between = Between::start(&worker, no_status, 100).await;
    let service = Service::start_with(&[&between.listed], |config| config.settings.max_retries = 0).await;
    let job = service.submit("sleep 600").await;
    let run = between.runs.recv().await.unwrap();
    assert_eq!(service.ended(&job).await["pool_status"], "failed");
    let client = sandrun_executor::ExecutorClient::new(&worker.listed.endpoint).unwrap();
    let patience = std::time::Duration::from_millis(5);
    let ended = tokio::time::timeout(crate::support::PATIENCE, client.wait(&run, patience)).await;
    // its data may have gone with it
    let state = ended.unwrap().map(|it| it.status.name());
    assert!(matches!(state, Ok("failed") | Err(_)), "{state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_prints_is_heard_while_it_runs() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    let job = service.submit("echo first; sleep 600").await;
    let url = format!("{}/v1/jobs/{job}/logs/stream", service.base);
    let mut stream = service.http.get(url).send().await.unwrap();
    let mut heard = String::new();
    let hear = async {
        while !heard.contains("first") {
            let piece = stream.chunk().await.unwrap().unwrap();
            heard.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    let in_time = tokio::time::timeout(crate::support::PATIENCE, hear).await;
    assert!(in_time.is_ok(), "{heard}");
    let status = service.ok(&format!("/status/{job}")).await;
    assert_eq!(status["pool_status"], "running");
    drop(stream);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_where_region_and_labels_fit() {
    let (near, far) = (Worker::start().await, Worker::start().await);
    let mut listed = far.listed.clone();
    listed.region = Some("far");
    let service = Service::start(&[&near.listed, &listed]).await;
    service.until_healthy(2).await;
    let submit = async |needs: serde_json::Value| {
        let body = json!({"code": "true", "interpreter": "bash", "requirements": needs});
        let url = format!("{}/submit", service.base);
        let answer = service.http.post(url).json(&body).send().await.unwrap();
        let answer: serde_json::Value = answer.error_for_status().unwrap().json().await.unwrap();
        answer["job_id"].as_str().unwrap().to_owned()
    };
    for needs in [
        json!({"region": "far"}),
        json!({"labels": {"disk": "fast"}, "region": "far"}),
    ] {
        let status = service.ended(&submit(needs).await).await;
        assert_eq!(status["pool_status"], "completed", "{status}");
        assert_eq!(status["worker_id"], json!(far.listed.id));
    }
    // nobody is there: it waits until somebody is
    let job = submit(json!({"region": "moon"})).await;
    assert_eq!(
        service.ok(&format!("/status/{job}")).await["pool_status"],
        "queued"
    );
    let mut moved = near.listed.clone();
    moved.region = Some("moon");
    service.list(&[&moved, &listed]);
    assert_eq!(service.ended(&job).await["worker_id"], json!(near.listed.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_where_its_hardware_is() {
    let worker = Worker::start().await;
    let service = Service::start(&[&worker.listed]).await;
    service.until_healthy(1).await;
    let submit = async |needs: serde_json::Value| {
        let body = json!({"code": "true", "interpreter": "bash", "requirements": needs});
        let url = format!("{}/submit", service.base);
        let answer = service.http.post(url).json(&body).send().await.unwrap();
        let answer: serde_json::Value = answer.error_for_status().unwrap().json().await.unwrap();
        answer["job_id"].as_str().unwrap().to_owned()
    };
    let large = submit(json!({"gpu": true, "vram_mib": 80_000})).await;
    let many = submit(json!({"cpu_cores": 60_000})).await;
    // the worker says what it has
    let small = submit(json!({"cpu_cores": 1, "memory_mib": 64})).await;
    assert_eq!(service.ended(&small).await["pool_status"], "completed");
    for job in [&large, &many] {
        let status = service.ok(&format!("/status/{job}")).await;
        assert_eq!(status["pool_status"], "queued", "{status}");
    }
    // its operator says more
    let mut listed = worker.listed.clone();
    listed.hardware = Some(r#"{"vram_mib": 81920}"#);
    service.list(&[&listed]);
    assert_eq!(service.ended(&large).await["pool_status"], "completed");
    let status = service.ok(&format!("/status/{many}")).await;
    assert_eq!(status["pool_status"], "queued", "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_is_discovered_where_the_list_does_not_say() {
    let worker = Worker::start().await;
    let mut listed = worker.listed.clone();
    listed.slots = None;
    let service = Service::start(&[&listed]).await;
    let pool = service.until_healthy(1).await;
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(pool["workers"][0]["max_concurrent_jobs"], cores);
}

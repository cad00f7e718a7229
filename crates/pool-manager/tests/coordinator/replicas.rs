//! Three coordinators, as processes, at one PostgreSQL: whoever is asked, whoever dies.

use std::time::{Duration, Instant};

use sandrun_executor::ExecutorClient;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Replica};
use crate::support::{PATIENCE, Worker};

/// Prints a number each tenth of a second.
const TALK: &str = "for n in $(seq 1 60); do echo $n; sleep 0.1; done; echo over > out.txt";
/// The longest that the output of a run may stand still while another replica takes it over, and the machine is busy.
const LONGEST_GAP: Duration = Duration::from_secs(10);

async fn delete(replica: &Replica, path: &str) {
    let url = format!("{}{path}", replica.base);
    replica
        .http
        .delete(url)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
}

async fn post(replica: &Replica, path: &str) {
    let url = format!("{}{path}", replica.base);
    replica
        .http
        .post(url)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
}

async fn running(replica: &Replica, job: &str) -> String {
    let path = format!("/v1/jobs/{job}");
    replica.until(&path, |it| it["status"] == "running").await;
    let path = format!("/status/{job}");
    let status = replica
        .until(&path, |it| it["worker_status"]["job_id"].is_string())
        .await;
    assert_eq!(status["pool_status"], "running", "{status}");
    status["worker_status"]["job_id"].as_str().unwrap().to_owned()
}

/// Follows what a job prints until it has printed `enough`, or to its end; the longest pause.
async fn listen(replica: &Replica, job: &str, enough: Option<&str>) -> (String, Duration) {
    let url = format!("{}/v1/jobs/{job}/logs/stream", replica.base);
    let mut stream = replica.http.get(url).send().await.unwrap();
    let (mut heard, mut longest, mut last) = (String::new(), Duration::ZERO, Instant::now());
    while let Some(piece) = tokio::time::timeout(PATIENCE, stream.chunk())
        .await
        .unwrap()
        .unwrap()
    {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        heard.push_str(&String::from_utf8_lossy(&piece));
        if enough.is_some_and(|it| heard.contains(it)) {
            break;
        }
    }
    (heard, longest)
}

/// It has ended well at its first attempt, in the run that it had.
async fn assert_ran_once(replica: &Replica, worker: &Worker, job: &str, run: &str) {
    let status = replica.ended(job).await;
    assert_eq!(status["pool_status"], "completed", "{status}");
    assert_eq!(
        status["worker_status"]["job_id"], run,
        "the very run, not another one"
    );
    assert_eq!(replica.ok(&format!("/v1/jobs/{job}")).await["attempt"], 1);
    assert_eq!(replica.ok(&format!("/outputs/{job}/out.txt")).await, "over\n");
    assert_eq!(worker.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_asked_knows_and_reaches_all_of_it() {
    let worker = Worker::start().await;
    let cluster = Cluster::start(&[&worker.listed]).await;
    let [a, b, c] = cluster.replicas();
    let job = a.submit("echo first; sleep 600").await;
    let run = running(c, &job).await;
    let (heard, _) = listen(c, &job, Some("first")).await;
    assert!(heard.contains("first"), "{heard}");
    delete(b, &format!("/v1/jobs/{job}")).await;
    assert_eq!(c.ended(&job).await["pool_status"], "failed");
    let client = ExecutorClient::new(&worker.listed.endpoint).unwrap();
    let ended = client.wait(&run, Duration::from_millis(5));
    let state = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    let state = state.map(|it| it.status.name());
    assert!(
        matches!(state, Ok("failed") | Err(_)),
        "its run is ended: {state:?}"
    );

    // drained here, nothing comes from there; resumed there, it does
    let nodes = a.ok("/v1/nodes").await;
    let id = nodes["nodes"][0]["id"].as_str().unwrap().to_owned();
    post(b, &format!("/v1/nodes/{id}/drain")).await;
    let job = a.submit("echo made > made.txt").await;
    assert_eq!(c.ok(&format!("/status/{job}")).await["pool_status"], "queued");
    post(c, &format!("/v1/nodes/{id}/resume")).await;
    assert_eq!(b.ended(&job).await["pool_status"], "completed");
    for replica in [a, b, c] {
        assert_eq!(replica.ok(&format!("/outputs/{job}/made.txt")).await, "made\n");
    }

    // all of them read the list again
    let other = Worker::start().await;
    cluster.list(&[&worker.listed, &other.listed]);
    for replica in [a, b, c] {
        replica.until_healthy(2).await;
    }
    cluster.list(&[&other.listed]);
    for replica in [a, b, c] {
        let is_other = |it: &Value| it["workers"][0]["worker_id"] == json!(other.listed.id);
        replica.until("/pool", is_other).await;
        let job = replica.submit("true").await;
        assert_eq!(replica.ended(&job).await["worker_id"], json!(other.listed.id));
    }
    worker.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_a_replica_that_is_killed_is_carried_on_by_another() {
    let worker = Worker::start().await;
    let mut cluster = Cluster::start(&[&worker.listed]).await;
    let job = {
        let [a, b, c] = cluster.replicas();
        let job = a.submit(TALK).await;
        running(b, &job).await;
        listen(c, &job, Some("10\\n")).await;
        job
    };
    let run = running(cluster.replicas::<3>()[1], &job).await;
    assert_eq!(cluster.carrier().await.as_deref(), Some("replica-0"));
    let killed = Instant::now();
    cluster.kill(0).await;
    let taken_over = async { while cluster.carrier().await.is_none() {} };
    tokio::time::timeout(PATIENCE, taken_over).await.unwrap();
    println!(
        "a run of a killed replica was taken over after {:?}",
        killed.elapsed()
    );
    let [b, c] = cluster.replicas();
    let (heard, longest) = listen(c, &job, None).await;
    assert!(heard.contains("60\\n"), "{heard}");
    assert!(longest < LONGEST_GAP, "{longest:?}");
    println!("longest pause of a run's output over a kill -9 of its carrier: {longest:?}");
    assert_ran_once(b, &worker, &job, &run).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_has_just_taken_when_it_is_killed_runs_once() {
    let worker = Worker::start().await;
    let mut cluster = Cluster::start(&[&worker.listed]).await;
    let mut jobs = Vec::new();
    for number in 0..6 {
        jobs.push(
            cluster.replicas::<3>()[0]
                .submit(&format!("sleep 0.2; echo {number}"))
                .await,
        );
    }
    // some are at the worker, some on their way, some wait
    cluster.kill(0).await;
    let [b, c] = cluster.replicas();
    for job in &jobs {
        assert_eq!(c.ended(job).await["pool_status"], "completed");
        assert_eq!(b.ok(&format!("/v1/jobs/{job}")).await["attempt"], 1);
    }
    assert_eq!(worker.runs(), jobs.len());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_sleeps_and_wakes_up_finds_its_run_taken_over() {
    let worker = Worker::start().await;
    let cluster = Cluster::start(&[&worker.listed]).await;
    let [a, b, c] = cluster.replicas();
    let job = a.submit(TALK).await;
    let run = running(b, &job).await;
    assert_eq!(cluster.carrier().await.as_deref(), Some("replica-0"));
    a.signal("-STOP");
    // printed after it fell asleep: somebody else carries it
    let (heard, _) = listen(c, &job, Some("55\\n")).await;
    assert!(heard.contains("55\\n"), "{heard}");
    let carrier = cluster.carrier().await;
    assert!(carrier.is_some_and(|it| it != "replica-0"));
    a.signal("-CONT");
    assert_ran_once(c, &worker, &job, &run).await;
    assert_eq!(a.ended(&job).await["pool_status"], "completed");
    // it is one of them again
    a.until_healthy(1).await;
    let next = a.submit("true").await;
    assert_eq!(b.ended(&next).await["pool_status"], "completed");
    assert_eq!(worker.runs(), 2);
    worker.stop().await;
}

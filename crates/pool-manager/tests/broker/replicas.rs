//! Three brokers at one PostgreSQL: whoever asks whom, each job is given out once.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::{Method, StatusCode};
use sandrun_store::queue::{QueueAddress, open_queue};
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::postgres::PostgresServer;
use crate::support::{PATIENCE, Service};

const JOBS: usize = 150;

/// Asks one replica after the other, from `first` on, until one answers.
async fn ask(
    http: &reqwest::Client,
    bases: &[String],
    first: usize,
    path: &str,
    body: &Value,
) -> (StatusCode, Value) {
    for at in 0..100 {
        let base = &bases[(first + at) % bases.len()];
        let request = http.post(format!("{base}{path}")).json(body).timeout(PATIENCE);
        let Ok(answer) = request.send().await else {
            continue;
        };
        let status = answer.status();
        if let (false, Ok(body)) = (status.is_server_error(), answer.json().await) {
            return (status, body);
        }
    }
    panic!("nobody answers {path}");
}

/// Claims and completes until there is nothing left; the jobs that it got.
async fn work(http: reqwest::Client, bases: Arc<Vec<String>>, worker: usize) -> Vec<String> {
    let endpoint = json!({"endpoint": format!("http://{worker}")});
    let (_, node) = ask(&http, &bases, worker, "/register", &endpoint).await;
    let node = node["node_id"].clone();
    let mut jobs = Vec::new();
    for turn in worker.. {
        let (status, claimed) = ask(&http, &bases, turn, "/claim?wait=1", &json!({"node_id": node})).await;
        assert_eq!(status, StatusCode::OK, "{claimed}");
        let Some(id) = claimed["job"]["id"].as_str() else {
            break;
        };
        let done =
            json!({"node_id": node, "job_id": id, "exit_code": 0, "attempt": claimed["job"]["attempt"]});
        let (status, answer) = ask(&http, &bases, turn + 1, "/complete", &done).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        jobs.push(id.to_owned());
    }
    jobs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_job_is_given_out_twice_by_three_replicas_of_which_one_goes() {
    let server = tokio::task::spawn_blocking(PostgresServer::start)
        .await
        .unwrap()
        .unwrap();
    let address: QueueAddress = server.url().parse().unwrap();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Service::replica(address.clone()).await);
    }
    let bases: Arc<Vec<String>> = Arc::new(replicas.iter().map(|it| it.base.clone()).collect());
    let http = replicas[0].http.clone();

    // one key is one job, whoever is asked
    let keyed = json!({"code": "k", "idempotency_key": "k"});
    let (one, other) = tokio::join!(replicas[0].submit(keyed.clone()), replicas[1].submit(keyed));
    assert_eq!(one, other);
    let bodies: Value = (0..JOBS - 1).map(|at| json!({"code": at.to_string()})).collect();
    replicas[1].ok("/v1/jobs/batch", bodies).await;
    // what one has written another one reads
    assert_eq!(replicas[2].get("/health").await.1["status"], "healthy");
    assert_eq!(
        replicas[2].get(&format!("/status/{one}")).await.1["status"],
        "pending"
    );

    let workers: Vec<_> = (0..9)
        .map(|it| tokio::spawn(work(http.clone(), Arc::clone(&bases), it)))
        .collect();
    let gone = replicas.pop().unwrap();
    gone.stop().await;
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for worker in workers {
        for job in worker.await.unwrap() {
            *given.entry(job).or_default() += 1;
        }
    }
    let twice: Vec<_> = given.iter().filter(|(_, count)| **count > 1).collect();
    assert_eq!((given.len(), twice.len()), (JOBS, 0), "{twice:?}");
    let (_, ended) = replicas[0].get("/v1/jobs?status=completed&limit=1000").await;
    assert_eq!(ended["jobs"].as_array().unwrap().len(), JOBS);
    for replica in replicas {
        replica.stop().await;
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_that_waits_at_one_replica_gets_what_another_accepts() {
    let server = tokio::task::spawn_blocking(PostgresServer::start)
        .await
        .unwrap()
        .unwrap();
    let address: QueueAddress = server.url().parse().unwrap();
    let (one, other) = (
        Service::replica(address.clone()).await,
        Service::replica(address).await,
    );
    let node = one.node("http://a").await;
    let submits = async {
        while !one
            .get("/metrics")
            .await
            .1
            .as_str()
            .unwrap()
            .contains("sandrun_waiting_claims 1")
        {}
        other.submit(json!({"code": "x"})).await
    };
    let (work, id) = tokio::join!(one.claim(&node), submits);
    assert_eq!(work["id"], id);
    // and the one who follows it there hears of its end
    let stream = other
        .http
        .get(other.url(&format!("/v1/jobs/{id}/logs/stream")))
        .timeout(PATIENCE);
    let stream = stream.send().await.unwrap();
    let printed = json!({"node_id": node, "stdout": {"from": 0, "text": "one\n"}});
    one.ok(&format!("/v1/work/{id}/1/logs"), printed).await;
    one.ok(
        "/complete",
        json!({"node_id": node, "job_id": id, "exit_code": 0, "output": "one\n"}),
    )
    .await;
    let text = stream.text().await.unwrap();
    assert!(
        text.contains("data: \"one\\n\"") && text.contains("event: done"),
        "{text}"
    );
    one.stop().await;
    other.stop().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_has_rested_gives_out_nothing_that_was_swept_meanwhile() {
    let server = tokio::task::spawn_blocking(PostgresServer::start)
        .await
        .unwrap()
        .unwrap();
    let address: QueueAddress = server.url().parse().unwrap();
    let busy = Service::replica(address.clone()).await;
    let resting = Service::replica(address.clone()).await;
    let swept = busy.submit(json!({"code": "swept"})).await;
    let node = resting.node("http://a").await;
    let queued = async |service: &Service| {
        let metrics = service.get("/metrics").await.1;
        let metrics = metrics.as_str().unwrap().to_owned();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("sandrun_jobs{status=\"queued\"}"));
        line.unwrap_or(&metrics).to_owned()
    };
    assert!(
        queued(&resting).await.ends_with(" 1"),
        "{}",
        queued(&resting).await
    );

    // no call makes it take in what follows
    busy.send(Method::DELETE, &format!("/v1/jobs/{swept}"), None)
        .await;
    let (store, reader) = open_queue(&address).await.unwrap();
    let now = u64::MAX >> 1;
    assert_eq!(reader.sweep_jobs(now, 0).await.unwrap(), 1);
    let last = busy.submit(json!({"code": "last"})).await;
    // as after another 4,096 batches
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let forget = "DELETE FROM queue_batch WHERE seq < (SELECT MAX(seq) FROM queue_batch)";
    client.batch_execute(forget).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    assert_eq!(resting.claim(&node).await["id"], last.as_str());
    assert!(
        queued(&resting).await.ends_with(" 0"),
        "{}",
        queued(&resting).await
    );
    busy.stop().await;
    resting.stop().await;
    drop(reader);
    let ends = tokio::task::spawn_blocking(move || drop((store, server)));
    ends.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parents_are_found_by_their_output_root_and_silent_nodes_are_removed() {
    let server = tokio::task::spawn_blocking(PostgresServer::start)
        .await
        .unwrap()
        .unwrap();
    let database: QueueAddress = server.url().parse().unwrap();
    let broker = Service::replica(database.clone()).await;
    crate::ours::name_by_output_root(&broker).await;
    let (store, reader) = open_queue(&database).await.unwrap();
    let now = reader.nodes().await.unwrap()[0].heard;
    assert_eq!(reader.sweep_nodes(now, 0).await.unwrap(), 0);
    assert_eq!(reader.sweep_nodes(now + 1, 0).await.unwrap(), 1);
    assert_eq!(reader.nodes().await.unwrap(), []);
    assert_eq!(reader.sweep_clients().await.unwrap(), 0);
    broker.stop().await;
    drop(reader);
    let ends = tokio::task::spawn_blocking(move || drop((store, server)));
    ends.await.unwrap();
}

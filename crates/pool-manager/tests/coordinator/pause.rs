//! How long the others stand still when a replica is killed that holds the lock of the queue.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Replica};
use crate::support::PATIENCE;

/// The longest pause on a machine that has other things to do as well; where it has not, it is far less than a second.
const LONGEST: Duration = Duration::from_secs(5);

/// Submits one job after the other until it is told to stop; when each was accepted.
fn submits(replica: &Replica, stop: CancellationToken) -> JoinHandle<Vec<Instant>> {
    let (http, base) = (replica.http.clone(), replica.base.clone());
    tokio::spawn(async move {
        let mut accepted = vec![Instant::now()];
        while !stop.is_cancelled() {
            let body = json!({"code": "x", "interpreter": "bash"});
            let sent = http
                .post(format!("{base}/submit"))
                .json(&body)
                .timeout(PATIENCE)
                .send()
                .await;
            // the one that is killed answers no more
            let Ok(answer) = sent else { break };
            assert!(answer.status().is_success(), "{}", answer.status());
            accepted.push(Instant::now());
        }
        accepted
    })
}

/// Whether the replica of this name holds the queue's lock.
async fn holds(client: &Client, name: &str) -> bool {
    let text = "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND objsubid = 1
        AND granted AND application_name = $1";
    !client.query(text, &[&name]).await.unwrap().is_empty()
}

/// Kills the first replica while it holds the lock; when that was.
async fn kill_holder(cluster: &mut Cluster, client: &Client) -> Instant {
    let killing = async {
        loop {
            if !holds(client, "replica-0").await {
                continue;
            }
            let replica = cluster.replicas::<3>()[0];
            replica.signal("-STOP");
            // it can't let go of it any more
            if holds(client, "replica-0").await {
                break;
            }
            replica.signal("-CONT");
        }
    };
    tokio::time::timeout(PATIENCE, killing).await.unwrap();
    let at = Instant::now();
    cluster.kill(0).await;
    at
}

async fn measure(mut cluster: Cluster) -> Duration {
    let (client, connection) = tokio_postgres::connect(&cluster.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let stop = CancellationToken::new();
    let all: Vec<_> = (0..12)
        .map(|at| submits(cluster.replicas::<3>()[at % 3], stop.clone()))
        .collect();
    let at = kill_holder(&mut cluster, &client).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.cancel();
    let mut longest = Duration::ZERO;
    for (number, accepted) in all.into_iter().enumerate() {
        let accepted = accepted.await.unwrap();
        if number % 3 == 0 {
            continue;
        }
        let next = accepted.iter().find(|it| **it > at);
        let pause = next.map_or(PATIENCE, |next| *next - at);
        longest = longest.max(pause);
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn three_coordinators() {
    let longest = measure(Cluster::start(&[]).await).await;
    println!("pause of the other coordinators after a kill -9 of the one with the lock: {longest:?}");
    assert!(longest < LONGEST, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers() {
    let longest = measure(Cluster::brokers().await).await;
    println!("pause of the other brokers after a kill -9 of the one with the lock: {longest:?}");
    assert!(longest < LONGEST, "{longest:?}");
}

//! Attempts, lost nodes, cancelled jobs, ends.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{PATIENCE, Service};

#[tokio::test]
async fn a_claim_that_waits_gets_the_next_job() {
    let broker = Service::start().await;
    let (old, ours) = (broker.old_node("http://a").await, broker.node("http://b").await);
    let began = Instant::now();
    let none = broker.ok("/claim", json!({"node_id": ours, "max": 4})).await;
    assert_eq!(none, json!({"jobs": []}));
    let waits = broker.ok("/claim?wait=30", json!({"node_id": old}));
    let submits = async {
        // the claim waits when this is over
        while !broker
            .get("/metrics")
            .await
            .1
            .as_str()
            .unwrap()
            .contains("sandrun_waiting_claims 1")
        {}
        broker.submit(json!({"code": "x"})).await
    };
    let (claimed, id) = tokio::join!(waits, submits);
    assert_eq!(claimed["job"]["id"], id);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn jobs_of_a_dead_node_go_to_another_and_its_late_answer_is_refused() {
    let broker = Service::start_with(|it| it.node_timeout = 1).await;
    let id = broker.submit(json!({"code": "x"})).await;
    let dead = broker.old_node("http://dead").await;
    let claimed = broker.ok("/claim", json!({"node_id": dead})).await;
    assert_eq!(claimed["job"]["attempt"], 1);
    let live = broker.node("http://live").await;
    let work = broker.claim(&live).await;
    assert_eq!((&work["id"], &work["attempt"]), (&json!(id), &json!(2)));
    let late =
        |attempt: Option<u32>| json!({"node_id": dead, "job_id": id, "exit_code": 0, "attempt": attempt});
    for attempt in [Some(1), None, Some(2)] {
        let (status, answer) = broker.post("/complete", late(attempt)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    }
    broker
        .ok(
            "/complete",
            json!({"node_id": live, "job_id": id, "exit_code": 0, "attempt": 2}),
        )
        .await;
    assert_eq!(
        broker.get(&format!("/status/{id}")).await.1["status"],
        "completed"
    );
}

#[tokio::test]
async fn a_job_whose_last_node_died_fails_with_that_reason() {
    let broker = Service::start_with(|it| (it.node_timeout, it.max_retries) = (1, 0)).await;
    let id = broker.submit(json!({"code": "x"})).await;
    let node = broker.old_node("http://dead").await;
    broker.ok("/claim", json!({"node_id": node})).await;
    // the stream ends with the job
    let stream = broker.http.get(broker.url(&format!("/v1/jobs/{id}/logs/stream")));
    let events = stream
        .timeout(PATIENCE)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(events.contains("event: done"), "{events}");
    let (_, view) = broker.get(&format!("/status/{id}")).await;
    assert_eq!(view["status"], "failed");
    assert!(
        view["reason"].as_str().unwrap().contains("node was lost"),
        "{view}"
    );
    let (status, view) = broker.get(&format!("/results/{id}")).await;
    assert_eq!(
        (status, &view["exit_code"], &view["error"]),
        (StatusCode::OK, &json!(null), &view["reason"])
    );
    let (_, nodes) = broker.get("/nodes").await;
    assert_eq!(nodes, json!({"nodes": []}));
    assert_eq!(broker.get("/v1/nodes").await.1["nodes"][0]["status"], "lost");
}

#[tokio::test]
async fn a_cancelled_job_ends_and_its_node_is_told() {
    let broker = Service::start().await;
    let (running, queued) = (
        broker.submit(json!({"code": "x"})).await,
        broker.submit(json!({"code": "y"})).await,
    );
    let node = broker.node("http://a").await;
    let work = broker.claim(&node).await;
    assert_eq!(work["id"], running);
    let held = json!([{"id": running, "attempt": 1}]);
    let orders = broker
        .ok("/heartbeat", json!({"node_id": node, "jobs": held}))
        .await;
    assert_eq!(orders, json!({"status": "ok", "cancel": [], "drain": false}));
    assert_eq!(
        broker.get(&format!("/status/{running}")).await.1["status"],
        "running"
    );
    for id in [&running, &queued] {
        let path = format!("/v1/jobs/{id}");
        let (status, view) = broker.send(Method::DELETE, &path, None).await;
        let expected = json!({"job_id": id, "status": "failed", "reason": "cancelled by its client"});
        assert_eq!((status, view), (StatusCode::OK, expected));
        assert_eq!(
            broker.send(Method::DELETE, &path, None).await.0,
            StatusCode::CONFLICT
        );
        let (_, view) = broker.get(&format!("/status/{id}")).await;
        assert_eq!(
            (&view["status"], &view["reason"]),
            (&json!("failed"), &json!("cancelled by its client"))
        );
    }
    let orders = broker
        .ok("/heartbeat", json!({"node_id": node, "jobs": held}))
        .await;
    assert_eq!(orders["cancel"], held);
    let late = json!({"node_id": node, "job_id": running, "exit_code": 0, "attempt": 1});
    assert_eq!(broker.post("/complete", late).await.0, StatusCode::CONFLICT);
    assert_eq!(
        broker.ok("/claim", json!({"node_id": node})).await,
        json!({"job": null})
    );
}

#[tokio::test]
async fn a_node_that_gives_up_says_whether_another_may_do_better() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let (one, other) = (broker.node("http://a").await, broker.node("http://b").await);
    broker.claim(&one).await;
    let path = |attempt: u32| format!("/v1/work/{id}/{attempt}/fail");
    broker
        .ok(
            &path(1),
            json!({"node_id": one, "reason": "no executor", "retry": true}),
        )
        .await;
    assert_eq!(
        broker
            .post(&path(1), json!({"node_id": one, "retry": true}))
            .await
            .0,
        StatusCode::CONFLICT
    );
    assert_eq!(broker.claim(&other).await["attempt"], 2);
    broker
        .ok(
            &path(2),
            json!({"node_id": other, "reason": "bad manifest", "retry": false}),
        )
        .await;
    let (_, view) = broker.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(view["status"], "failed");
    assert!(
        view["reason"].as_str().unwrap().ends_with("bad manifest"),
        "{view}"
    );
}

#[tokio::test]
async fn results_are_kept_for_their_time() {
    let broker = Service::start_with(|it| it.result_ttl = 1).await;
    let (ended, open) = (
        broker.submit(json!({"code": "x"})).await,
        broker.submit(json!({"code": "y"})).await,
    );
    let node = broker.node("http://a").await;
    broker.claim(&node).await;
    broker
        .ok(
            "/complete",
            json!({"node_id": node, "job_id": ended, "exit_code": 0}),
        )
        .await;
    let began = Instant::now();
    broker.claim(&node).await;
    while broker.get(&format!("/status/{ended}")).await.0 != StatusCode::NOT_FOUND {
        assert!(began.elapsed() < PATIENCE);
        // an empty claim that waits is a pause
        broker.ok("/claim?wait=0.2", json!({"node_id": node})).await;
    }
    assert_eq!(
        broker.get(&format!("/results/{ended}")).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(broker.get(&format!("/status/{open}")).await.0, StatusCode::OK);
    let repeat = json!({"node_id": node, "job_id": ended, "exit_code": 0});
    assert_eq!(broker.post("/complete", repeat).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_service_ends_soon_whoever_waits() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    let id = broker
        .submit(json!({"code": "x", "requirements": {"region": "nowhere"}}))
        .await;
    let claim = broker
        .http
        .post(broker.url("/claim?wait=60"))
        .json(&json!({"node_id": node, "max": 1}))
        .timeout(PATIENCE);
    let claim = tokio::spawn(async move { claim.send().await.unwrap().text().await.unwrap() });
    let stream = broker.http.get(broker.url(&format!("/v1/jobs/{id}/logs/stream")));
    let mut stream = stream.timeout(PATIENCE).send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    while !broker
        .get("/metrics")
        .await
        .1
        .as_str()
        .unwrap()
        .contains("sandrun_waiting_claims 1")
    {}
    let began = Instant::now();
    broker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(claim.await.unwrap(), r#"{"jobs":[]}"#);
}

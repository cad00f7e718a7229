//! What broker and coordinator say at `/metrics`, and the dashboard that shows it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod exposition;
#[path = "../broker/support.rs"]
#[allow(
    dead_code,
    reason = "a file of another test program, of which this one uses a part"
)]
mod support;

use std::collections::BTreeSet;

use exposition::Exposition;
use pool_manager::{Coordinator, CoordinatorConfig, QueueSettings};
use reqwest::{Method, StatusCode};
use sandrun_store::queue::QueueAddress;
use serde_json::{Value, json};
use support::Service;

async fn read(base: &str) -> Exposition {
    let answer = reqwest::get(format!("{base}/metrics")).await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    Exposition::parse(&answer.text().await.unwrap()).unwrap()
}

/// One job that ends well, one that fails at its second attempt, one that is taken back.
async fn lives(broker: &Service) {
    let node = broker.node("http://node").await;
    let good = broker.submit(json!({"code": "x"})).await;
    let work = broker.claim(&node).await;
    let answer = json!({"node_id": node, "job_id": good, "exit_code": 0, "attempt": work["attempt"]});
    broker.ok("/complete", answer).await;

    let bad = broker.submit(json!({"code": "x"})).await;
    broker.claim(&node).await;
    let again = json!({"node_id": node, "reason": "no luck", "retry": true});
    broker.ok(&format!("/v1/work/{bad}/1/fail"), again).await;
    broker.claim(&node).await;
    let answer = json!({"node_id": node, "job_id": bad, "exit_code": 1, "attempt": 2});
    broker.ok("/complete", answer).await;

    let unwanted = broker.submit(json!({"code": "x"})).await;
    let (status, _) = broker
        .send(Method::DELETE, &format!("/v1/jobs/{unwanted}"), None)
        .await;
    assert_eq!(status, StatusCode::OK);
    broker.submit(json!({"code": "waits"})).await;
    broker.ok("/claim", json!({"node_id": node, "max": 4})).await;
    broker.ok("/claim", json!({"node_id": node, "max": 4})).await;
    broker.submit(json!({"code": "waits"})).await;
}

#[tokio::test]
async fn the_numbers_are_those_of_what_happened() {
    let broker = Service::start().await;
    lives(&broker).await;
    let numbers = read(&broker.base).await;
    for (name, labels, wanted) in [
        ("sandrun_jobs_submitted_total", vec![], 5.0),
        ("sandrun_jobs_ended_total", vec![("status", "completed")], 1.0),
        ("sandrun_jobs_ended_total", vec![("status", "failed")], 1.0),
        ("sandrun_jobs_ended_total", vec![("status", "cancelled")], 1.0),
        ("sandrun_retries_total", vec![("reason", "failed_at_node")], 1.0),
        ("sandrun_retries_total", vec![("reason", "lease_over")], 0.0),
        ("sandrun_leases_total", vec![], 4.0),
        ("sandrun_empty_claims_total", vec![], 1.0),
        ("sandrun_jobs", vec![("status", "queued")], 1.0),
        ("sandrun_jobs", vec![("status", "running")], 1.0),
        ("sandrun_nodes", vec![("status", "up")], 1.0),
        ("sandrun_job_wait_seconds_count", vec![], 3.0),
        ("sandrun_job_run_seconds_count", vec![], 2.0),
        ("sandrun_failed_commits_total", vec![], 0.0),
        ("sandrun_open_streams", vec![], 0.0),
        (
            "sandrun_http_request_seconds_count",
            vec![
                ("method", "POST"),
                ("route", "/v1/work/{id}/{attempt}/fail"),
                ("status", "200"),
            ],
            1.0,
        ),
    ] {
        assert_eq!(
            numbers.value(name, &labels),
            Some(wanted),
            "{name} {labels:?}\n{numbers:?}"
        );
    }
    assert!(numbers.value("sandrun_commit_seconds_sum", &[]).unwrap() > 0.0);
    assert!(numbers.value("process_resident_memory_bytes", &[]).unwrap() > 1e6);
    // it ages while it waits
    let name = "sandrun_oldest_pending_job_age_seconds";
    while read(&broker.base).await.value(name, &[]).unwrap() < 0.05 {}
    broker.stop().await;
}

#[tokio::test]
async fn what_clients_make_up_makes_no_series() {
    let broker = Service::start().await;
    // a scrape is a call too
    read(&broker.base).await;
    broker.get("/nothing").await;
    let put = broker
        .http
        .request(Method::from_bytes(b"MADE-UP").unwrap(), broker.url("/nothing"));
    put.send().await.unwrap();
    broker.submit(json!({"code": "x"})).await;
    broker.get("/v1/jobs/0").await;
    let before = read(&broker.base).await.series();
    for number in 0..50 {
        broker.get(&format!("/nothing/{number}")).await;
        broker.get(&format!("/v1/jobs/{number}")).await;
        let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        let sent = broker
            .http
            .request(method, broker.url(&format!("/{number}")))
            .send();
        sent.await.unwrap();
        let job = broker
            .http
            .post(broker.url("/submit"))
            .header("x-client", format!("client {number}"))
            .json(&json!({"code": "x"}));
        assert_eq!(job.send().await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(read(&broker.base).await.series(), before);
    broker.stop().await;
}

async fn coordinator() -> (tempfile::TempDir, String, tokio::sync::oneshot::Sender<()>) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let workers = folder.path().join("workers.json");
    std::fs::write(&workers, "[]").unwrap();
    let config = CoordinatorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        database: QueueAddress::Sqlite(folder.path().join("queue.db")),
        settings: QueueSettings::COORDINATOR,
        workers,
        health_interval: std::time::Duration::from_secs(10),
        allow_unproven: false,
        name: "pool".to_owned(),
    };
    let coordinator = Coordinator::start(config).await.unwrap();
    let base = format!("http://{}", coordinator.local_addr());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(coordinator.run(async move { drop(stopped.await) }));
    (folder, base, stop)
}

/// Names of metrics in a query; labels and functions have none of their prefixes.
fn names(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
        .filter(|it| it.starts_with("sandrun_") || it.starts_with("process_"))
}

/// All queries of a panel and of those in it.
fn queries(panel: &Value, found: &mut Vec<String>) {
    for target in panel["targets"].as_array().into_iter().flatten() {
        found.push(target["expr"].as_str().unwrap().to_owned());
    }
    for inner in panel["panels"].as_array().into_iter().flatten() {
        queries(inner, found);
    }
}

#[tokio::test]
async fn dashboard_and_services_speak_of_the_same_metrics() {
    let broker = Service::start().await;
    let (_folder, coordinator, stop) = coordinator().await;
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../../deploy/grafana/sandrun-queue.json")).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 20, "{found:?}");
    let alerts = include_str!("../../../../deploy/prometheus/alerts.yml");
    let shown: BTreeSet<&str> = found.iter().flat_map(|it| names(it)).collect();
    for base in [&broker.base, &coordinator] {
        let families = read(base).await.0;
        for name in shown.iter().copied().chain(names(alerts)) {
            let ends = ["", "_bucket", "_sum", "_count"];
            let is_there = ends
                .iter()
                .filter_map(|end| name.strip_suffix(end))
                .any(|it| families.contains_key(it));
            assert!(is_there, "{base} has no {name}");
        }
        // and what there is, is shown
        for name in families.keys() {
            let is_shown = shown.iter().any(|it| it.starts_with(name.as_str()));
            assert!(is_shown, "no panel shows {name}");
        }
    }
    drop(stop);
    broker.stop().await;
}

//! Answers to claims that got lost, and how often a job is tried.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Service;

async fn claim(broker: &Service, node: &str, number: u64) -> Value {
    let body = json!({"node_id": node, "max": 1, "claim": number});
    broker.ok("/claim", body).await["jobs"].clone()
}

async fn alive(broker: &Service, node: &str, settled: u64, jobs: Value) -> Value {
    let body = json!({"node_id": node, "claims_answered_up_to": settled, "jobs": jobs});
    broker.ok("/heartbeat", body).await
}

#[tokio::test]
async fn what_got_lost_on_its_way_to_a_node_is_given_to_another_at_its_next_word() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x", "retries": 0})).await;
    let (first, second) = (broker.node("http://a").await, broker.node("http://b").await);
    assert_eq!(claim(&broker, &first, 41).await[0]["attempt"], 1);
    // the answer may still be on its way
    alive(&broker, &first, 40, json!([])).await;
    assert_eq!(claim(&broker, &second, 1).await, json!([]));
    alive(&broker, &first, 41, json!([])).await;
    assert_eq!(claim(&broker, &second, 2).await[0]["attempt"], 2);
    // it comes late after all: its node is told to leave it, and its answer does not count
    let late = alive(&broker, &first, 41, json!([{"id": id, "attempt": 1}])).await;
    assert_eq!(late["cancel"], json!([{"id": id, "attempt": 1}]));
    let answer = json!({"node_id": first, "job_id": id, "attempt": 1, "exit_code": 0});
    assert_eq!(broker.post("/complete", answer).await.0, StatusCode::CONFLICT);
    // who has it keeps it
    alive(&broker, &second, 2, json!([{"id": id, "attempt": 2}])).await;
    let answer = json!({"node_id": second, "job_id": id, "attempt": 2, "exit_code": 0});
    broker.ok("/complete", answer).await;
    let metrics = broker.get("/metrics").await.1;
    let lost = r#"sandrun_retries_total{reason="not_held"} 1"#;
    assert!(metrics.as_str().unwrap().contains(lost), "{metrics}");
}

#[tokio::test]
async fn who_numbers_no_claims_keeps_its_leases() {
    let broker = Service::start().await;
    broker.submit(json!({"code": "x"})).await;
    let (first, second) = (broker.node("http://a").await, broker.node("http://b").await);
    broker.claim(&first).await;
    broker
        .ok("/heartbeat", json!({"node_id": first, "jobs": []}))
        .await;
    alive(&broker, &first, u64::MAX, json!([])).await;
    assert_eq!(claim(&broker, &second, 1).await, json!([]));
    let vague = json!({"node_id": first, "claims_answered_up_to": 1, "jobs": [{"id": "0123456789abcdef"}]});
    assert_eq!(broker.post("/heartbeat", vague).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_job_is_tried_again_as_often_as_it_says() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    for (retries, attempts) in [(json!(0), 1), (json!(1.0), 2), (Value::Null, 4)] {
        let id = broker.submit(json!({"code": "x", "retries": retries})).await;
        let shown = broker.get(&format!("/v1/jobs/{id}")).await.1;
        assert_eq!(shown["retries"], attempts - 1);
        for attempt in 1..=attempts {
            assert_eq!(broker.claim(&node).await["attempt"], attempt);
            let path = format!("/v1/work/{id}/{attempt}/fail");
            broker
                .ok(
                    &path,
                    json!({"node_id": node, "retry": true, "reason": "no luck"}),
                )
                .await;
        }
        let view = broker.get(&format!("/v1/jobs/{id}")).await.1;
        assert_eq!(view["status"], "failed", "{view}");
    }
    for bad in [json!(4), json!(-1), json!(0.5), json!("1"), json!(1_000)] {
        let (status, answer) = broker.post("/submit", json!({"code": "x", "retries": bad})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}: {answer}");
    }
}

//! A batch under an idempotency key.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Service;

/// Submits a batch under a key.
async fn submit(broker: &Service, key: &str, jobs: Value) -> (StatusCode, Value) {
    let request = broker.http.post(broker.url("/v1/jobs/batch"));
    let answer = request
        .header("Idempotency-Key", key)
        .json(&jobs)
        .send()
        .await
        .unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn ids(answer: &Value) -> Vec<Option<&str>> {
    let jobs = answer.as_array().unwrap().iter();
    jobs.map(|it| it["job_id"].as_str()).collect()
}

#[tokio::test]
async fn a_batch_that_is_sent_again_under_its_key_gets_the_same_jobs() {
    let broker = Service::start().await;
    let batch = json!([
        {"code": "a"}, {"code": "a"}, {"timeout": 1}, {"code": "b", "idempotency_key": "own"},
    ]);
    let (status, first) = submit(&broker, "k", batch.clone()).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    let [Some(one), Some(two), None, Some(own)] = ids(&first)[..] else {
        panic!("{first}");
    };
    assert!(one != two, "each place is a job of its own");
    assert_eq!(submit(&broker, "k", batch).await.1, first);
    // a longer one has more, and what stands elsewhere is another job
    let (_, more) = submit(&broker, "k", json!([{"code": "a"}, {"code": "c"}, {"code": "d"}])).await;
    assert_eq!(ids(&more)[0], Some(one));
    assert!(
        more[1]["error"].as_str().unwrap().contains("another job"),
        "{more}"
    );
    assert!(ids(&more)[2].is_some(), "{more}");
    // one job under the key of a batch is none of it, and a job's own key goes before
    let single = broker.submit(json!({"code": "a", "idempotency_key": "k"})).await;
    assert!(![one, two].contains(&single.as_str()));
    let named = broker
        .submit(json!({"code": "b", "idempotency_key": "own"}))
        .await;
    assert_eq!(named, own);
    let (_, other) = submit(&broker, "l", json!([{"code": "a"}])).await;
    assert!(!ids(&first).contains(&ids(&other)[0]));
    let (status, refused) = submit(&broker, &"k".repeat(201), json!([{"code": "a"}])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
}

#[tokio::test]
async fn no_jobs_own_key_is_one_of_a_batch() {
    let broker = Service::start().await;
    for key in ["b\n0", "b\r", "\u{0}"] {
        let (status, answer) = broker
            .post("/submit", json!({"code": "x", "idempotency_key": key}))
            .await;
        assert_eq!(status, reqwest::StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer.to_string().contains("control characters"), "{answer}");
    }
}

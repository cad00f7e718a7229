//! Several completions in one request.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Service;

fn completion(node: &str, job: &str, attempt: u32, output: &str) -> Value {
    json!({"node_id": node, "job_id": job, "attempt": attempt, "exit_code": 0, "output": output})
}

async fn complete(broker: &Service, completions: &[Value]) -> Vec<u64> {
    let answer = broker
        .ok("/v1/work/complete", json!({"completions": completions}))
        .await;
    let results = answer["results"].as_array().unwrap();
    for result in results {
        assert_eq!(result["error"].is_string(), result["status"] != 200, "{answer}");
    }
    results.iter().map(|it| it["status"].as_u64().unwrap()).collect()
}

async fn output(broker: &Service, job: &str) -> Value {
    broker.get(&format!("/results/{job}")).await.1["output"].clone()
}

/// Jobs, claimed by a node.
async fn claimed(broker: &Service, node: &str, count: usize) -> Vec<String> {
    let bodies: Vec<Value> = (0..count)
        .map(|at| json!({"code": at.to_string(), "retries": 0}))
        .collect();
    broker.ok("/v1/jobs/batch", json!(bodies)).await;
    let answer = broker
        .ok("/claim", json!({"node_id": node, "max": count, "claim": 1}))
        .await;
    let jobs = answer["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), count, "{answer}");
    jobs.iter()
        .map(|it| it["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn each_completion_is_judged_by_itself() {
    let broker = Service::start().await;
    let (first, second) = (broker.node("http://a").await, broker.node("http://b").await);
    let jobs = claimed(&broker, &first, 4).await;
    let others = claimed(&broker, &second, 1).await;
    // its node says that it never got the third one: another has it now
    let held = [&jobs[0], &jobs[1], &jobs[3]].map(|id| json!({"id": id, "attempt": 1}));
    let alive = json!({"node_id": first, "claims_answered_up_to": 1, "jobs": held});
    broker.ok("/heartbeat", alive).await;
    assert_eq!(broker.claim(&second).await["id"], jobs[2].as_str());
    broker
        .send(reqwest::Method::DELETE, &format!("/v1/jobs/{}", jobs[3]), None)
        .await;
    let hash = "0".repeat(64);
    let mut not_uploaded = completion(&first, &jobs[1], 1, "1");
    not_uploaded["outputs"] = json!([{"path": "a", "size": 1, "sha256": hash}]);
    let sent = [
        completion(&first, &jobs[0], 1, "0"),
        completion(&first, &jobs[2], 1, "late"),
        completion(&first, &others[0], 1, "another node's"),
        completion(&first, &jobs[3], 1, "cancelled"),
        not_uploaded,
        completion(&first, &jobs[1], 7, "an attempt that never was"),
        completion(&first, "0123456789abcdef", 1, "nobody's"),
        completion("node-0123456789abcdef", &jobs[1], 1, "of nobody"),
        json!({"node_id": first, "job_id": jobs[1]}),
        json!([]),
        completion(&first, &jobs[1], 1, "1"),
    ];
    let expected = [200, 409, 409, 409, 400, 409, 404, 404, 400, 400, 200];
    assert_eq!(complete(&broker, &sent).await, expected);
    // the answer got lost, and all is sent again: what was accepted is so again, and nothing else is
    assert_eq!(complete(&broker, &sent).await, expected);
    let differently = completion(&first, &jobs[0], 1, "something else");
    assert_eq!(complete(&broker, &[differently]).await, [409]);
    assert_eq!(output(&broker, &jobs[0]).await, "0");
    assert_eq!(output(&broker, &jobs[1]).await, "1");
    let (_, list) = broker.get("/v1/jobs").await;
    let listed = |id: &str| {
        let mut entries = list["jobs"].as_array().unwrap().iter();
        entries.find(|it| it["job_id"] == id).unwrap()["exit_code"].clone()
    };
    assert_eq!((listed(&jobs[0]), listed(&jobs[1])), (json!(0), json!(0)));
    // nobody has a result of these
    assert_eq!((listed(&jobs[2]), listed(&jobs[3])), (Value::Null, Value::Null));
    for (job, status) in [
        (&jobs[0], "completed"),
        (&jobs[1], "completed"),
        (&jobs[2], "assigned"),
        (&jobs[3], "failed"),
        (&others[0], "assigned"),
    ] {
        let shown = broker.get(&format!("/status/{job}")).await.1;
        assert_eq!(shown["status"], status, "{shown}");
    }
    let rest = [
        completion(&second, &jobs[2], 2, "2"),
        completion(&second, &others[0], 1, "3"),
    ];
    assert_eq!(complete(&broker, &rest).await, [200, 200]);
    assert_eq!(output(&broker, &jobs[2]).await, "2");
}

#[tokio::test]
async fn one_job_twice_in_a_request_counts_once_and_survives_a_restart() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    let jobs = claimed(&broker, &node, 2).await;
    let mut failed = completion(&node, &jobs[0], 1, "second");
    failed["exit_code"] = json!(1);
    let first = completion(&node, &jobs[0], 1, "first");
    let sent = [first.clone(), first, failed];
    assert_eq!(complete(&broker, &sent).await, [200, 200, 409]);
    let shown = broker.get(&format!("/v1/jobs/{}", jobs[0])).await.1;
    assert_eq!(
        (&shown["status"], &shown["attempt"]),
        (&json!("completed"), &json!(1))
    );
    let nodes = broker.get("/nodes").await.1;
    assert_eq!(
        (
            &nodes["nodes"][0]["jobs_completed"],
            &nodes["nodes"][0]["jobs_failed"]
        ),
        (&json!(1), &json!(0)),
        "{nodes}"
    );
    let broker = broker.restart().await;
    assert_eq!(complete(&broker, &sent).await, [200, 200, 409]);
    assert_eq!(output(&broker, &jobs[0]).await, "first");
    assert_eq!(
        complete(&broker, &[completion(&node, &jobs[1], 1, "1")]).await,
        [200]
    );
}

#[tokio::test]
async fn what_is_no_list_of_completions_is_refused_as_a_whole() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    let jobs = claimed(&broker, &node, 1).await;
    let many = vec![completion(&node, &jobs[0], 1, ""); 1_001];
    for body in [
        json!({}),
        json!([]),
        json!({"completions": null}),
        json!({"completions": {}}),
        json!({"completions": many}),
    ] {
        let (status, answer) = broker.post("/v1/work/complete", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    assert_eq!(complete(&broker, &[]).await, [0; 0]);
    let shown = broker.get(&format!("/status/{}", jobs[0])).await.1;
    assert_eq!(shown["status"], "assigned");
}

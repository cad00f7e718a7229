//! Programs that print what is no text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use sandrun_types::output_root;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Service};

const PRINTED: &[u8] = b"a\xffb\n";
/// The same as a text.
const SHOWN: &str = "a\u{fffd}b\n";

async fn ended(broker: &Service, node: &str, fields: Value) -> String {
    broker.submit(json!({"code": "x"})).await;
    let work = broker.claim(node).await;
    let id = work["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/work/{id}/1/logs");
    let half = json!({"node_id": node, "stdout": {"from": 0, "text": "a\u{fffd}"}});
    broker.ok(&path, half).await;
    let mut body = json!({"node_id": node, "job_id": id, "attempt": 1, "exit_code": 0});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    broker.ok("/complete", body).await;
    id
}

#[tokio::test]
async fn bytes_that_are_no_text_come_back_beside_it() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    let encoded = STANDARD.encode(PRINTED);
    let fields = json!({"output": SHOWN, "output_base64": encoded, "error": "fine"});
    let id = ended(&broker, &node, fields).await;
    let (_, result) = broker.get(&format!("/results/{id}")).await;
    let expected = json!({
        "job_id": id, "status": "completed", "output": SHOWN, "error": "fine", "exit_code": 0, "output_base64": encoded,
    });
    assert_eq!(result, expected);
    let (_, logs) = broker.get(&format!("/v1/jobs/{id}/logs")).await;
    assert_eq!(
        logs,
        json!({"stdout": SHOWN, "stderr": "fine", "stdout_base64": encoded})
    );
    // whoever has read half of the text goes on behind it
    let stream = broker.http.get(broker.url(&format!("/v1/jobs/{id}/logs/stream")));
    let request = stream.header("Last-Event-ID", "1.4.0").timeout(PATIENCE);
    let rest = request.send().await.unwrap().text().await.unwrap();
    assert!(rest.contains("data: \"b\\n\"\n"), "{rest}");

    // what is a text stays one
    let plain = ended(&broker, &node, json!({"output": "a\n"})).await;
    let (_, logs) = broker.get(&format!("/v1/jobs/{plain}/logs")).await;
    assert_eq!(logs, json!({"stdout": "a\n", "stderr": ""}));

    broker.submit(json!({"code": "x"})).await;
    let work = broker.claim(&node).await;
    let body = json!({"node_id": node, "job_id": work["id"], "exit_code": 0, "error_base64": "?"});
    let (status, answer) = broker.post("/complete", body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(
        answer["error"].as_str().unwrap().contains("error_base64"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_job_is_found_by_the_root_over_the_bytes_that_it_printed() {
    let broker = Service::start().await;
    let node = broker.node("http://a").await;
    broker.submit(json!({"code": "x"})).await;
    let work = broker.claim(&node).await;
    let id = work["id"].as_str().unwrap();
    let url = broker.url(&format!("/v1/work/{id}/1/outputs/a.txt"));
    let uploaded = broker.http.put(url).body("1").send().await.unwrap();
    let file: Value = uploaded.json().await.unwrap();
    let body = json!({
        "node_id": node, "job_id": id, "exit_code": 0, "output": SHOWN, "output_base64": STANDARD.encode(PRINTED),
        "outputs": [file],
    });
    broker.ok("/complete", body).await;
    let stated = sandrun_types::InputFile {
        sha256: serde_json::from_value(file["sha256"].clone()).unwrap(),
        size_bytes: 1,
    };
    let files = [(serde_json::from_value(json!("a.txt")).unwrap(), stated)];
    let root = hex::encode(output_root(PRINTED, b"", &files.into()).0);
    broker
        .submit(json!({"code": "x", "after": [{"content": root, "into": "in"}]}))
        .await;
}

//! `/metrics` and `/health`.

use super::*;

#[tokio::test]
async fn the_store_counts_its_blocks_and_calls_and_says_when_it_can_t_write() {
    let served = served().await;
    served.post("version").await;
    served.get("/nothing/at/all").await;
    let health = served.get("/health").await;
    assert_eq!(health.status(), 200);
    let health: Value = health.json().await.unwrap();
    assert_eq!(health["status"], "ready");
    let answer = served.get("/metrics").await;
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = answer.text().await.unwrap();
    for line in [
        "sandrun_build_info{service=\"content\",version=\"0.1.0\"} 1",
        "sandrun_ready 1",
        "sandrun_content_blocks 0",
        "sandrun_content_pins 0",
        "sandrun_http_request_seconds_count{method=\"POST\",route=\"/api/v0/version\",status=\"200\"} 1",
        "sandrun_http_request_seconds_count{method=\"GET\",route=\"none\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    std::fs::remove_dir_all(served.dir.path()).unwrap();
    let health = served.get("/health").await;
    assert_eq!(health.status(), 503);
    let health: Value = health.json().await.unwrap();
    let bad = |it: &Value| it["ok"] == json!(false) && it["do"].is_string();
    assert!(health["checks"].as_array().unwrap().iter().any(bad), "{health}");
}

//! What a running broker does whose files somebody removes.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde_json::json;

use crate::support::Service;

/// The files of its queue.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries.filter(|it| it.is_file()).collect()
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_files_are_away() {
    let broker = Service::start().await;
    let first = broker.submit(json!({"code": "x"})).await;
    let away = broker.folder().join("away");
    fs::create_dir(&away).unwrap();
    let moved = files(broker.folder());
    for file in &moved {
        fs::rename(file, away.join(file.file_name().unwrap())).unwrap();
    }
    for _ in 0..3 {
        let (status, answer) = broker.post("/submit", json!({"code": "y"})).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let text = answer["error"].as_str().unwrap();
        assert!(text.contains("put them back"), "{text}");
    }
    let body = "z".repeat(100_000);
    let (status, answer) = broker.submit_form(&[("main.py", body.as_bytes())], &[]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let (status, health) = broker.get("/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(health["checks"].to_string().contains("removed"), "{health}");
    assert!(files(broker.folder()).is_empty(), "no new queue in its place");

    // what was moved back is the same queue
    for file in files(&away) {
        fs::rename(&file, broker.folder().join(file.file_name().unwrap())).unwrap();
    }
    let second = broker.submit(json!({"code": "y"})).await;
    assert_eq!(broker.get("/health").await.0, StatusCode::OK);
    let broker = broker.restart().await;
    let listed = broker.get("/v1/jobs").await.1;
    let ids: Vec<_> = listed["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["job_id"])
        .collect();
    assert_eq!(ids, [&json!(second), &json!(first)], "{listed}");
    for file in files(broker.folder()) {
        if file.extension().is_some_and(|it| it == "journal-1") {
            fs::remove_file(file).unwrap();
        }
    }
    let (status, answer) = broker.post("/submit", json!({"code": "z"})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
}

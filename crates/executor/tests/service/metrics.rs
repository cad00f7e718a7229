//! What the service says of itself to its operator.

use serde_json::json;

use crate::support::Service;

async fn text(service: &Service) -> String {
    let answer = service.http.get(service.url("/metrics")).send().await.unwrap();
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    answer.text().await.unwrap()
}

#[tokio::test]
async fn runs_are_counted_by_class_and_outcome() {
    let service = Service::start().await;
    service.run("{}", &[("main.py", "print(1)")]).await;
    service.run("{}", &[("main.py", "raise SystemExit(3)")]).await;
    service
        .run(r#"{"timeout": 1}"#, &[("run.sh", "while :; do :; done")])
        .await;
    let text = text(&service).await;
    for line in [
        "sandrun_build_info{service=\"sandrun\",version=\"0.1.0\"} 1",
        "sandrun_ready 1",
        "sandrun_jobs{status=\"queued\"} 0",
        "sandrun_jobs{status=\"running\"} 0",
        "sandrun_jobs{status=\"ended\"} 3",
        "sandrun_runs_total{class=\"native\",outcome=\"exited\"} 2",
        "sandrun_runs_total{class=\"native\",outcome=\"timeout\"} 1",
        "sandrun_runs_total{class=\"native\",outcome=\"memory\"} 0",
        "sandrun_run_seconds_count{class=\"native\"} 3",
        "sandrun_environments 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|it| it.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert!(value("sandrun_run_seconds_sum{class=\"native\"}") > 0.9);
    assert!(value("sandrun_run_cpu_seconds_total{class=\"native\"}") > 0.1);
    assert!(value("sandrun_disk_free_bytes") > 1e6);
    assert!(value("process_resident_memory_bytes") > 1e6);
    // each family has its help and its type, once
    let heads: Vec<&str> = text.lines().filter(|it| it.starts_with("# HELP ")).collect();
    let types = text.lines().filter(|it| it.starts_with("# TYPE ")).count();
    assert_eq!(heads.len(), types);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_can_t_write_is_not_ready_and_says_what_to_do() {
    let service = Service::start().await;
    let (status, health) = service.get("/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("healthy")), "{health}");
    // what clients have always read
    assert_eq!(health["worker_id"], json!(service.worker.to_string()));
    assert!(
        health["classes"]["native"].is_string() && health["isolation"].is_array(),
        "{health}"
    );
    let checks = health["checks"].as_array().unwrap();
    assert!(checks.iter().all(|it| it["ok"] == json!(true)), "{health}");

    std::fs::remove_dir_all(service.folder.path().join("data")).unwrap();
    let (status, health) = service.get("/health").await;
    assert_eq!(
        (status, &health["status"]),
        (503, &json!("not ready")),
        "{health}"
    );
    let bad: Vec<_> = health["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["ok"] == json!(false))
        .collect();
    assert_eq!(bad.len(), 1, "{health}");
    assert_eq!(bad[0]["name"], json!("disk"));
    assert!(bad[0]["do"].is_string());
    assert!(
        text(&service)
            .await
            .contains("sandrun_health_check{check=\"disk\"} 0\n")
    );
}

//! What the service says of itself to its operator.

use std::time::Duration;

use sandrun_executor::wire::JobState;
use serde_json::json;

use crate::support::{PATIENCE, Service, form};

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
async fn a_class_that_holds_no_more_is_withdrawn() {
    let system = tempfile::tempdir().unwrap();
    let library = system.path().join("libm.so");
    std::fs::write(&library, "one").unwrap();
    let service = Service::start_with(|config| {
        let sandbox = &mut config.sandbox;
        // what is read is remembered beside what others know
        let cache = system.path().with_extension("cache");
        std::fs::create_dir(&cache).unwrap();
        if let Some(known) = sandbox.cache_dir.replace(cache.clone()) {
            let _ = std::fs::copy(known.join("system-files"), cache.join("system-files"));
        }
        sandbox.extra_dirs = vec![system.path().to_owned()];
        sandbox.system_check = Duration::ZERO;
    })
    .await;
    let offered = async |count: usize| {
        while service.get("/health").await.1["classes"]
            .as_object()
            .unwrap()
            .len()
            != count
        {
            tokio::task::yield_now().await;
        }
    };
    let all = service.get("/health").await.1["classes"]
        .as_object()
        .unwrap()
        .len();
    std::fs::write(&library, "two").unwrap();
    tokio::time::timeout(PATIENCE, offered(1)).await.unwrap();
    let manifest = r#"{"class":"det-soft"}"#;
    let (status, refusal) = service.post(form(manifest, &[("run.sh", "echo ran")])).await;
    assert_eq!(status, 400, "{refusal}");
    let native = service.run("{}", &[("run.sh", "echo ran")]).await;
    assert_eq!(native.status, JobState::Completed, "{native:?}");
    std::fs::write(&library, "one").unwrap();
    tokio::time::timeout(PATIENCE, offered(all)).await.unwrap();
    let again = service.run(manifest, &[("run.sh", "echo ran")]).await;
    assert_eq!(again.status, JobState::Completed, "{again:?}");
    std::fs::remove_dir_all(system.path().with_extension("cache")).unwrap();
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

//! What needs no job.

use reqwest::Method;
use sandrun_executor::{ClientError, ExecutorClient};
use serde_json::json;

use crate::support::Service;

#[tokio::test]
async fn says_what_it_is() {
    let service = Service::start().await;
    let (status, root) = service.get("/").await;
    assert_eq!(
        (status, &root["service"], &root["status"]),
        (200, &json!("sandrun"), &json!("running"))
    );
    assert!(root["description"].is_string() && root["privacy"].is_string() && root["limits"].is_string());
    assert!(
        root["limits"].as_str().unwrap().contains("at most 3600"),
        "{root}"
    );
    let (status, environments) = service.get("/environments").await;
    assert_eq!(status, 200);
    assert_eq!(
        (
            &environments["templates"],
            &environments["fetches"],
            &environments["stats"]
        ),
        (
            &json!([]),
            &json!(false),
            &json!({"total_templates": 0, "cached_environments": 0, "total_uses": 0, "disk_usage_mb": 0})
        )
    );
    let (status, stats) = service.get("/stats").await;
    assert_eq!(status, 200);
    assert_eq!(stats["system"], json!({"queue_length": 0, "active_jobs": 0}));
    assert_eq!(
        (&stats["your_quota"]["can_submit"], &stats["your_quota"]["reason"]),
        (&json!(true), &json!(""))
    );
}

#[tokio::test]
async fn errors_are_json_and_cors_is_open() {
    let service = Service::start().await;
    for (path, expected) in [
        ("/nothing", 404),
        ("/status/job-00", 404),
        ("/logs/..%2fx", 404),
        ("/receipt/x", 404),
        ("/status/%ff", 400),
        ("/outputs/job-0/%ff", 400),
    ] {
        let (status, body) = service.get(path).await;
        assert_eq!(status, expected, "{path}");
        assert!(body["error"].is_string(), "{path}: {body}");
    }
    let response = service.http.delete(service.url("/submit")).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(response.json::<serde_json::Value>().await.unwrap()["error"].is_string());
    let preflight = service
        .http
        .request(Method::OPTIONS, service.url("/submit"))
        .header("Origin", "http://example.org")
        .header("Access-Control-Request-Method", "POST")
        .send()
        .await
        .unwrap();
    assert!(preflight.status().is_success());
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    let plain = service
        .http
        .request(Method::OPTIONS, service.url("/status/x"))
        .send()
        .await
        .unwrap();
    assert!(plain.status().is_success());
}

#[tokio::test]
async fn health_proves_the_worker_key() {
    let service = Service::start().await;
    let (worker, health) = service.client.prove_health("test").await.unwrap();
    assert_eq!((worker, health.status.as_str()), (service.worker, "healthy"));
    for layer in [
        "user",
        "pid",
        "mount",
        "net",
        "pivot_root",
        "no_capabilities",
        "seccomp",
        "rlimits",
    ] {
        assert!(
            health.isolation.iter().any(|held| held == layer),
            "{layer} in {:?}",
            health.isolation
        );
    }
    let nonce = "a".repeat(64);
    for query in [
        format!("nonce={nonce}"),
        "nonce=12&audience=a&endpoint=b".to_owned(),
        format!("nonce={nonce}&audience=a%0Ab&endpoint=c"),
        format!("nonce={nonce}&audience=a&endpoint={}", "b".repeat(2000)),
    ] {
        let (status, body) = service.get(&format!("/health?{query}")).await;
        assert_eq!(status, 400, "{body}");
    }
}

#[tokio::test]
async fn an_anonymous_executor_has_no_id_and_signs_nothing() {
    let service = Service::start_with(|config| config.worker_key = None).await;
    let (_, health) = service.get("/health").await;
    assert_eq!(health["worker_id"], json!(null));
    assert!(matches!(
        service.client.prove_health("test").await,
        Err(ClientError::Unproven { .. })
    ));
    let job = service.run("", &[("run.sh", "true")]).await;
    assert_eq!(
        (job.worker_metadata.worker_id, job.worker_metadata.signature),
        (None, None)
    );
    let receipt = service.client.receipt_bytes(&job.job_id).await.unwrap();
    assert_eq!(sandrun_types::Receipt::parse(&receipt).unwrap().worker_id, None);
}

#[tokio::test]
async fn the_client_tells_what_is_wrong() {
    let service = Service::start().await;
    for endpoint in ["localhost:8443", "ftp://localhost", "", "http://"] {
        assert!(
            matches!(ExecutorClient::new(endpoint), Err(ClientError::Endpoint { .. })),
            "{endpoint}"
        );
    }
    let unknown = service
        .client
        .status("job-00000000000000000000000000000000")
        .await
        .unwrap_err();
    assert!(
        matches!(unknown, ClientError::Refused { status: 404, .. }) && !unknown.is_transient(),
        "{unknown}"
    );
    let nobody = ExecutorClient::new("http://127.0.0.1:1")
        .unwrap()
        .health()
        .await
        .unwrap_err();
    assert!(
        matches!(nobody, ClientError::Unreachable { .. }) && nobody.is_transient(),
        "{nobody}"
    );
    // a path below the service is another service
    let other = ExecutorClient::new(&format!("{}/elsewhere/", service.base)).unwrap();
    assert!(matches!(
        other.health().await,
        Err(ClientError::Refused { status: 404, .. })
    ));
    // the proof is bound to the address as it was given, with or without a slash at its end
    let slash = ExecutorClient::new(&format!("{}/", service.base)).unwrap();
    assert_eq!(slash.prove_health("test").await.unwrap().0, service.worker);
}

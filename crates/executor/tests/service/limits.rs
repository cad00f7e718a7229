//! Quotas and upload limits.

use std::time::Duration;

use sandrun_executor::{ClientError, QuotaRules};
use serde_json::json;

use crate::support::{Service, eventually, form, upload};

#[tokio::test]
async fn two_jobs_at_once() {
    let service = Service::start_with(|config| config.quota = Some(QuotaRules::default())).await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        jobs.push(service.submit("", &[("run.sh", "sleep 5")]).await.job_id);
    }
    let response = service
        .http
        .post(service.url("/submit"))
        .multipart(form("", &[("run.sh", "")]))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let (_, stats) = service.get("/stats").await;
    assert_eq!(
        (
            &stats["your_quota"]["can_submit"],
            &stats["your_quota"]["active_jobs"]
        ),
        (&json!(false), &json!(2))
    );
    assert!(
        stats["your_quota"]["reason"]
            .as_str()
            .unwrap()
            .contains("at once")
    );
    for job in jobs {
        service.ended(&job).await;
    }
    service.submit("", &[("run.sh", "true")]).await;
}

#[tokio::test]
async fn cpu_time_counts_as_used_not_as_asked_for() {
    let quota = QuotaRules {
        cpu_per_minute: Duration::from_millis(300),
        jobs_at_once: 5,
        jobs_per_hour: 20,
    };
    let service = Service::start_with(|config| config.quota = Some(quota)).await;
    service.run(r#"{"cpu_seconds":60}"#, &[("run.sh", "true")]).await;
    service
        .run(
            "",
            &[("main.py", "import time\nwhile time.process_time() < 0.5: pass")],
        )
        .await;
    let submission = sandrun_executor::Submission::new().file(
        sandrun_types::BundlePath::parse("run.sh").unwrap(),
        sandrun_executor::FileContent::Bytes(b"true".to_vec()),
    );
    let Err(ClientError::Busy { words, retry_after }) = service.client.submit(submission).await else {
        panic!("a job over quota was taken");
    };
    assert!(words.contains("CPU seconds"), "{words}");
    assert!(retry_after.is_some_and(|wait| wait <= Duration::from_secs(60)));
    let stats = service.client.stats().await.unwrap().your_quota;
    assert!(
        stats.used >= 0.5 && stats.limit == Some(0.3) && stats.available == Some(0.0),
        "{stats:?}"
    );
}

#[tokio::test]
async fn jobs_in_an_hour() {
    let quota = QuotaRules {
        jobs_per_hour: 1,
        ..QuotaRules::default()
    };
    let service = Service::start_with(|config| config.quota = Some(quota)).await;
    // a refused upload does not count
    assert_eq!(service.post(form("{", &[("run.sh", "")])).await.0, 400);
    service.run("", &[("run.sh", "true")]).await;
    let (status, body) = service.post(form("", &[("run.sh", "")])).await;
    assert_eq!(status, 429, "{body}");
    assert!(
        body["error"].as_str().unwrap().contains("1 jobs an hour"),
        "{body}"
    );
}

#[tokio::test]
async fn large_uploads_are_refused_and_leave_nothing() {
    let service = Service::start_with(|config| config.limits.upload_bytes = 1 << 20).await;
    let (status, body) = service.post(upload("main.py", vec![b'#'; 6 << 20])).await;
    assert_eq!(status, 413, "{body}");
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("more than 1048576 bytes"),
        "{body}"
    );
    let (status, body) = service.post(upload("main.py", vec![b'#'; (1 << 20) + 1])).await;
    assert_eq!(status, 413, "{body}");
    eventually("the draft goes", async || service.job_folders().is_empty()).await;
    let (status, body) = service.post(upload("main.py", vec![b'#'; 1 << 20])).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn a_full_queue_is_said_to_be_full() {
    let service = Service::start_with(|config| {
        config.parallel = std::num::NonZeroU32::MIN;
        config.max_queued = 1;
    })
    .await;
    service.submit("", &[("run.sh", "sleep 600")]).await;
    service.submit("", &[("run.sh", "true")]).await;
    let (status, body) = service.post(form("", &[("run.sh", "true")])).await;
    assert_eq!(status, 503, "{body}");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn uploads_that_trickle_keep_others_waiting_for_two_seconds_at_most() {
    use tokio::io::AsyncWriteExt as _;
    let service = Service::start_with(|config| config.quota = Some(QuotaRules::default())).await;
    let address = service.base.trim_start_matches("http://");
    let head = "POST /submit HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n\
                Content-Length: 100000\r\n\r\n--b\r\n\
                Content-Disposition: form-data; name=\"files\"; filename=\"main.py\"\r\n\r\np";
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        // more than is kept in memory
        connection.write_all(&[b'p'; 70_000]).await.unwrap();
        slow.push(connection);
    }
    eventually("the uploads begin", async || service.job_folders().len() == 4).await;
    let begun = std::time::Instant::now();
    let request = service.http.post(service.url("/submit"));
    let response = request
        .multipart(form("", &[("run.sh", "")]))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(slow);
    eventually("the drafts go", async || service.job_folders().is_empty()).await;
    service.submit("", &[("run.sh", "true")]).await;
}

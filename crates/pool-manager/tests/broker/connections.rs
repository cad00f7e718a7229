//! Who holds connections without using them, and who uses them for long.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use sandrun_serve::Bounds;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;

use crate::support::{PATIENCE, Service};

async fn dial(broker: &Service) -> TcpStream {
    let address = broker.base.strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn who_sends_no_header_is_cut_off_and_who_waits_for_work_is_not() {
    let header_time = Duration::from_millis(500);
    let bounds = Bounds {
        header_time,
        ..Bounds::fleet()
    };
    let broker = Service::bounded(bounds).await;
    let node = broker.node("http://a").await;
    let id = broker
        .submit(json!({"code": "x", "requirements": {"region": "nowhere"}}))
        .await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let mut events = broker.http.get(&url).timeout(PATIENCE).send().await.unwrap();
    events.chunk().await.unwrap().unwrap();
    let (mut socket, _) = connect_async(url.replace("http://", "ws://")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let mut silent = dial(&broker).await;
    let mut slow = dial(&broker).await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let path = format!("/claim?wait={}", header_time.as_secs_f64() * 4.0);
    let mut end = Vec::new();
    // it has waited four times as long as a header may take
    let (claimed, silent_ended, slow_ended) = tokio::join!(
        broker.ok(&path, json!({"node_id": node, "max": 1})),
        timeout(PATIENCE, silent.read_to_end(&mut end)),
        timeout(PATIENCE, async {
            slow.read_to_end(&mut Vec::new()).await.map(drop)
        }),
    );
    assert_eq!(claimed, json!({"jobs": []}));
    assert_eq!(silent_ended.unwrap().unwrap(), 0);
    slow_ended.unwrap().unwrap();
    // both streams have lived through it
    broker
        .send(reqwest::Method::DELETE, &format!("/v1/jobs/{id}"), None)
        .await;
    let rest = timeout(PATIENCE, events.text()).await.unwrap().unwrap();
    assert!(rest.contains("event: done"), "{rest}");
    let frame = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(frame.to_text().unwrap().contains("done"), "{frame}");
}

#[tokio::test]
async fn many_idle_connections_keep_nobody_out() {
    let broker = Service::start().await;
    let mut idle = Vec::new();
    for _ in 0..(Bounds::fleet().connections / 8).min(500) {
        let mut stream = dial(&broker).await;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        idle.push(stream);
    }
    for stream in &mut idle {
        assert_eq!(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(), b'H');
    }
    assert_eq!(broker.get("/health").await.1["status"], json!("healthy"));
    let began = Instant::now();
    broker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn it_ends_in_time_though_a_body_and_a_stream_never_do() {
    let broker = Service::start().await;
    let id = broker.submit(json!({"code": "x"})).await;
    let url = broker.url(&format!("/v1/jobs/{id}/logs/stream"));
    let (mut socket, _) = connect_async(url.replace("http://", "ws://")).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let mut upload = dial(&broker).await;
    let head = "POST /submit HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n{";
    upload.write_all(head.as_bytes()).await.unwrap();
    // it is being read
    let mut waits = [0; 25];
    timeout(PATIENCE, upload.read_exact(&mut waits))
        .await
        .unwrap()
        .unwrap();
    let began = Instant::now();
    broker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    let closed = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(closed.is_close(), "{closed}");
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn uploads_that_make_no_progress_keep_nobody_out_for_long() {
    let bounds = Bounds {
        connections: 8,
        body_idle: Duration::from_secs(1),
        ..Bounds::fleet()
    };
    let broker = Service::bounded(bounds).await;
    let mut stalled = Vec::new();
    for path in ["/submit", "/heartbeat", "/v1/jobs/batch", "/v1/work/x/1/logs"].repeat(4) {
        let mut upload = dial(&broker).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{");
        upload.write_all(head.as_bytes()).await.unwrap();
        stalled.push(upload);
    }
    assert_eq!(broker.get("/health").await.1["status"], json!("healthy"));
    for mut upload in stalled {
        let mut answer = String::new();
        let read = timeout(PATIENCE, upload.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

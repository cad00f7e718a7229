use std::net::Ipv4Addr;

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(bounds: Bounds) -> Running {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string();
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(peer));
    let task = tokio::spawn(serve(listener, router, bounds, stop.clone()));
    Running { address, stop, task }
}

impl Running {
    /// Sends this and reads until the service closes the connection.
    async fn exchange(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.expect("the connection stays open").unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn ask(&self) -> String {
        self.exchange("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
    }
}

fn bounds(connections: usize) -> Bounds {
    Bounds {
        connections,
        per_address: 1,
        header_time: Duration::from_millis(200),
    }
}

#[tokio::test]
async fn silent_connections_and_headers_without_end_are_closed() {
    let running = start(bounds(8)).await;
    assert!(running.ask().await.ends_with("\r\n\r\n127.0.0.1"));
    for text in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\nA"] {
        assert!(!running.exchange(text).await.contains("200 OK"), "{text:?}");
    }
    // one that was answered is silent after that
    let kept = running.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(kept.contains("200 OK"), "{kept}");
}

#[tokio::test]
async fn silent_connections_keep_nobody_out_for_long() {
    let running = start(bounds(2)).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let answer = timeout(PATIENCE, running.ask()).await.unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn thousands_of_idle_connections_of_one_address_keep_nobody_out() {
    let fleet = Bounds::fleet();
    let running = start(fleet).await;
    // both ends of each are files of this process
    let many = (fleet.connections / 4).min(2_000);
    let mut idle = Vec::with_capacity(many);
    for _ in 0..many {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        idle.push(stream);
    }
    for stream in &mut idle {
        let first = timeout(PATIENCE, stream.read_u8()).await.unwrap();
        assert_eq!(first.unwrap(), b'H');
    }
    let answer = timeout(PATIENCE, running.ask()).await.unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    running.stop.cancel();
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn it_ends_when_told_to_though_connections_are_open() {
    let long = Bounds {
        header_time: PATIENCE * 10,
        ..bounds(8)
    };
    let running = start(long).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    idle.read_u8().await.unwrap();
    running.stop.cancel();
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

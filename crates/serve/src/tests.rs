use std::net::Ipv4Addr;

use axum::body::Bytes;
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
    let length = async |body: Bytes| body.len().to_string();
    let router = Router::new().route("/", get(peer).post(length));
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
        body_idle: Duration::from_secs(2),
        body_rate: 200,
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

const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3000\r\n\r\n";

impl Running {
    /// Sends a body of 3,000 bytes in such pieces, one at each of these intervals, until all is sent or there is an
    /// answer.
    async fn upload(&self, piece: usize, every: Duration) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut reads, mut writes) = stream.into_split();
        writes.write_all(UPLOAD.as_bytes()).await.unwrap();
        let send = async {
            let mut turns = tokio::time::interval(every);
            let mut left = 3_000;
            while left > 0 {
                turns.tick().await;
                let bytes = vec![b'x'; piece.min(left)];
                left -= bytes.len();
                if writes.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = send => {}
            read = timeout(PATIENCE, reads.read_to_end(&mut answer)) => drop(read.expect("it stays open")),
        }
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_are_given_up_and_slow_ones_are_not() {
    let running = start(bounds(8)).await;
    // in all it takes three times as long as a body is waited for
    let (slow, drip, silent) = tokio::join!(
        running.upload(200, Duration::from_millis(400)),
        running.upload(1, Duration::from_millis(20)),
        running.exchange(UPLOAD),
    );
    assert!(
        slow.contains("200 OK") && slow.ends_with("\r\n\r\n3000"),
        "{slow}"
    );
    for answer in [drip, silent] {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            answer.ends_with(r#"{"error":"the request's body came too slowly; send it again"}"#),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_keep_nobody_out_for_long() {
    let running = start(bounds(4)).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(UPLOAD.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    let answer = timeout(PATIENCE, running.ask()).await.unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn who_has_not_sent_its_body_at_the_end_is_told_so() {
    let long = Bounds {
        body_idle: PATIENCE * 10,
        ..bounds(8)
    };
    let running = start(long).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let begun = UPLOAD.replace("Host: x", "Host: x\r\nExpect: 100-continue");
    stream.write_all(begun.as_bytes()).await.unwrap();
    // it is read: that is what this answer says
    let mut waits = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut waits))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&waits, b"HTTP/1.1 100 Continue\r\n\r\n");
    running.stop.cancel();
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("the service ends"),
        "{answer}"
    );
}

//! A service that answers what a test says.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a call is answered with: the first time, the second, and so on; the last one for ever.
type Answers = HashMap<&'static str, (Vec<Answer>, AtomicUsize)>;

/// A status and a body.
#[derive(Debug, Clone)]
pub(crate) struct Answer(pub(crate) u16, pub(crate) String);

/// Its address; it ends with the test.
pub(crate) struct StandIn {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl StandIn {
    /// A service that knows these calls, written `GET /path`; 404 for all others.
    pub(crate) async fn start(calls: &[(&'static str, &[Answer])]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let entry =
            |(call, answers): &(&'static str, &[Answer])| (*call, (answers.to_vec(), AtomicUsize::new(0)));
        let answers: Arc<Answers> = Arc::new(calls.iter().map(entry).collect());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    // a client that goes away is its own affair
                    let _ = answer(stream, &answers).await;
                });
            }
        });
        Ok(Self { url, task })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            size => request.extend_from_slice(&piece[..size]),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let call: Vec<&str> = text.split(' ').take(2).collect();
    let Answer(status, body) = match answers.get(call.join(" ").as_str()) {
        Some((answers, count)) => {
            let at = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            answers[at].clone()
        }
        None => Answer(404, "<!doctype html>".to_owned()),
    };
    let size = body.len();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Whether head and body are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|it| it.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

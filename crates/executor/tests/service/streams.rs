//! Live output over WebSockets.

use futures::StreamExt as _;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{PATIENCE, Service};

/// Every text frame until the connection is closed.
async fn frames(service: &Service, path: &str) -> Vec<String> {
    let url = service.url(path).replace("http://", "ws://");
    let (mut socket, _) = connect_async(url).await.unwrap();
    let read = async {
        let mut frames = Vec::new();
        while let Some(message) = socket.next().await {
            match message.unwrap() {
                Message::Text(text) => frames.push(text.to_string()),
                Message::Close(_) => break,
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                    panic!("a stream is text frames")
                }
            }
        }
        frames
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

#[tokio::test]
async fn live_output_comes_piece_by_piece() {
    let service = Service::start().await;
    let code = "echo one; sleep 1; echo two >&2; sleep 1; printf 'th\\303'; sleep 1; printf '\\274ree'";
    let job = service.submit("", &[("run.sh", code)]).await.job_id;
    let live = frames(&service, &format!("/stream/{job}")).await;
    let output: Vec<&str> = live
        .iter()
        .map(String::as_str)
        .filter(|frame| !frame.starts_with("[STATUS]"))
        .collect();
    assert_eq!(
        output[..output.len() - 1],
        ["one\n", "[STDERR]\ntwo\n", "th", "üree"],
        "{live:?}"
    );
    assert!(
        output
            .last()
            .unwrap()
            .starts_with("[DONE] Job completed (exit=0, CPU="),
        "{live:?}"
    );
    assert!(
        live.iter()
            .any(|frame| frame.starts_with("[STATUS] Job status: ")),
        "{live:?}"
    );

    let late = frames(&service, &format!("/logs/{job}/stream")).await;
    assert_eq!(late[..late.len() - 2].concat(), "one\n[STDERR]\ntwo\nthüree");
    assert_eq!(late[late.len() - 2], "[STATUS] Job status: completed\n");
    assert!(late.last().unwrap().starts_with("[DONE] Job completed"));
}

#[tokio::test]
async fn a_stream_follows_a_waiting_job_and_tells_a_failure() {
    let service = Service::start_with(|config| config.parallel = std::num::NonZeroU32::MIN).await;
    service.submit("", &[("run.sh", "sleep 2")]).await;
    let job = service.submit("", &[("run.sh", "echo x; exit 4")]).await.job_id;
    let frames = frames(&service, &format!("/stream/{job}")).await;
    assert_eq!(
        frames[..3],
        ["[STATUS] Job status: queued\n", "[STATUS] Job started\n", "x\n"],
        "{frames:?}"
    );
    assert!(frames[3].starts_with("[DONE] Job failed (exit=4, "), "{frames:?}");
}

#[tokio::test]
async fn a_large_output_arrives_whole_and_in_order() {
    let service = Service::start().await;
    let job = service
        .submit("", &[("main.py", "for n in range(200000): print(n)")])
        .await
        .job_id;
    let text: String = frames(&service, &format!("/stream/{job}"))
        .await
        .into_iter()
        .filter(|frame| !frame.starts_with('['))
        .collect();
    let expected: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    assert!(text == expected, "{} of {} bytes", text.len(), expected.len());
}

#[tokio::test]
async fn what_is_no_stream_is_refused() {
    let service = Service::start().await;
    let url = service
        .url("/stream/job-00000000000000000000000000000000")
        .replace("http://", "ws://");
    let error = connect_async(url).await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
    let job = service.submit("", &[("run.sh", "true")]).await.job_id;
    assert_eq!(service.get(&format!("/stream/{job}")).await.0, 400);
}

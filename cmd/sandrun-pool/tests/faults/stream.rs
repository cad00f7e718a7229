//! The WebSocket of a job's output is cut.

use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use sandrun_executor::{ExecutorClient, FileContent, Submission};
use sandrun_testnet::Role::Honest;
use sandrun_types::BundlePath;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::scene::{Frail, until};
use crate::wire::Mode;

/// It prints for some seconds of real time.
const PROGRAM: &str = "import time\nfor n in range(40):\n    print(n, flush=True)\n    time.sleep(0.1)\n";
/// Longest wait for a piece of output.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a stream says, up to a line that holds `last`; whether that came.
async fn read(url: &str, last: &str, then: impl FnOnce()) -> anyhow::Result<(String, bool)> {
    let (mut socket, _) = connect_async(url).await?;
    let (mut text, mut then, mut is_there) = (String::new(), Some(then), false);
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, socket.next()).await? {
        if let Message::Text(piece) = message {
            text.push_str(&piece);
        }
        if !is_there && text.contains(last) {
            is_there = true;
            then.take().into_iter().for_each(|then| then());
        }
    }
    Ok((text, is_there))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_websocket_ends_no_job_and_the_next_one_has_it_all() -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest]).await?;
    let executor = frail.scene.market.nodes[0].sandrun_url.clone();
    let line = frail.wires.line("listener", "sandrun1", &executor)?;
    let submission = Submission::new()
        .file(
            BundlePath::parse("main.py")?,
            FileContent::Bytes(PROGRAM.as_bytes().to_vec()),
        )
        .manifest_text(r#"{"class": "native", "timeout": 20}"#.to_owned());
    let job = ExecutorClient::new(&executor)?.submit(submission).await?.job_id;
    let stream = format!("{}/stream/{job}", line.replace("http://", "ws://"));
    let cut = || frail.wires.set(Mode::Cut, |who, _| who == "listener");
    let (before, is_there) = read(&stream, "\n5\n", cut).await?;
    anyhow::ensure!(is_there && !before.contains("[DONE]"), "{before}");
    // nobody listens: the executor lets go of it, and the program goes on
    until("no stream is open", async || {
        let metrics = reqwest::get(format!("{executor}/metrics")).await?.text().await?;
        Ok(metrics.contains("\nsandrun_open_streams 0\n"))
    })
    .await?;
    frail.wires.set(Mode::Straight, |who, _| who == "listener");
    let (after, is_whole) = read(&stream, "[DONE] Job completed", || ()).await?;
    let printed: String = (0..40).map(|n| format!("{n}\n")).collect();
    let lines: String = after
        .lines()
        .filter(|line| !line.starts_with('['))
        .map(|line| format!("{line}\n"))
        .collect();
    anyhow::ensure!(is_whole && lines == printed, "{after}");
    let status = ExecutorClient::new(&executor)?
        .status(&job)
        .await
        .context("its status")?;
    anyhow::ensure!(
        status.status == sandrun_executor::wire::JobState::Completed,
        "{status:?}"
    );
    frail.scene.market.stop().await;
    Ok(())
}

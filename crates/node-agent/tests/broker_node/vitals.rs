//! What a node says of itself, where it is asked to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::broker::Broker;
use super::scene::{PATIENCE, Scene};

/// An address that nobody listens on.
fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Asks until the status is what is wanted; the body.
async fn health(at: SocketAddr, wanted: u16) -> Result<Value> {
    let ask = async {
        loop {
            if let Ok(answer) = reqwest::get(format!("http://{at}/health")).await
                && answer.status() == wanted
            {
                return anyhow::Ok(answer.json().await?);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ask)
        .await
        .with_context(|| format!("never {wanted}"))?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_counts_its_attempts_and_is_ready_while_it_gets_work() -> Result<()> {
    let (scene, broker) = (Scene::new().await?, Broker::ours().await?);
    let at = free()?;
    let node = scene.node(&broker.url, |config| config.metrics = Some(at));
    health(at, 200).await?;
    for (id, code) in [("a", "echo hello"), ("b", "exit 3")] {
        let job =
            json!({"id": id, "attempt": 1, "code": code, "interpreter": "bash", "args": [], "timeout": 60});
        broker.submit(job);
        broker.completion(id).await?;
    }
    // an answer is counted when the broker's word on it is heard
    let wanted = "sandrun_answers_total{outcome=\"accepted\"} 2";
    let read = async {
        loop {
            let text = reqwest::get(format!("http://{at}/metrics")).await?.text().await?;
            if text.lines().any(|it| it == wanted) {
                return anyhow::Ok(text);
            }
        }
    };
    let text = tokio::time::timeout(PATIENCE, read).await.context(wanted)??;
    for line in [
        "sandrun_build_info{service=\"node\",version=\"0.1.0\"} 1",
        "sandrun_ready 1",
        "sandrun_attempts_total{outcome=\"completed\"} 1",
        "sandrun_attempts_total{outcome=\"failed\"} 1",
        "sandrun_attempts_total{outcome=\"nothing\"} 0",
        "sandrun_attempt_seconds_count 2",
        "sandrun_jobs_claimed_total 2",
        "sandrun_jobs{status=\"running\"} 0",
        "sandrun_draining 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    broker.script(|script| script.drain = true);
    let drained = health(at, 503).await?;
    let gate = drained["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|it| it["name"] == "gate")
        .context("a gate")?;
    assert!(
        gate["do"].as_str().is_some_and(|it| it.contains("--resume")),
        "{drained}"
    );
    node.stop().await?;
    assert!(
        reqwest::get(format!("http://{at}/health")).await.is_err(),
        "it listens on"
    );
    scene.end().await
}

//! A broker, an executor and a node, each as a process of its own.

mod support;

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use support::BIN;
use support::process::{GRACE, Process};
use tokio::process::Command;

/// A command in a directory of its own, without a market.
fn alone(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command
        .args(arguments)
        .current_dir(directory)
        .env("SANDRUN_HOME", directory.join("home"))
        .env_remove("SANDRUN_CONFIG");
    command
}

async fn submit(http: &reqwest::Client, broker: &str, job: Value) -> anyhow::Result<String> {
    let answer: Value = http
        .post(format!("{broker}/submit"))
        .json(&job)
        .send()
        .await?
        .json()
        .await?;
    Ok(answer["job_id"].as_str().context("no id")?.to_owned())
}

/// Everything that a job's stream says until `enough` is in it, or it ends.
async fn follow(http: &reqwest::Client, broker: &str, job: &str, enough: &str) -> anyhow::Result<String> {
    let url = format!("{broker}/v1/jobs/{job}/logs/stream");
    let mut stream = http.get(url).send().await?;
    let mut said = String::new();
    let read = async {
        while let Some(piece) = stream.chunk().await? {
            said += &String::from_utf8_lossy(&piece);
            if said.contains(enough) {
                break;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(6 * GRACE, read)
        .await
        .with_context(|| format!("following {job}"))??;
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_works_by_its_json_file_and_ends_in_the_middle_of_a_job() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let start = |arguments: &[&str]| Process::start(alone(directory.path(), arguments));
    let broker = start(&["broker", "--port", "0"]).await?;
    let executor = start(&["sandrun", "--port", "0", "--no-quota"]).await?;
    let config = json!({
        "broker_url": broker.ready, "sandrun_url": executor.ready, "poll_interval": 1, "max_concurrent_jobs": 2,
        "capabilities": {"cpu_cores": 4, "memory_gb": 8, "gpu": false, "interpreters": ["python3", "bash"]},
    });
    std::fs::write(directory.path().join("config.json"), config.to_string())?;
    let node = start(&["node", "--config", "config.json"]).await?;
    assert!(node.ready.starts_with("ready: node "), "{}", node.ready);

    // also chooses TLS for the whole process, without which no client can be made
    sandrun_executor::ExecutorClient::new(&executor.ready)?
        .health()
        .await?;
    let http = reqwest::Client::new();
    let nodes: Value = http
        .get(format!("{}/nodes", broker.ready))
        .send()
        .await?
        .json()
        .await?;
    let announced = &nodes["nodes"][0]["capabilities"];
    assert_eq!(
        (&announced["cpu_cores"], &announced["memory_gb"]),
        (&json!(4), &json!(8.0))
    );
    let job = submit(&http, &broker.ready, json!({"code": "print(6 * 7)"})).await?;
    let said = follow(&http, &broker.ready, &job, "event: done").await?;
    assert!(said.contains("42"), "{said}");

    let endless = "echo begun; while :; do sleep 1; done";
    let job = submit(
        &http,
        &broker.ready,
        json!({"code": endless, "interpreter": "bash"}),
    )
    .await?;
    follow(&http, &broker.ready, &job, "begun").await?;
    let (code, took) = node.terminate().await?;
    assert!(code == 0 && took < GRACE, "ended with {code} after {took:?}");
    // the job is for another node now
    let status: Value = http
        .get(format!("{}/status/{job}", broker.ready))
        .send()
        .await?
        .json()
        .await?;
    assert_eq!(status["status"], "pending");
    for (name, process) in [("sandrun", executor), ("broker", broker)] {
        let (code, took) = process.terminate().await?;
        assert!(
            code == 0 && took < GRACE,
            "{name} ended with {code} after {took:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn wrong_settings_are_refused_with_words() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    std::fs::write(
        directory.path().join("typo.json"),
        r#"{"brokerurl": "http://localhost:1"}"#,
    )?;
    for (arguments, words) in [
        (["node", "--broker", "localhost:8000"], "http://"),
        (["node", "--config", "typo.json"], "broker_url"),
        (["node", "--capabilities", "{\"cores\": 1}"], "cpu_cores"),
        (["node", "--capabilities", "[]"], "map"),
        (["node", "--max-memory", "0"], "max-memory"),
        (["sandrun", "--max-upload", "0"], "max-upload"),
        (["coordinator", "--name", "two\nlines"], "control characters"),
        (["coordinator", "--name", ""], "1 to 200 bytes"),
        (["node", "--poll-interval", "0"], "poll-interval"),
    ] {
        let output = alone(directory.path(), &arguments).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    Ok(())
}

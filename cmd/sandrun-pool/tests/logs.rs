//! The log's lines of a job's life, in every service that it goes through.

mod support;

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use support::process::Process;
use support::{BIN, ask, said};
use tokio::process::Command;

/// What a client or a program wrote, and keys: none of it belongs into a log.
const SECRETS: [&str; 4] = [
    "in-the-code",
    "in-the-environment",
    "on-its-output",
    "PRIVATE KEY",
];

/// A service whose log goes to a file.
fn logged(directory: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\"", BIN])
        .args(arguments)
        .current_dir(directory)
        .env("LOG", directory.join(format!("{name}.log")))
        .env("SANDRUN_HOME", directory.join("home"))
        .env("SANDRUN_CONFIG", "/dev/null")
        .env("SANDRUN_LOG_FORMAT", "json")
        .env_remove("RUST_LOG");
    command
}

/// Its lines; each has what every line has.
fn lines(directory: &Path, name: &str) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(directory.join(format!("{name}.log")))?;
    for secret in SECRETS {
        anyhow::ensure!(!text.contains(secret), "{name} says {secret}:\n{text}");
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?;
        for field in ["timestamp", "level", "target", "message"] {
            anyhow::ensure!(line[field].is_string(), "{name}, {field}: {line}");
        }
        lines.push(line);
    }
    anyhow::ensure!(!lines.is_empty(), "{name} says nothing");
    Ok(lines)
}

/// Checks that a service has said these about a job, in this order, each with attempt and node.
fn tells(lines: &[Value], job: &str, node: &str, wanted: &[&str]) -> anyhow::Result<()> {
    let about: Vec<&Value> = lines.iter().filter(|it| it["job"] == job).collect();
    let mut rest = wanted.iter().peekable();
    for line in &about {
        if line["message"] != "accepted" {
            let whole = line["attempt"] == json!(1) && line["node"] == node;
            anyhow::ensure!(whole, "no attempt or node: {line}");
        }
        rest.next_if(|it| line["message"] == ***it);
    }
    anyhow::ensure!(
        rest.peek().is_none(),
        "{:?} is missing of {about:#?}",
        rest.collect::<Vec<_>>()
    );
    Ok(())
}

/// Runs a job that writes what must not be logged; its id and its node.
async fn run(base: &str) -> anyhow::Result<(String, String)> {
    let code = "import os\nprint('on-its-' + 'output')  # in-the-code\nos.environ['TOKEN']\n";
    let job = json!({"code": code, "env": {"TOKEN": "in-the-environment"}});
    let http = reqwest::Client::new();
    let answer: Value = http
        .post(format!("{base}/submit"))
        .json(&job)
        .send()
        .await?
        .json()
        .await?;
    let id = answer["job_id"]
        .as_str()
        .with_context(|| answer.to_string())?
        .to_owned();
    let has_ended = |_, view: &Value| view["status"] == "completed" || view["status"] == "failed";
    let view = ask(&format!("{base}/v1/jobs/{id}"), has_ended).await?;
    anyhow::ensure!(view["status"] == "completed", "{view}");
    Ok((id, view["node"].as_str().context("a node")?.to_owned()))
}

async fn end(processes: impl IntoIterator<Item = Process>) -> anyhow::Result<()> {
    for process in processes {
        let (code, _) = process.terminate().await?;
        anyhow::ensure!(code == 0, "ended with {code}");
    }
    Ok(())
}

/// A worker key for the executor in this directory; its id.
async fn worker_key(directory: &Path) -> anyhow::Result<String> {
    // also chooses TLS for the whole process, without which no client can be made
    sandrun_executor::ExecutorClient::new("http://127.0.0.1:1")?;
    let mut command = Command::new(BIN);
    command
        .args(["sandrun", "--generate-key", "worker.pem"])
        .current_dir(directory);
    let made = said(command).await?;
    let id = made.stdout.trim().strip_prefix("Worker ID: ").context("a key")?;
    Ok(id.to_owned())
}

const EXECUTOR: [&str; 6] = [
    "sandrun",
    "--port",
    "0",
    "--no-quota",
    "--worker-key",
    "worker.pem",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_in_the_lines_of_broker_node_and_executor() -> anyhow::Result<()> {
    for verbose in [true, false] {
        let directory = tempfile::tempdir()?;
        worker_key(directory.path()).await?;
        let more: &[&str] = if verbose { &["-v"] } else { &[] };
        let start = |name: &'static str, arguments: &[&str]| {
            Process::start(logged(directory.path(), name, &[arguments, more].concat()))
        };
        let broker = start("broker", &["broker", "--port", "0"]).await?;
        let executor = start("executor", &EXECUTOR).await?;
        let (to, at) = (broker.ready.clone(), executor.ready.clone());
        let node = start("node", &["node", "--broker", &to, "--sandrun", &at]).await?;
        let (job, id) = run(&broker.ready).await?;
        end([node, executor, broker]).await?;

        let [broker, node, executor] =
            ["broker", "node", "executor"].map(|name| lines(directory.path(), name));
        let (broker, node, executor) = (broker?, node?, executor?);
        if verbose {
            tells(
                &broker,
                &job,
                &id,
                &["accepted", "leased", "answered", "completed"],
            )?;
            tells(&node, &job, &id, &["ran", "the broker has the answer"])?;
            tells(&executor, &job, &id, &["queued", "started", "ended"])?;
        } else {
            // what is ordinary is no news
            for line in broker.iter().chain(&node).chain(&executor) {
                anyhow::ensure!(line["job"].is_null(), "{line}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_in_the_lines_of_coordinator_and_executor() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let worker = worker_key(directory.path()).await?;
    let start = |name: &'static str, arguments: &[&str]| {
        Process::start(logged(directory.path(), name, &[arguments, &["-v"]].concat()))
    };
    let executor = start("executor", &EXECUTOR).await?;
    let list = json!([{"worker_id": worker, "endpoint": executor.ready}]);
    std::fs::write(directory.path().join("workers.json"), list.to_string())?;
    let coordinator = ["coordinator", "--port", "0", "--workers", "workers.json"];
    let coordinator = start("coordinator", &coordinator).await?;
    let (job, id) = run(&coordinator.ready).await?;
    end([coordinator, executor]).await?;
    let wanted = [
        "accepted",
        "leased",
        "sent to the worker",
        "the worker has answered",
        "answered",
        "completed",
    ];
    tells(&lines(directory.path(), "coordinator")?, &job, &id, &wanted)?;
    let executor = lines(directory.path(), "executor")?;
    tells(&executor, &job, &id, &["queued", "started", "ended"])
}

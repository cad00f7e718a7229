//! What happens around a broker: its disk is full, nobody reads what it logs, its queue is named by a link.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client_sdk::pool::PoolClient;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::process::Process;
use crate::support::{BIN, said};
use crate::world::command;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client for a broker; the SDK has chosen what TLS is made of, without which there is none.
async fn client(base: &str) -> anyhow::Result<Client> {
    PoolClient::connect(base, None).await?;
    Ok(Client::new())
}

async fn submit(http: &Client, base: &str, code: &str) -> anyhow::Result<(StatusCode, Value)> {
    let request = http.post(format!("{base}/submit")).json(&json!({"code": code}));
    let answer = request.send().await?;
    Ok((answer.status(), answer.json().await?))
}

async fn address(child: &mut Child) -> anyhow::Result<String> {
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
    let line = line.context("it has ended")?;
    Ok(line.strip_prefix("listening on ").context("where")?.to_owned())
}

#[tokio::test]
async fn a_service_goes_on_where_nobody_takes_its_log() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut child = command(directory.path(), &["broker", "--port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let base = address(&mut child).await?;
    drop(child.stderr.take());
    let http = client(&base).await?;
    for name in ["a", "b"] {
        // each is said in the log
        let body = json!({"endpoint": format!("http://{name}")});
        let answer = http.post(format!("{base}/register")).json(&body).send().await?;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(submit(&http, &base, "x").await?.0, StatusCode::OK);
    Ok(())
}

/// A broker whose queue and log lie in a small file system that goes with it.
async fn on_a_small_disk(folder: &std::path::Path) -> anyhow::Result<(Child, String, PathBuf)> {
    let script = "mount -t tmpfs -o size=96m none \"$1\" && cd \"$1\" && \
        exec \"$2\" broker --port 0 --db queue.db 2>log";
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([folder.as_os_str(), BIN.as_ref()])
        .env("SANDRUN_HOME", folder)
        .env("SANDRUN_CONFIG", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let base = address(&mut child).await?;
    let id = child.id().context("a process that runs")?;
    // it became the broker, and its folder is seen through it
    let inside = PathBuf::from(format!("/proc/{id}/cwd"));
    Ok((child, base, inside))
}

fn checks(health: &Value) -> impl Iterator<Item = &Value> {
    health["checks"].as_array().into_iter().flatten()
}

#[tokio::test]
async fn a_full_disk_costs_nothing_that_was_acknowledged_and_room_is_enough_to_go_on() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (child, base, inside) = on_a_small_disk(directory.path()).await?;
    let http = client(&base).await?;
    let ballast = inside.join("ballast");
    std::fs::write(&ballast, vec![1; 32 << 20])?;
    let mut accepted = Vec::new();
    let code = "#".repeat(60_000);
    let started = Instant::now();
    let mut refused = 0;
    while refused < 3 {
        anyhow::ensure!(started.elapsed() < PATIENCE, "it never gets full");
        let (status, answer) = submit(&http, &base, &code).await?;
        match status {
            StatusCode::OK => accepted.push(answer["job_id"].as_str().context("an id")?.to_owned()),
            StatusCode::INSUFFICIENT_STORAGE => refused += 1,
            other => anyhow::bail!("{other}: {answer}"),
        }
    }
    let health = http.get(format!("{base}/health")).send().await?;
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
    let health: Value = health.json().await?;
    let bad: Vec<&Value> = checks(&health).filter(|it| it["ok"] == false).collect();
    assert!(bad.iter().any(|it| it["name"] == "writes"), "{health}");
    assert!(
        bad.iter().any(|it| it["name"] == "disk" && it["do"].is_string()),
        "{health}"
    );
    std::fs::remove_file(&ballast)?;
    let last = loop {
        anyhow::ensure!(started.elapsed() < PATIENCE, "it does not come back");
        let (status, answer) = submit(&http, &base, "x").await?;
        if status == StatusCode::OK {
            break answer["job_id"].as_str().context("an id")?.to_owned();
        }
    };
    accepted.push(last);
    for id in &accepted {
        let status = loop {
            let status = http.get(format!("{base}/status/{id}")).send().await?.status();
            // the tables may still be on their way
            let waits = status == StatusCode::INSUFFICIENT_STORAGE && started.elapsed() < PATIENCE;
            if !waits {
                break status;
            }
        };
        assert_eq!(status, StatusCode::OK, "{id}");
    }
    let health: Value = http.get(format!("{base}/health")).send().await?.json().await?;
    assert_eq!(health["jobs"], accepted.len());
    assert!(
        checks(&health).all(|it| it["ok"] == true || it["name"] == "disk"),
        "{health}"
    );
    drop(child);
    Ok(())
}

#[tokio::test]
async fn a_link_to_a_queue_is_that_queue() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("data"))?;
    std::os::unix::fs::symlink("data/queue.db", path("link.db"))?;
    let arguments = |file: &'static str| ["broker", "--port", "0", "--db", file];
    let broker = Process::start(command(directory.path(), &arguments("data/queue.db"))).await?;
    let http = client(&broker.ready).await?;
    let (_, job) = submit(&http, &broker.ready, "x").await?;
    let second = said(command(directory.path(), &arguments("link.db"))).await?;
    assert!(
        second.code == 2 && second.stderr.contains("another process"),
        "{second:?}"
    );
    broker.kill().await?;
    let broker = Process::start(command(directory.path(), &arguments("link.db"))).await?;
    let id = job["job_id"].as_str().context("an id")?;
    let answer = http.get(format!("{}/status/{id}", broker.ready)).send().await?;
    assert_eq!(answer.status(), StatusCode::OK, "what was acknowledged is there");
    assert!(!path("link.db.lock").exists() && !path("link.db.journal-0").exists());
    Ok(())
}

//! The manager beside the chain: the same answers with it and without it, and an index that survives everything.

mod support;

use std::path::Path;

use anyhow::Context as _;
use sandrun_testnet::Role::Honest;
use serde_json::{Value, json};
use support::process::Process;
use support::{Said, Scene};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const HELLO: &[(&str, &str)] = &[("main.py", "print('hello')\n"), ("job.json", r#"{"timeout": 5}"#)];
const UNREACHABLE: i32 = 3;

/// Posts a job and returns its id at once.
async fn post(scene: &Scene) -> anyhow::Result<String> {
    let code = scene.code("hello", HELLO)?.to_string_lossy().into_owned();
    let said = scene
        .run(&[
            "submit",
            "--json",
            "--detach",
            "--code",
            &code,
            "--payment",
            "0.1",
            "--redundancy",
            "1",
        ])
        .await?;
    Ok(said.json()?["job"].as_str().context("a job")?.to_owned())
}

/// Waits until the job is over; with redundancy 1 nothing is left to be refunded then.
async fn finished(scene: &Scene, job: &str) -> anyhow::Result<()> {
    let closed = |_, it: &Value| it["job"]["facts"]["phase"] == "closed";
    scene.manager(&format!("/v1/jobs/{job}"), closed).await?;
    Ok(())
}

/// Stops the only node's agent.
async fn stop_agent(scene: &mut Scene) {
    if let Some(agent) = scene.market.service("agent1") {
        agent.stop().await;
    }
}

async fn with_pool(scene: &Scene, pool: &str, arguments: &[&str]) -> anyhow::Result<Said> {
    let mut command = scene.command(arguments);
    command.env("SANDRUN_POOL", pool);
    support::said(command).await
}

/// An answer without what changes with every block.
fn timeless(said: &Said) -> anyhow::Result<Value> {
    anyhow::ensure!(said.code == 0, "{said:?}");
    anyhow::ensure!(said.stderr.is_empty(), "{said:?}");
    let mut value = said.json()?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("block");
        fields.remove("now");
        // how many seconds are left is another matter a moment later
        if let Some(Value::String(text)) = fields.get_mut("explanation") {
            text.truncate(text.find("within ").unwrap_or(text.len()));
        }
    }
    Ok(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_a_manager_and_without_it() -> anyhow::Result<()> {
    let mut scene = Scene::with(&[Honest]).await?;
    let done = post(&scene).await?;
    finished(&scene, &done).await?;
    stop_agent(&mut scene).await;
    let waiting = post(&scene).await?;
    scene
        .manager(&format!("/v1/jobs/{waiting}"), |status, _| status == 200)
        .await?;
    let pool = scene.market.pool.clone().context("a manager")?;
    let client = scene.market.client.to_string();
    let queries: [&[&str]; 9] = [
        &["jobs", "--json"],
        &["jobs", "--json", "--open"],
        &["jobs", "--json", "--limit", "1"],
        &["jobs", "--json", "--client", &client],
        &[
            "jobs",
            "--json",
            "--client",
            "0x0000000000000000000000000000000000001234",
        ],
        &["job", &done, "--json"],
        &["job", &waiting[..12], "--json"],
        &["nodes", "--json"],
        &["status", "--json"],
    ];
    for query in queries {
        let from_chain = timeless(&scene.run(query).await?)?;
        let from_manager = timeless(&with_pool(&scene, &pool, query).await?)?;
        assert_eq!(from_chain, from_manager, "{query:?}");
    }
    let open = scene.run(&["jobs", "--json", "--open"]).await?.json()?;
    assert_eq!(
        (&open["jobs"][0]["job"], &open["total"]),
        (&json!(waiting), &json!(2))
    );
    silence_and_strangers(&scene).await?;
    scene.market.stop().await;
    Ok(())
}

/// A manager that is silent is passed over with a remark; one that is not ours is an error.
async fn silence_and_strangers(scene: &Scene) -> anyhow::Result<()> {
    let status = ["status"];
    let plain = scene.run(&status).await?;
    let silent = with_pool(scene, "http://127.0.0.1:1", &status).await?;
    assert_eq!(silent.code, 0, "{silent:?}");
    assert_eq!(
        silent.stdout.lines().skip(1).collect::<Vec<_>>(),
        plain.stdout.lines().skip(1).collect::<Vec<_>>()
    );
    assert_eq!(
        silent.stderr.matches("reading the chain instead").count(),
        1,
        "{silent:?}"
    );

    let (chain, escrow) = (
        scene.market.deployment.chain.0,
        scene.market.deployment.escrow.to_string(),
    );
    let head = json!({
        "block": { "number": 1_000_000, "hash": format!("0x{}", "1".repeat(64)) }, "timestamp": 1, "base_fee": 1
    });
    let view = |escrow: &str, head: &Value| {
        let jobs = json!({ "seats": 70, "run": 7, "reveal": 0, "closed": 1_000 });
        json!({ "chain": chain, "escrow": escrow, "head": head, "jobs": jobs, "nodes": 0 })
    };
    // it is the manager that is asked
    let ours = always(&view(&escrow, &head)).await?;
    let said = with_pool(scene, &ours, &["status", "--json"]).await?.json()?;
    assert_eq!(
        (&said["jobs"], &said["open"]),
        (&json!(1_077), &json!(77)),
        "{said}"
    );

    let starting = always(&view(&escrow, &Value::Null)).await?;
    let said = with_pool(scene, &starting, &status).await?;
    assert!(
        said.code == 0 && said.stderr.contains("has not read the chain yet"),
        "{said:?}"
    );

    let other = always(&view("0x0000000000000000000000000000000000001234", &head)).await?;
    let said = with_pool(scene, &other, &status).await?;
    assert!(
        said.code == UNREACHABLE && said.stderr.contains("serves escrow 0x"),
        "{said:?}"
    );
    assert!(said.stderr.contains("correct --pool"), "{said:?}");

    let said = with_pool(scene, &scene.market.ipfs_api, &status).await?;
    assert!(
        said.code == UNREACHABLE && said.stderr.contains("is no manager"),
        "{said:?}"
    );
    let said = with_pool(scene, "nowhere", &status).await?;
    assert!(
        said.code == 2 && said.stderr.contains("`nowhere` is not a manager's address"),
        "{said:?}"
    );
    Ok(())
}

/// A service that gives one answer to everything.
async fn always(answer: &Value) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let body = answer.to_string();
    let response = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0u8; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    Ok(format!("http://{address}"))
}

/// A manager without a key, so that it does nothing but index.
async fn index(scene: &Scene, folder: &Path) -> anyhow::Result<Process> {
    let folder = folder.to_string_lossy().into_owned();
    let mut command = scene.command(&["pool", "--port", "0", "--data-dir", &folder]);
    command.env_remove("SANDRUN_KEY");
    Process::start(command).await
}

/// Asks a manager until its answer is what is looked for.
async fn ask(manager: &Process, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> anyhow::Result<Value> {
    support::ask(&format!("{}{path}", manager.ready), wanted).await
}

/// Everything that an index holds, once it has come to `block`.
async fn content(manager: &Process, block: u64) -> anyhow::Result<(Value, Value)> {
    let there = |_, it: &Value| {
        it["head"]["block"]["number"]
            .as_u64()
            .is_some_and(|number| number >= block)
    };
    ask(manager, "/v1/status", there).await?;
    let jobs = ask(manager, "/v1/jobs", |_, _| true).await?;
    Ok((jobs, ask(manager, "/v1/nodes", |_, _| true).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_killed_is_as_a_fresh_one() -> anyhow::Result<()> {
    let mut scene = Scene::with(&[Honest]).await?;
    let folder = scene.directory.path().join("index");

    // killed in the middle of a job
    let first = index(&scene, &folder).await?;
    let job = post(&scene).await?;
    ask(&first, &format!("/v1/jobs/{job}"), |status, _| status == 200).await?;
    first.kill().await?;
    finished(&scene, &job).await?;
    let again = index(&scene, &folder).await?;
    let fresh = index(&scene, &scene.directory.path().join("fresh")).await?;
    let head = scene.market.reader().await?.chain().head().await?.block.number;
    let (kept, anew) = (content(&again, head).await?, content(&fresh, head).await?);
    assert_eq!(kept, anew);
    assert_eq!(
        (&kept.0["total"], &kept.0["jobs"][0]["facts"]["phase"]),
        (&json!(1), &json!("closed"))
    );

    // killed, and what it knew is taken back while it is away
    stop_agent(&mut scene).await;
    let gone = post(&scene).await?;
    let seen = ask(&again, &format!("/v1/jobs/{gone}"), |status, _| status == 200).await?;
    again.kill().await?;
    let posted = seen["job"]["posted"]["block"]["number"]
        .as_u64()
        .context("a block")?;
    let head = scene.market.reader().await?.chain().head().await?.block.number;
    scene.market.reorganise(head - posted + 1).await?;
    let again = index(&scene, &folder).await?;
    ask(&again, &format!("/v1/jobs/{gone}"), |status, _| status == 404).await?;
    let fresh = index(&scene, &scene.directory.path().join("fresher")).await?;
    let head = scene.market.reader().await?.chain().head().await?.block.number;
    assert_eq!(content(&again, head).await?, content(&fresh, head).await?);
    scene.market.stop().await;
    Ok(())
}

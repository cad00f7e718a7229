//! The doctor, where something is wrong.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sandrun_chain::anvil::{Anvil, AnvilOptions, Mining};
use serde_json::Value;
use support::{BIN, Said, said};
use tokio::net::TcpListener;
use tokio::process::Command;

/// What the whole may take.
const MOST: Duration = Duration::from_secs(15);

async fn doctor(directory: &Path, arguments: &[&str]) -> anyhow::Result<(Said, Value)> {
    let mut command = Command::new(BIN);
    command
        .args(["doctor", "--json"])
        .args(arguments)
        .current_dir(directory)
        .env("SANDRUN_HOME", directory.join("home"))
        .env("SANDRUN_CONFIG", "/dev/null");
    for name in [
        "RPC",
        "IPFS_API",
        "URL",
        "TO",
        "POOL",
        "KEY",
        "WORKER_KEY",
        "DEPLOYMENTS",
    ] {
        command.env_remove(format!("SANDRUN_{name}"));
    }
    command.env_remove("BROKER_URL");
    let said = said(command).await?;
    let diagnosis = said.json()?;
    Ok((said, diagnosis))
}

/// The finding about something.
fn finding<'a>(diagnosis: &'a Value, what: &str) -> anyhow::Result<&'a Value> {
    let all = diagnosis["findings"].as_array().context("findings")?;
    let found = all.iter().find(|it| it["what"] == what);
    found.with_context(|| format!("no {what}: {diagnosis:#}"))
}

/// It failed, with these words, and says what to do.
fn fails(diagnosis: &Value, what: &str, words: &str) -> anyhow::Result<()> {
    let found = finding(diagnosis, what)?;
    let seen = found["seen"].as_str().unwrap_or_default();
    let fits = found["level"] == "fail" && seen.contains(words) && found["do"].is_string();
    anyhow::ensure!(fits, "{what}: {found}");
    Ok(())
}

/// It was not looked at, for a reason that is another finding.
fn skips(diagnosis: &Value, what: &str) -> anyhow::Result<()> {
    let found = finding(diagnosis, what)?;
    let seen = found["seen"].as_str().unwrap_or_default();
    let fits = found["level"] == "skip" && seen.starts_with("not checked: ") && found["do"].is_null();
    anyhow::ensure!(fits, "{what}: {found}");
    Ok(())
}

fn anvil() -> AnvilOptions {
    AnvilOptions {
        mining: Mining::Auto,
        ..AnvilOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_is_one_finding() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("open.key");
    std::fs::write(&key, "11".repeat(32))?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    let chain = Anvil::start(&anvil()).await?;
    let rpc = chain.url().to_owned();
    let nobody = "http://127.0.0.1:9";
    let gone = folder.path().join("gone");
    let key = key.to_string_lossy().into_owned();
    let more = [
        "--no-isolation",
        "--blockchain-rpc",
        &rpc,
        "--chain-id",
        "1",
        "--key",
        &key,
        "--worker-key",
        "no.pem",
        "--ipfs-api",
        nobody,
        "--sandrun-url",
        nobody,
        "--to",
        "http://127.0.0.1:10",
        "--data-dir",
        &gone.to_string_lossy(),
    ];
    let (ended, found) = doctor(folder.path(), &more).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    fails(&found, "chain", "31337")?;
    fails(&found, "key", "0644")?;
    fails(&found, "worker key", "no.pem")?;
    fails(&found, "content store", "127.0.0.1:9")?;
    fails(&found, "executor", "127.0.0.1:9")?;
    fails(&found, "service", "")?;
    fails(&found, &format!("disk of {}", gone.display()), "")?;
    assert_eq!(finding(&found, "clock, steadiness")?["level"], "ok");
    assert!(found["left_out"].to_string().contains("websocket"), "{found}");
    // what depends on one of them is not one more fault
    for what in ["contracts", "executor's key", "content store, a block"] {
        skips(&found, what)?;
    }
    // nothing was made
    assert!(!gone.exists() && !folder.path().join("home").exists());

    // the right chain has none of our contracts, and one that has ended does not answer
    let (_, found) = doctor(folder.path(), &["--no-isolation", "--blockchain-rpc", &rpc]).await?;
    assert_eq!(finding(&found, "chain")?["level"], "ok", "{found}");
    assert_eq!(finding(&found, "contracts")?["level"], "fail", "{found}");
    chain.stop().await;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    let more = ["--no-isolation", "--blockchain-rpc", &rpc, "--key", &key];
    let (ended, found) = doctor(folder.path(), &more).await?;
    assert_eq!(ended.code, 1);
    assert_eq!(found["failed"], 1, "{found:#}");
    skips(&found, "contracts")?;
    skips(&found, "key, coin")?;
    fails(&found, "chain", "cannot reach")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_service_or_folder_is_one_finding_however_it_is_written() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let nobody = "http://127.0.0.1:9";
    let more = [
        "--no-isolation",
        "--sandrun-url",
        nobody,
        "--to",
        "http://127.0.0.1:9/",
        "--broker",
        " http://127.0.0.1:9 ",
        "--data-dir",
        "data",
        "--data-dir",
        "./data",
        "--worker-key",
        "no.pem",
    ];
    let (ended, found) = doctor(folder.path(), &more).await?;
    assert_eq!(ended.code, 1);
    fails(&found, "executor", "127.0.0.1:9")?;
    fails(&found, "worker key", "no.pem")?;
    assert_eq!(found["failed"], 2, "{found:#}");
    let all = found["findings"].as_array().context("findings")?;
    let disks = all.iter().filter(|it| {
        let what = it["what"].as_str().unwrap_or_default();
        what.starts_with("disk") && !what.ends_with("writing")
    });
    assert_eq!(disks.count(), 1, "{found:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_hang_are_given_up_in_time() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // connections are taken and nothing is said
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", silent.local_addr()?);
    let socket = format!("ws://{}", silent.local_addr()?);
    let service = format!("{url}/service");
    let more = [
        "--no-isolation",
        "--blockchain-rpc",
        &url,
        "--websocket",
        &socket,
        "--ipfs-api",
        &url,
        "--sandrun-url",
        &url,
        "--pool",
        &url,
        "--to",
        &service,
    ];
    let began = Instant::now();
    let (ended, found) = doctor(folder.path(), &more).await?;
    assert!(began.elapsed() < MOST, "{:?}", began.elapsed());
    assert_eq!(ended.code, 1, "{found:#}");
    for what in ["chain", "websocket", "content store", "executor", "service"] {
        assert_eq!(finding(&found, what)?["level"], "fail", "{found:#}");
    }
    assert_eq!(finding(&found, "manager")?["level"], "warn");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_nothing_configured_is_looked_at_itself() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let (ended, found) = doctor(folder.path(), &["--data-dir", &data.to_string_lossy()]).await?;
    assert_eq!(ended.code, 0, "{found:#}");
    for layer in ["user", "seccomp", "pivot_root", "memory", "classes"] {
        finding(&found, &format!("isolation, {layer}"))?;
    }
    assert_eq!(
        finding(&found, &format!("disk of {}, writing", data.display()))?["level"],
        "ok",
        "{found:#}"
    );
    assert_eq!(std::fs::read_dir(&data)?.count(), 0);
    let left_out = found["left_out"].as_array().context("a list")?;
    assert_eq!(left_out.len(), 7, "{found:#}");
    Ok(())
}

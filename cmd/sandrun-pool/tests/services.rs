//! How services start, speak and end, and what every command has.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandrun_testnet::Role::Honest;
use serde_json::Value;
use support::process::{GRACE, Process};
use support::{BIN, Said, Scene, said};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A command in a directory of its own, without a market.
fn alone(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command
        .args(arguments)
        .current_dir(directory)
        .env("SANDRUN_HOME", directory.join("home"))
        .env("SANDRUN_CONFIG", "/dev/null");
    command
}

async fn run(directory: &Path, arguments: &[&str]) -> anyhow::Result<Said> {
    said(alone(directory, arguments)).await
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

/// A client that has begun a request and says no more.
async fn hold(url: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
        .await?;
    Ok(stream)
}

/// Ends a service that clients hold on to.
async fn ends_in_time(name: &str, process: Process) -> anyhow::Result<()> {
    let mut held = Vec::new();
    if process.ready.starts_with("http://") {
        held.push(hold(&process.ready).await?);
        // and one that has asked and keeps its connection
        let client = reqwest::Client::new();
        let _ = client.get(&process.ready).send().await?;
    }
    let (code, took) = process.terminate().await.context(name.to_owned())?;
    assert!(
        code == 0 && took < GRACE,
        "{name} ended with {code} after {took:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn services_end_within_the_grace_whoever_holds_on_to_them() -> anyhow::Result<()> {
    let mut scene = Scene::with(&[Honest]).await?;
    piped_output_is_quiet(&scene).await?;
    // an executor and an agent of our own, in the middle of a job
    if let Some(agent) = scene.market.service("agent1") {
        agent.stop().await;
    }
    let key = scene.market.nodes[0].key.to_string_lossy().into_owned();
    let made = scene.run(&["sandrun", "--generate-key", "worker.pem"]).await?;
    assert_eq!(made.code, 0, "{made:?}");
    let start = |arguments: &[&str]| Process::start(scene.command(arguments));
    let executor = start(&[
        "sandrun",
        "--port",
        "0",
        "--no-quota",
        "--worker-key",
        "worker.pem",
    ])
    .await?;
    let url = executor.ready.clone();
    let agent = start(&["agent", "--key", &key, "--stake", "10", "--sandrun-url", &url]).await?;
    let pool = start(&["pool", "--port", "0"]).await?;
    let content = start(&["content", "--port", "0"]).await?;
    let slow = [
        ("main.py", "import time\ntime.sleep(25)\n"),
        // real time passes in this class alone
        ("job.json", r#"{"timeout": 60, "class": "native"}"#),
    ];
    let code = scene.code("slow", &slow)?.to_string_lossy().into_owned();
    let post = [
        "submit",
        "--json",
        "--detach",
        "--code",
        &code,
        "--payment",
        "0.1",
        "--redundancy",
        "1",
    ];
    let posted = scene.run(&post).await?;
    assert_eq!(posted.code, 0, "{posted:?}");
    support::ask(&format!("{url}/stats"), |_, it| it["system"]["active_jobs"] == 1).await?;
    for (name, process) in [
        ("agent", agent),
        ("sandrun", executor),
        ("pool", pool),
        ("content", content),
    ] {
        ends_in_time(name, process).await?;
    }
    scene.market.stop().await;
    Ok(())
}

/// Nothing but the job's id and the result, when nobody watches.
async fn piped_output_is_quiet(scene: &Scene) -> anyhow::Result<()> {
    let code = scene
        .code("hello", &[("main.py", "print(1)\n")])?
        .to_string_lossy()
        .into_owned();
    let submit = ["submit", "--code", &code, "--payment", "0.1", "--redundancy", "1"];
    let said = scene.run(&submit).await?;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with("job        0x"), "{said:?}");
    // who kills it now still knows what to ask for
    let lines: Vec<&str> = said.stderr.lines().collect();
    assert!(
        matches!(lines[..], [line] if line.starts_with("posted 0x")),
        "{said:?}"
    );
    let quiet = scene.run(&[&submit[..], &["--quiet"]].concat()).await?;
    assert_eq!(
        (quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()),
        (0, "", ""),
        "{quiet:?}"
    );
    Ok(())
}

/// A test network in a process of its own, all of whose processes carry a mark.
struct Network {
    child: Child,
    mark: String,
    directory: tempfile::TempDir,
}

impl Network {
    async fn start(nodes: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mark = format!("TESTNET_MARK={}", directory.path().display());
        let arguments = ["testnet", "--free-ports", "--nodes", nodes];
        let mut child = alone(directory.path(), &arguments)
            .env("TESTNET_MARK", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let ready = async {
            let mut said = String::new();
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("Ctrl-C ends everything") {
                    return Ok(said);
                }
                said += &format!("{line}\n");
            }
            anyhow::bail!("the network did not start: {said}")
        };
        let said = tokio::time::timeout(Duration::from_secs(90), ready)
            .await
            .context("not ready in time")??;
        for hint in [
            "export SANDRUN_KEY=",
            "SANDRUN_RPC=",
            "SANDRUN_POOL=",
            "sandrun-pool submit",
        ] {
            anyhow::ensure!(said.contains(hint), "{hint} is not in: {said}");
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            child,
            mark,
            directory,
        })
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id().context("a process that runs")?)?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }

    /// Command lines of the processes that carry the mark.
    fn processes(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for item in std::fs::read_dir("/proc")? {
            let path = item?.path();
            // most are not ours to read, some have just ended
            let environment = std::fs::read(path.join("environ")).unwrap_or_default();
            if environment
                .split(|byte| *byte == 0)
                .any(|it| it == self.mark.as_bytes())
            {
                let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
                found.push(String::from_utf8_lossy(&line).replace('\0', " "));
            }
        }
        Ok(found)
    }

    /// Waits until none is left.
    async fn is_gone(&self, within: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            anyhow::ensure!(started.elapsed() < within, "left after {within:?}: {left:#?}");
        }
    }

    /// Ends it by a signal that it hears.
    async fn ends_by(mut self, signal: Signal) -> anyhow::Result<()> {
        let started = Instant::now();
        self.signal(signal)?;
        let status = tokio::time::timeout(2 * GRACE, self.child.wait())
            .await
            .context("it does not end")??;
        assert!(
            status.success() && started.elapsed() < GRACE,
            "{signal}: {status} after {:?}",
            started.elapsed()
        );
        assert_eq!(self.processes()?, Vec::<String>::new());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_testnet_leaves_no_process_behind() -> anyhow::Result<()> {
    let whole = async { Network::start("1").await?.ends_by(Signal::SIGINT).await };
    let bare = async { Network::start("0").await?.ends_by(Signal::SIGTERM).await };
    let killed = async {
        let network = Network::start("1").await?;
        // anvil, content, manager, executor, agent, each with its tether
        anyhow::ensure!(network.processes()?.len() > 10, "{:?}", network.processes()?);
        network.signal(Signal::SIGKILL)?;
        network.is_gone(GRACE + Duration::from_secs(5)).await?;
        assert!(network.directory.path().join("home/testnet/client.key").is_file());
        anyhow::Ok(())
    };
    tokio::try_join!(whole, bare, killed)?;
    Ok(())
}

#[tokio::test]
async fn every_command_has_an_example() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let help = run(directory.path(), &["--help"]).await?;
    assert!(
        help.code == 0 && help.stdout.contains("Exit codes:") && help.stderr.is_empty(),
        "{help:?}"
    );
    let list = help.stdout.split("Commands:").nth(1).context("commands")?;
    let names: Vec<&str> = list
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        // a long description goes on in a line of its own
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(
        names.len() >= 19 && names.contains(&"submit") && !names.contains(&"__tether"),
        "{names:?}"
    );
    for name in names {
        let help = run(directory.path(), &[name, "--help"]).await?;
        assert!(
            help.code == 0 && help.stdout.contains("Example"),
            "{name}: {help:?}"
        );
        assert!(
            help.stdout.contains(&format!("sandrun-pool {name}")),
            "{name}: {help:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn completions_are_scripts() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(directory.path(), &["completions", shell]).await?;
        assert!(
            said.code == 0 && said.stdout.contains("redundancy") && said.stderr.is_empty(),
            "{shell}"
        );
        if shell == "bash" {
            std::fs::write(directory.path().join("script"), said.stdout)?;
            let checked = Command::new("bash")
                .args(["-n", "script"])
                .current_dir(directory.path())
                .status()
                .await?;
            assert!(checked.success());
        }
    }
    // a reader that has seen enough is no failure
    let mut child = alone(directory.path(), &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let ended = child.wait_with_output().await?;
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn keys_are_private_and_never_overwritten() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("new.key");
    let made = run(directory.path(), &["keys", "new", "new.key"]).await?;
    assert!(
        made.code == 0 && made.stdout.starts_with("0x") && made.stderr.is_empty(),
        "{made:?}"
    );
    let secret = std::fs::read_to_string(&file)?;
    assert_eq!(mode(&file)?, 0o600);
    assert!(
        !made.stdout.contains(secret.trim()) && secret.trim().len() == 66,
        "{made:?}"
    );
    let again = run(directory.path(), &["keys", "new", "new.key"]).await?;
    assert_eq!(
        (again.code, std::fs::read_to_string(&file)?),
        (2, secret),
        "{again:?}"
    );
    let shown = run(directory.path(), &["keys", "show", "new.key", "--json"]).await?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    let address = shown["address"].as_str().context("an address")?;
    assert!(address.eq_ignore_ascii_case(made.stdout.trim()), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_worker_key_is_made_with_its_id_on_standard_output() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let made = run(directory.path(), &["sandrun", "--generate-key", "worker.pem"]).await?;
    assert_eq!(made.code, 0, "{made:?}");
    let id = made.stdout.strip_prefix("Worker ID: ").context("an id")?.trim();
    assert!(!id.is_empty() && made.stdout.lines().count() == 1, "{made:?}");
    assert_eq!(made.stderr, "Saved worker key to: worker.pem\n");
    assert_eq!(mode(&directory.path().join("worker.pem"))?, 0o600);
    let again = run(directory.path(), &["sandrun", "--generate-key", "worker.pem"]).await?;
    assert!(again.code == 2 && again.stdout.is_empty(), "{again:?}");
    Ok(())
}

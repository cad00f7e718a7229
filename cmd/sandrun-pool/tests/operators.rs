//! What operators of a market see: metrics and health of each service, the log's lines of a job, and the doctor.

mod support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::Context as _;
use sandrun_testnet::Role::Honest;
use serde_json::{Value, json};
use support::process::Process;
use support::{Scene, ask};

/// A port that nobody listens on.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn metrics(base: &str) -> anyhow::Result<String> {
    let answer = reqwest::get(format!("{base}/metrics")).await?;
    anyhow::ensure!(answer.status() == 200, "{base}: {}", answer.status());
    Ok(answer.text().await?)
}

/// Reads a service's metrics until a line is among them.
async fn until(base: &str, line: &str) -> anyhow::Result<String> {
    let read = async {
        loop {
            let text = metrics(base).await?;
            if text.lines().any(|it| it == line) {
                return anyhow::Ok(text);
            }
        }
    };
    match tokio::time::timeout(std::time::Duration::from_secs(60), read).await {
        Ok(text) => text,
        Err(_) => anyhow::bail!("{base} never said {line}:\n{}", metrics(base).await?),
    }
}

fn value(text: &str, series: &str) -> anyhow::Result<f64> {
    let line = text.lines().find_map(|it| it.strip_prefix(series));
    let line = line.with_context(|| format!("no {series} in\n{text}"))?;
    Ok(line.trim().parse()?)
}

/// Names of metrics in a query.
fn names(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
        .filter(|it| it.starts_with("sandrun_") || it.starts_with("process_"))
}

fn queries(panel: &Value, found: &mut Vec<String>) {
    for target in panel["targets"].as_array().into_iter().flatten() {
        found.extend(target["expr"].as_str().map(str::to_owned));
    }
    for inner in panel["panels"].as_array().into_iter().flatten() {
        queries(inner, found);
    }
}

/// The market's dashboard and the services speak of the same metrics.
fn dashboard_fits(all: &str) -> anyhow::Result<()> {
    let dashboard: Value = serde_json::from_str(include_str!("../../../deploy/grafana/sandrun-market.json"))?;
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    anyhow::ensure!(found.len() > 20, "{found:?}");
    let shown: BTreeSet<&str> = found.iter().flat_map(|it| names(it)).collect();
    let heads: BTreeSet<&str> = all
        .lines()
        .filter_map(|it| it.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    let alerts = include_str!("../../../deploy/prometheus/alerts-market.yml");
    for name in shown.iter().copied().chain(names(alerts)) {
        let ends = ["", "_bucket", "_sum", "_count"];
        let is_there = ends
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .any(|it| heads.contains(it));
        anyhow::ensure!(is_there, "the dashboard shows {name}, which no service has");
    }
    for name in heads {
        let is_shown = shown.iter().any(|it| it.starts_with(name));
        anyhow::ensure!(is_shown, "no panel shows {name}");
    }
    Ok(())
}

/// Lines of a JSON log.
fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let parse = |line: &str| serde_json::from_str(line).with_context(|| line.to_owned());
    text.lines().map(parse).collect()
}

/// Every line about the job names it; those of its seat the seat, those of its run the attempt.
fn tells(lines: &[Value], job: &str, wanted: &[(&str, &[&str])]) -> anyhow::Result<()> {
    let about: Vec<&Value> = lines.iter().filter(|it| it["job"] == job).collect();
    for (message, fields) in wanted {
        let line = about
            .iter()
            .find(|it| it["message"] == **message)
            .with_context(|| format!("no {message} among {about:#?}"))?;
        for field in *fields {
            let fits = match *field {
                "seat" => line["seat"] == "1/first",
                "attempt" => line["attempt"] == json!(1),
                other => !line[other].is_null(),
            };
            anyhow::ensure!(fits, "{field} of {line}");
        }
    }
    // nothing about it hides in words alone
    for line in lines.iter().filter(|it| it["job"].is_null()) {
        anyhow::ensure!(!line["message"].to_string().contains(job), "{line}");
    }
    Ok(())
}

/// The lines of the node's agent and executor.
fn logs_tell(folder: &Path, job: &str) -> anyhow::Result<()> {
    let seat = ["seat"].as_slice();
    let run = ["seat", "attempt"].as_slice();
    let wanted = [
        ("seat", [].as_slice()),
        ("mined", seat),
        ("submitted to the executor", run),
        ("ran", run),
        ("our seat is finished", run),
    ];
    tells(&lines(&folder.join("agent.log"))?, job, &wanted)?;
    let run = ["seat", "attempt", "run", "node"].as_slice();
    let wanted = [("queued", run), ("started", run), ("ended", run)];
    tells(&lines(&folder.join("executor.log"))?, job, &wanted)
}

/// The node's own executor and agent in place of the market's: they log JSON to files.
async fn own_node(scene: &Scene, port: u16) -> anyhow::Result<(Process, Process)> {
    let key = scene.market.nodes[0].key.to_string_lossy().into_owned();
    let made = scene.run(&["sandrun", "--generate-key", "worker.pem"]).await?;
    anyhow::ensure!(made.code == 0, "{made:?}");
    let logged = |name: &str, arguments: &[&str]| {
        let mut command = scene.command(&[]);
        let mut shell = tokio::process::Command::new("sh");
        shell
            .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\"", support::BIN])
            .args(arguments)
            .current_dir(scene.directory.path())
            .env("LOG", scene.directory.path().join(format!("{name}.log")))
            .env("SANDRUN_LOG_FORMAT", "json")
            .env_remove("RUST_LOG");
        for (name, value) in command.as_std_mut().get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
    };
    let executor = [
        "sandrun",
        "--port",
        "0",
        "--no-quota",
        "--worker-key",
        "worker.pem",
        "-v",
    ];
    let executor = Process::start(logged("executor", &executor)).await?;
    let (url, port) = (executor.ready.clone(), port.to_string());
    let agent = [
        "agent",
        "--key",
        &key,
        "--stake",
        "10",
        "--sandrun-url",
        &url,
        "--metrics-port",
        &port,
    ];
    let agent = Process::start(logged("agent", &agent)).await?;
    Ok((executor, agent))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_seen_in_metrics_health_and_logs_of_every_service() -> anyhow::Result<()> {
    let mut scene = Scene::with(&[Honest]).await?;
    if let Some(agent) = scene.market.service("agent1") {
        agent.stop().await;
    }
    let port = free_port()?;
    let (executor, agent) = own_node(&scene, port).await?;
    let at = format!("http://127.0.0.1:{port}");
    ask(&format!("{at}/health"), |status, body| {
        status == 200 && body["status"] == "ready"
    })
    .await?;
    let code = scene.code("hello", &[("main.py", "print('seen')\n")])?;
    let said = scene.submit(&code, 1, &[]).await?;
    anyhow::ensure!(said.code == 0, "{said:?}");
    let job = said.json()?["job"].as_str().context("a job")?.to_owned();

    let of_agent = until(&at, "sandrun_seats_finished_total{end=\"paid\"} 1").await?;
    anyhow::ensure!(
        value(&of_agent, "sandrun_runs_total{class=\"det\",outcome=\"result\"}").unwrap_or(0.0)
            + value(
                &of_agent,
                "sandrun_runs_total{class=\"det-soft\",outcome=\"result\"}"
            )
            .unwrap_or(0.0)
            == 1.0,
        "{of_agent}"
    );
    // claim, commit and reveal, and perhaps a poke
    anyhow::ensure!(value(&of_agent, "sandrun_transactions_ended_total{outcome=\"mined\"}")? >= 3.0);
    anyhow::ensure!(value(&of_agent, "sandrun_gas_used_total")? > 100_000.0);
    anyhow::ensure!(value(&of_agent, "sandrun_gas_fees_coins_total")? > 0.0);
    anyhow::ensure!(value(&of_agent, "sandrun_seats_paid_coins_total")? > 0.0);
    anyhow::ensure!(value(&of_agent, "sandrun_stake_coins{state=\"free\"}")? > 1.0);
    let of_executor = metrics(&executor.ready).await?;
    anyhow::ensure!(
        of_executor.contains("sandrun_jobs{status=\"running\"} 0\n"),
        "{of_executor}"
    );
    let of_store = metrics(&scene.market.ipfs_api).await?;
    anyhow::ensure!(of_store.contains("sandrun_ready 1\n"), "{of_store}");
    let pool = scene.market.pool.clone().context("a manager")?;
    let of_manager = until(&pool, "sandrun_market_jobs{phase=\"closed\"} 1").await?;
    anyhow::ensure!(of_manager.contains("sandrun_market_nodes 1\n"), "{of_manager}");
    let health = scene.manager("/health", |status, _| status == 200).await?;
    anyhow::ensure!(
        health["status"] == "healthy" && health["checks"].is_array(),
        "{health}"
    );
    let of_node = brokers_node(&scene, &executor.ready).await?;
    dashboard_fits(&[of_agent, of_executor, of_store, of_manager, of_node].concat())?;
    well(&scene, &executor.ready).await?;

    for process in [agent, executor] {
        let (code, _) = process.terminate().await?;
        anyhow::ensure!(code == 0, "ended with {code}");
    }
    logs_tell(scene.directory.path(), &job)?;
    scene.market.stop().await;
    Ok(())
}

/// What a broker's node says when it is ready.
async fn brokers_node(scene: &Scene, executor: &str) -> anyhow::Result<String> {
    let broker = Process::start(scene.command(&["broker", "--port", "0"])).await?;
    let port = free_port()?.to_string();
    let to = broker.ready.clone();
    let arguments = [
        "node",
        "--broker",
        &to,
        "--sandrun",
        executor,
        "--metrics-port",
        &port,
    ];
    let node = Process::start(scene.command(&arguments)).await?;
    let at = format!("http://127.0.0.1:{port}");
    let is_ready = |status, body: &Value| status == 200 && body["status"] == "ready";
    ask(&format!("{at}/health"), is_ready).await?;
    let said = metrics(&at).await?;
    for process in [node, broker] {
        let (code, _) = process.terminate().await?;
        anyhow::ensure!(code == 0, "ended with {code}");
    }
    Ok(said)
}

/// The doctor finds nothing wrong with a market that works.
async fn well(scene: &Scene, executor: &str) -> anyhow::Result<()> {
    let pool = scene.market.pool.clone().context("a manager")?;
    let more = ["--sandrun-url", executor, "--pool", &pool, "--chain-id", "31337"];
    let said = scene.run(&[&["doctor", "--json"], &more[..]].concat()).await?;
    let diagnosis = said.json()?;
    anyhow::ensure!(said.code == 0 && diagnosis["failed"] == 0, "{diagnosis:#}");
    for what in [
        "chain",
        "chain head",
        "contracts",
        "content store",
        "content store, a block",
        "executor",
        "manager",
        "key",
        "key, coin",
        "clock, against the executor",
        "isolation, seccomp",
    ] {
        let found = diagnosis["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|it| it["what"] == what && it["level"] == "ok");
        anyhow::ensure!(found, "no {what}: {diagnosis:#}");
    }
    anyhow::ensure!(
        diagnosis["left_out"].to_string().contains("broker"),
        "{diagnosis}"
    );
    Ok(())
}

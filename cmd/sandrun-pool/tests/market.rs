//! The whole way on a real chain, with real executors and the released commands.

mod support;

use anyhow::Context as _;
use sandrun_testnet::Role::{Honest, Liar, Silent};
use serde_json::Value;
use support::Scene;

const HELLO: &[(&str, &str)] = &[
    ("main.py", "print('hello')\nopen('out.txt', 'w').write('42')\n"),
    ("job.json", r#"{"timeout": 5}"#),
];

fn ends(finished: &Value) -> Vec<&str> {
    let seats = finished["payments"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    seats.iter().filter_map(|seat| seat["end"].as_str()).collect()
}

fn count(finished: &Value, end: &str) -> usize {
    ends(finished).into_iter().filter(|it| *it == end).count()
}

/// The result's file of this name, as it was downloaded.
fn file(finished: &Value, name: &str, scene: &Scene) -> anyhow::Result<String> {
    let directory = finished["result"]["directory"].as_str().unwrap_or_default();
    Ok(std::fs::read_to_string(
        scene.directory.path().join(directory).join(name),
    )?)
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_nodes_are_paid_at_every_redundancy() -> anyhow::Result<()> {
    let scene = Scene::with(&[Honest, Honest, Honest]).await?;
    let code = scene.code("hello", HELLO)?;
    for redundancy in [1, 2, 3] {
        let said = scene.submit(&code, redundancy, &[]).await?;
        assert_eq!(said.code, 0, "{said:?}");
        let finished = said.json()?;
        assert_eq!(finished["outcome"], "Digest");
        assert_eq!(count(&finished, "Paid"), usize::from(redundancy), "{finished}");
        assert_eq!(file(&finished, "outputs/out.txt", &scene)?, "42");
        assert_eq!(file(&finished, "stdout", &scene)?, "hello\n");
        // 2-of-2 locks one price more, which comes back
        let back = if redundancy == 2 { "0.1" } else { "0" };
        assert_eq!(finished["refunded"], back, "{finished}");
    }
    failing_program_is_agreed_on_and_paid(&scene).await?;
    erc20_pays(&scene).await?;
    queries_answer(&scene).await?;
    scene.market.stop().await;
    Ok(())
}

/// Programs that post with one key at one moment take each other's nonces; each of them posts its job all the same, once.
#[tokio::test(flavor = "multi_thread")]
async fn many_that_submit_at_once_with_one_key_post_a_job_each() -> anyhow::Result<()> {
    const AT_ONCE: usize = 24;
    let scene = Scene::with(&[Honest]).await?;
    let code = scene.code("hello", HELLO)?;
    let before = scene.client_coins().await?;
    let posts = (0..AT_ONCE).map(|_| scene.submit(&code, 1, &["--detach"]));
    let mut jobs = std::collections::BTreeSet::new();
    for said in futures::future::join_all(posts).await {
        let said = said?;
        assert_eq!(said.code, 0, "{said:?}");
        jobs.insert(said.json()?["job"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(jobs.len(), AT_ONCE);
    let spent = before
        .checked_sub(scene.client_coins().await?)
        .context("it got more")?;
    let locked = sandrun_types::Amount::from_gwei(300_000_000).0 * sandrun_types::U256::from(AT_ONCE);
    let with_gas = locked + sandrun_types::Amount::from_gwei(100_000_000).0;
    assert!(
        (locked..with_gas).contains(&spent.0),
        "{spent} for {AT_ONCE} jobs"
    );
    scene.market.stop().await;
    Ok(())
}

async fn failing_program_is_agreed_on_and_paid(scene: &Scene) -> anyhow::Result<()> {
    let code = scene.code(
        "fail",
        &[
            ("run.sh", "echo no >&2; exit 3\n"),
            ("job.json", r#"{"timeout": 5}"#),
        ],
    )?;
    let said = scene.submit(&code, 3, &[]).await?;
    assert_eq!(said.code, 5, "{said:?}");
    let finished = said.json()?;
    assert_eq!(finished["result"]["exit"]["code"], 3, "{finished}");
    assert_eq!(count(&finished, "Paid"), 3);
    assert_eq!(file(&finished, "stderr", scene)?, "no\n");
    Ok(())
}

async fn erc20_pays(scene: &Scene) -> anyhow::Result<()> {
    let code = scene.code("token", HELLO)?;
    let said = scene.submit(&code, 3, &["--token", "TEST"]).await?;
    assert_eq!(said.code, 0, "{said:?}");
    let finished = said.json()?;
    let paid: Vec<&str> = finished["payments"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|seat| seat["paid"].as_str())
        .collect();
    assert_eq!(paid, ["0.1", "0.1", "0.1"]);
    Ok(())
}

async fn queries_answer(scene: &Scene) -> anyhow::Result<()> {
    let jobs = scene.run(&["jobs", "--json"]).await?.json()?;
    assert_eq!(jobs["total"], 5, "{jobs}");
    let job = jobs["jobs"][0]["job"].as_str().unwrap_or_default().to_owned();
    let shown = scene.run(&["job", &job[..10], "--json"]).await?.json()?;
    assert_eq!(shown["facts"]["job"], job.as_str());
    let why = scene.run(&["job", &job, "--why"]).await?;
    assert!(why.stdout.contains("waits for nothing"), "{why:?}");
    let fetched = scene
        .run(&["fetch", &job[..10], "--json", "--out", "fetched"])
        .await?;
    assert_eq!(fetched.code, 0, "{fetched:?}");
    assert_eq!(file(&fetched.json()?, "stdout", scene)?, "hello\n");
    let nodes = scene.run(&["nodes", "--json"]).await?.json()?;
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(3));
    let status = scene.run(&["status", "--json"]).await?.json()?;
    assert_eq!(
        (&status["jobs"], &status["open"]),
        (&5.into(), &0.into()),
        "{status}"
    );
    let key = scene.market.nodes[0].key.to_string_lossy().into_owned();
    let earned = scene.run(&["earnings", "--json", "--key", &key]).await?;
    assert_eq!(earned.code, 0, "{earned:?}");
    let stake = scene
        .run(&["stake", "show", "--key", &key, "--json"])
        .await?
        .json()?;
    assert_eq!(
        (&stake["stake"], &stake["locked"]),
        (&"10".into(), &"0".into()),
        "{stake}"
    );
    let over = scene.run(&["cancel", &job]).await?;
    assert_eq!(over.code, 4, "{over:?}");
    assert!(over.stderr.contains("is over (agreed result)"), "{over:?}");
    let quote = scene
        .run(&["quote", "--json", "--code", "hello", "--redundancy", "2"])
        .await?;
    assert_eq!(quote.code, 0, "{quote:?}");
    let index = scene.manager("/v1/jobs", |_, it| it["total"] == 5).await?;
    assert_eq!(index["jobs"][0]["facts"]["job"], job.as_str());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_when_its_submit_is_ended_and_is_fetched_later() -> anyhow::Result<()> {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
    let scene = Scene::with(&[Honest]).await?;
    scene.code("hello", HELLO)?;
    let arguments = [
        "submit",
        "--json",
        "--code",
        "hello",
        "--payment",
        "0.1",
        "--redundancy",
        "1",
    ];
    let mut command = scene.command(&arguments);
    let mut submit = command.stderr(std::process::Stdio::piped()).spawn()?;
    let mut lines = tokio::io::BufReader::new(submit.stderr.take().context("standard error")?);
    let mut line = String::new();
    lines.read_line(&mut line).await?;
    let posted: Value = serde_json::from_str(&line)?;
    let job = posted["posted"].as_str().context("an id")?.to_owned();
    let pid = i32::try_from(submit.id().context("a process")?)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    assert_eq!(submit.wait().await?.code(), Some(143));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).await?;
    assert!(rest.contains("goes on; see `sandrun-pool job"), "{rest}");
    scene
        .manager(&format!("/v1/jobs/{job}"), |_, it| {
            it["job"]["facts"]["phase"] == "closed"
        })
        .await?;
    let fetched = scene.run(&["fetch", &job, "--json"]).await?;
    assert_eq!(fetched.code, 0, "{fetched:?}");
    assert_eq!(file(&fetched.json()?, "stdout", &scene)?, "hello\n");
    scene.market.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_loses_its_bond() -> anyhow::Result<()> {
    let scene = Scene::with(&[Honest, Honest, Liar]).await?;
    let code = scene.code("hello", HELLO)?;
    // of a bond of five prices of 0.1: 30 % where honest nodes may differ, all of it where they cannot
    let det = sandrun_sandbox::Class::deterministic_here().to_string();
    for (class, penalty) in [("native", "0.15"), (&det, "0.5")] {
        let said = scene.submit(&code, 3, &["--class", class]).await?;
        assert_eq!(said.code, 0, "{said:?}");
        let finished = said.json()?;
        assert_eq!(
            (count(&finished, "Paid"), count(&finished, "SlashedWrong")),
            (2, 1),
            "{finished}"
        );
        let seats = finished["payments"].as_array().into_iter().flatten();
        let slashed: Vec<&str> = seats
            .filter_map(|seat| seat["slashed"].as_str())
            .filter(|it| *it != "0")
            .collect();
        assert_eq!(slashed, [penalty]);
        assert_eq!(file(&finished, "outputs/out.txt", &scene)?, "42");
    }
    manager_counts(&scene, [2.0, 4.0, 0.65, 0.4]).await?;
    scene.market.stop().await;
    Ok(())
}

/// The manager's counters reach these: seats slashed for a wrong answer and paid, coin slashed and paid.
async fn manager_counts(scene: &Scene, wanted: [f64; 4]) -> anyhow::Result<()> {
    let pool = scene.market.pool.clone().context("a manager")?;
    let names = [
        "sandrun_seats_finished_total{end=\"slashed_wrong\"} ",
        "sandrun_seats_finished_total{end=\"paid\"} ",
        "sandrun_seats_slashed_coins_total ",
        "sandrun_seats_paid_coins_total ",
    ];
    let started = std::time::Instant::now();
    loop {
        let text = reqwest::get(format!("{pool}/metrics")).await?.text().await?;
        let value = |name: &str| {
            text.lines()
                .find_map(|it| it.strip_prefix(name)?.parse::<f64>().ok())
        };
        let found = names.map(value);
        let is_near =
            |(found, wanted): (&Option<f64>, &f64)| found.is_some_and(|it| (it - wanted).abs() < 1e-9);
        if found.iter().zip(&wanted).all(is_near) {
            return Ok(());
        }
        anyhow::ensure!(
            started.elapsed().as_secs() < 60,
            "{found:?} instead of {wanted:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_slashed_and_the_others_are_paid() -> anyhow::Result<()> {
    let scene = Scene::with(&[Honest, Honest, Silent]).await?;
    let code = scene.code("hello", HELLO)?;
    let code_text = code.to_string_lossy().into_owned();
    let posted = scene
        .run(&[
            "submit",
            "--json",
            "--detach",
            "--code",
            &code_text,
            "--payment",
            "0.3",
            "--redundancy",
            "3",
        ])
        .await?;
    assert_eq!(posted.code, 0, "{posted:?}");
    let job = posted.json()?["job"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/jobs/{job}");
    let committed = |it: &Value| {
        let seats = it["job"]["facts"]["seats"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        (
            seats.len(),
            seats
                .iter()
                .filter(|seat| seat["standing"] == "Committed")
                .count(),
        )
    };
    scene.manager(&path, |_, it| committed(it) == (3, 2)).await?;
    // the run window: 3 × 5 s + 30 s
    scene.market.advance(46).await?;
    let closed = scene
        .manager(&path, |_, it| it["job"]["facts"]["phase"] == "closed")
        .await?;
    let ends: Vec<&str> = closed["job"]["facts"]["seats"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|seat| seat["end"]["end"].as_str())
        .collect();
    assert_eq!(ends.iter().filter(|end| **end == "Paid").count(), 2, "{closed}");
    assert_eq!(
        ends.iter().filter(|end| **end == "SlashedUncommitted").count(),
        1,
        "{closed}"
    );
    scene
        .manager(&path, |_, it| !it["job"]["facts"]["refunded"].is_null())
        .await?;
    scene.market.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn disagreement_brings_an_extra_round() -> anyhow::Result<()> {
    let scene = Scene::with(&[Honest, Liar, Honest, Honest]).await?;
    let code = scene.code("hello", HELLO)?;
    // two of four seats: the liar has one of them every second time
    for _ in 0..12 {
        let said = scene.submit(&code, 2, &[]).await?;
        assert_eq!(said.code, 0, "{said:?}");
        let finished = said.json()?;
        if ends(&finished).len() > 2 {
            assert_eq!(count(&finished, "SlashedWrong"), 1, "{finished}");
            assert!(count(&finished, "Paid") >= 2, "{finished}");
            scene.market.stop().await;
            return Ok(());
        }
        assert_eq!(count(&finished, "Paid"), 2, "{finished}");
    }
    anyhow::bail!("the liar never had a seat")
}

#[tokio::test(flavor = "multi_thread")]
async fn money_comes_back_when_nobody_works() -> anyhow::Result<()> {
    let mut scene = Scene::with(&[Honest, Honest, Honest]).await?;
    for agent in ["agent1", "agent2", "agent3"] {
        if let Some(agent) = scene.market.service(agent) {
            agent.stop().await;
        }
    }
    let code = scene.code("hello", HELLO)?.to_string_lossy().into_owned();
    let before = scene.client_coins().await?;
    let detached = [
        "submit",
        "--json",
        "--detach",
        "--code",
        &code,
        "--payment",
        "0.3",
        "--redundancy",
        "3",
    ];

    let job = scene.run(&detached).await?.json()?["job"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let why = scene.run(&["job", &job, "--why"]).await?;
    assert!(why.stdout.contains("waits for seats: 0 of 3"), "{why:?}");
    let cancelled = scene.run(&["cancel", &job, "--json"]).await?;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let cancelled = scene
        .manager(&format!("/v1/jobs/{job}"), |_, it| {
            it["job"]["facts"]["phase"] == "closed"
        })
        .await?;
    assert!(
        cancelled["job"]["facts"]["resolution"]
            .to_string()
            .contains("Cancelled"),
        "{cancelled}"
    );

    let job = scene.run(&detached).await?.json()?["job"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    scene.market.advance(61).await?;
    let path = format!("/v1/jobs/{job}");
    let expired = scene
        .manager(&path, |_, it| !it["job"]["facts"]["refunded"].is_null())
        .await?;
    assert!(
        expired["job"]["facts"]["resolution"]
            .to_string()
            .contains("Expired"),
        "{expired}"
    );
    let withdrawn = scene.run(&["withdraw", "--json"]).await?;
    assert_eq!(withdrawn.code, 0, "{withdrawn:?}");

    // all is back but gas and, where the cancel came after the seed block, the attempt fee of 0.001
    let lost = before
        .checked_sub(scene.client_coins().await?)
        .unwrap_or_default();
    assert!(lost < sandrun_types::Amount::from_gwei(3_000_000), "lost {lost}");
    scene.market.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganisation_undoes_a_posting_and_a_claim() -> anyhow::Result<()> {
    let scene = Scene::with(&[Honest, Honest, Honest]).await?;
    let slow = [
        ("main.py", "import time\ntime.sleep(4)\n"),
        // real time passes in this class alone
        ("job.json", r#"{"timeout": 20, "class": "native"}"#),
    ];
    let code = scene.code("slow", &slow)?.to_string_lossy().into_owned();
    let detached = [
        "submit",
        "--json",
        "--detach",
        "--code",
        &code,
        "--payment",
        "0.3",
        "--redundancy",
        "3",
    ];
    let job = scene.run(&detached).await?.json()?["job"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let path = format!("/v1/jobs/{job}");
    let claimed = |it: &Value| {
        it["job"]["facts"]["seats"]
            .as_array()
            .is_some_and(|seats| !seats.is_empty())
    };
    let seen = scene.manager(&path, |_, it| claimed(it)).await?;
    let posted = seen["job"]["posted"]["block"]["number"].as_u64().unwrap_or(0);
    let head = scene.market.reader().await?.chain().head().await?.block.number;
    scene.market.reorganise(head - posted + 1).await?;
    // the posting and the claims are gone, from the index too
    scene.manager(&path, |status, _| status == 404).await?;
    assert_eq!(scene.run(&["jobs", "--json"]).await?.json()?["total"], 0);
    // manager and agents go on from what is left
    let hello = scene.code("hello", HELLO)?;
    let said = scene.submit(&hello, 3, &[]).await?;
    assert_eq!(said.code, 0, "{said:?}");
    let finished = said.json()?;
    assert_eq!(count(&finished, "Paid"), 3, "{finished}");
    scene.market.stop().await;
    Ok(())
}

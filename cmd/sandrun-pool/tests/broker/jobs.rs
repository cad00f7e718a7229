//! What clients do.

use serde_json::{Value, json};

use crate::support::said;
use crate::world::{World, command};

const ENDLESS: &str = "echo begun\nwhile :; do sleep 1; done\n";

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_and_their_results_come_back() -> anyhow::Result<()> {
    let world = World::new().await?;
    a_script_prints_where_it_printed(&world).await?;
    bytes_that_are_no_text_come_back_as_they_were(&world).await?;
    a_directory_leaves_files(&world).await?;
    a_child_finds_its_parents_files(&world).await?;
    a_repeat_is_one_job(&world).await?;
    lists_and_logs(&world).await?;
    wrong_words_are_refused_before_anything_is_sent(&world).await?;
    an_executor_alone_will_do(&world).await?;
    world.stop().await
}

async fn a_script_prints_where_it_printed(world: &World) -> anyhow::Result<()> {
    world.write(
        "hello.py",
        "import sys\nprint('hello', *sys.argv[1:])\nprint('oh', file=sys.stderr)\n",
    )?;
    world.write("args.json", r#"{"args": ["you"], "timeout": 20}"#)?;
    for follow in ["", " --follow"] {
        let line = format!("submit --code hello.py --manifest args.json{follow}");
        let said = world.run(&line).await?;
        assert_eq!((said.code, said.stdout.as_str()), (0, "hello you\n"), "{said:?}");
        // a job that is not known by its id is lost to whoever interrupts this
        let (first, rest) = said.stderr.split_once('\n').unwrap_or_default();
        assert!(first.starts_with("submitted ") && rest == "oh\n", "{said:?}");
    }
    let finished = world.json("submit --code hello.py --follow").await?;
    assert_eq!(
        (
            &finished["status"],
            &finished["exit_code"],
            &finished["stdout"],
            &finished["stderr"]
        ),
        (&json!("completed"), &json!(0), &json!("hello\n"), &json!("oh\n"))
    );
    let quiet = world.run("submit --code hello.py --quiet").await?;
    assert_eq!(
        (quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()),
        (0, "", "")
    );

    world.write("fail.sh", "echo no >&2; exit 3\n")?;
    let failed = world.run("submit --code fail.sh --json").await?;
    assert_eq!(failed.code, 5, "{failed:?}");
    let finished = failed.json()?;
    assert_eq!(
        (&finished["exit_code"], &finished["stderr"]),
        (&json!(3), &json!("no\n"))
    );
    Ok(())
}

async fn bytes_that_are_no_text_come_back_as_they_were(world: &World) -> anyhow::Result<()> {
    world.write("bytes.sh", "printf 'a\\xffb'; echo fine >&2\n")?;
    let finished = world.json("submit --code bytes.sh --output bytes").await?;
    assert_eq!(finished["receipt"]["covers_result"], json!(true), "{finished}");
    let id = finished["job"].as_str().unwrap_or_default();
    world.run(&format!("fetch {id} --out again")).await?;
    for directory in ["bytes", "again"] {
        let stdout = std::fs::read(world.directory.path().join(directory).join("stdout"))?;
        assert_eq!(stdout, b"a\xffb", "{directory}");
        assert_eq!(world.read(&format!("{directory}/stderr"))?, "fine\n");
    }
    for file in finished["result"]["files"].as_array().into_iter().flatten() {
        assert_eq!(file["verified"], json!(true), "{file}");
    }
    Ok(())
}

async fn a_directory_leaves_files(world: &World) -> anyhow::Result<()> {
    world.write(
        "project/main.py",
        "import lib\nopen('out.txt', 'w').write(lib.TEXT)\nprint('done')\n",
    )?;
    world.write("project/lib.py", "TEXT = '42'\n")?;
    world.write("project/job.json", r#"{"timeout": 20, "outputs": ["*.txt"]}"#)?;
    let finished = world
        .json("submit --code project --output made --redundancy 1 --priority 9")
        .await?;
    assert_eq!(world.read("made/outputs/out.txt")?, "42");
    assert_eq!(world.read("made/stdout")?, "done\n");
    let files = finished["result"]["files"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let file = |path: &str| {
        files
            .iter()
            .find(|it| it["path"] == path)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(file("outputs/out.txt")["verified"], true, "{finished}");
    // the executor has signed just this
    let receipt = &finished["receipt"];
    assert_eq!(
        (&receipt["worker"], &receipt["covers_result"]),
        (&json!(world.worker), &json!(true)),
        "{finished}"
    );
    assert_eq!(file("stdout")["verified"], true, "{finished}");
    // SHA-256 of "42"
    let expected = "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049";
    assert_eq!(file("outputs/out.txt")["sha256"], expected);
    let again = world.run("submit --code project --out made").await?;
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.stderr.contains("not empty"), "{again:?}");
    // a single script whose files are wanted is no mere script
    world.write("files.sh", "echo x > x.txt\n")?;
    world.json("submit --code files.sh --out script").await?;
    assert_eq!(world.read("script/outputs/x.txt")?, "x\n");
    Ok(())
}

async fn a_child_finds_its_parents_files(world: &World) -> anyhow::Result<()> {
    let parent = world.detached("--code project").await?;
    world.write("child.py", "print(open('in/out.txt').read())\n")?;
    let finished = world
        .json(&format!("submit --code child.py --after {parent}=in"))
        .await?;
    assert_eq!(finished["stdout"], "42\n", "{finished}");
    let child = finished["job"].as_str().unwrap_or_default();
    let shown = world.json(&format!("job {child}")).await?;
    assert_eq!(shown["parents"], json!([parent]));
    Ok(())
}

async fn a_repeat_is_one_job(world: &World) -> anyhow::Result<()> {
    let mut jobs = Vec::new();
    for client in ["me", "me", "you"] {
        let line = format!("--code hello.py --idempotency-key once --client {client}");
        jobs.push(world.detached(&line).await?);
    }
    assert_eq!(jobs[0], jobs[1]);
    assert_ne!(jobs[0], jobs[2]);
    let listed = world.json("jobs --client me").await?;
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["jobs"][0]["job_id"], jobs[0].as_str());
    Ok(())
}

async fn lists_and_logs(world: &World) -> anyhow::Result<()> {
    let job = world.detached("--code hello.py").await?;
    let followed = world.run(&format!("logs -f {job}")).await?;
    assert_eq!(
        (followed.code, followed.stdout.as_str(), followed.stderr.as_str()),
        (0, "hello\n", "oh\n")
    );
    let logs = world.json(&format!("logs {job}")).await?;
    assert_eq!(logs, json!({"job": job, "stdout": "hello\n", "stderr": "oh\n"}));
    let events = world.run(&format!("logs -f {job} --json")).await?.stdout;
    let events: Vec<Value> = events
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert!(
        events.contains(&json!({"event": "stdout", "data": "hello\n"})),
        "{events:?}"
    );
    assert_eq!(
        events.last(),
        Some(&json!({"event": "status", "data": "completed"}))
    );
    let jobs = world.run("jobs --limit 1").await?;
    let lines: Vec<&str> = jobs.stdout.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("JOB ") && lines[1].starts_with(&job),
        "{jobs:?}"
    );
    let shown = world.run(&format!("job {job}")).await?;
    assert!(shown.stdout.contains("state      completed\n"), "{shown:?}");
    // the address may stand in the configuration file, beside what concerns the market
    let config = format!("to = \"{}\"\npayment = \"1\"\n", world.broker.ready);
    let config = world.write("config.toml", &config)?;
    let mut configured = command(world.directory.path(), &["submit", "--code", "hello.py"]);
    let configured = {
        configured.env("SANDRUN_CONFIG", config);
        said(configured).await?
    };
    assert_eq!(
        (configured.code, configured.stdout.as_str()),
        (0, "hello\n"),
        "{configured:?}"
    );
    let why = world.run(&format!("job {job} --why")).await?;
    assert_eq!(why.stdout, "it is over; it waits for nothing\n");
    Ok(())
}

async fn wrong_words_are_refused_before_anything_is_sent(world: &World) -> anyhow::Result<()> {
    let before = world.json("jobs --limit 1000").await?["jobs"]
        .as_array()
        .map(Vec::len);
    for (line, code, words) in [
        (
            "submit --code hello.py --payment 0.1",
            2,
            "--payment is for the market",
        ),
        (
            "submit --code hello.py --redundancy 4",
            2,
            "there is no redundancy 4",
        ),
        ("submit --code gone.py", 2, "gone.py can't be read"),
        (
            "submit --code hello.py --require colour=red",
            2,
            "there is no requirement `colour`",
        ),
        ("submit --code hello.py --priority 10", 2, "10 is not in 0..=9"),
        ("submit --code hello.py --after ../x", 2, "is not an id"),
        ("submit --code hello.py --after 0123456789abcdef", 4, "not known"),
        ("job 0123456789abcdef", 2, "is not known at http://127.0.0.1"),
        ("logs -f 0123456789abcdef", 2, "is not known"),
        ("cancel 0123456789abcdef", 2, "is not known"),
        ("drain nobody", 2, "node nobody is not known"),
        ("job 0123 --to http://127.0.0.1:1", 3, "does not answer"),
        ("job 0123 --to nowhere", 2, "is not a service's address"),
        ("drain 0123 --to=", 2, "give --to URL"),
        (
            "submit --code hello.py --to= --priority 3 --payment 1",
            2,
            "--priority is for brokers",
        ),
        ("submit --code hello.py --to=", 2, "needs --payment"),
    ] {
        for more in ["", " --json"] {
            let said = world.run(&format!("{line}{more}")).await?;
            let text = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                said.code == code && text.contains(words),
                "{line}{more}: {said:?}"
            );
            assert!(said.stdout.is_empty(), "{line}{more}: {said:?}");
        }
    }
    let after = world.json("jobs --limit 1000").await?["jobs"]
        .as_array()
        .map(Vec::len);
    assert_eq!(before, after);
    Ok(())
}

async fn an_executor_alone_will_do(world: &World) -> anyhow::Result<()> {
    let directory = world.directory.path();
    let run = [
        "submit",
        "--code",
        "project",
        "--to",
        &world.executor.ready,
        "--out",
        "alone",
    ];
    let said_here = said(command(directory, &run)).await?;
    assert_eq!(
        (said_here.code, said_here.stdout.as_str()),
        (0, "done\n"),
        "{said_here:?}"
    );
    assert_eq!(world.read("alone/outputs/out.txt")?, "42");
    let list = said(command(directory, &["jobs", "--to", &world.executor.ready])).await?;
    assert!(
        list.code == 2 && list.stderr.contains("it lists no jobs"),
        "{list:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_followed_and_taken_back() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.write("endless.sh", ENDLESS)?;
    let mut submit = world.start("submit --code endless.sh --follow")?;
    assert_eq!(submit.line().await?.as_deref(), Some("begun"));
    let open = world.json("jobs --open").await?;
    assert_eq!(open["jobs"][0]["status"], "running", "{open}");
    let job = open["jobs"][0]["job_id"].as_str().unwrap_or_default().to_owned();
    let mut logs = world.start(&format!("logs -f {job} --json"))?;
    while let Some(line) = logs.line().await? {
        if line.contains("begun") {
            break;
        }
    }
    let cancelled = world.json(&format!("cancel {job}")).await?;
    assert_eq!(cancelled, json!({"job": job}));
    let mut last = None;
    while let Some(line) = logs.line().await? {
        last = Some(serde_json::from_str::<Value>(&line)?);
    }
    assert_eq!(last, Some(json!({"event": "status", "data": "failed"})));
    assert_eq!((logs.end().await?, submit.end().await?), (0, 6));
    let shown = world.json(&format!("job {job}")).await?;
    assert_eq!(shown["reason"], "cancelled by its client");
    let told = world.run(&format!("logs -f {job}")).await?;
    assert!(
        told.code == 0 && told.stderr.contains("cancelled by its client"),
        "{told:?}"
    );
    let listed = world.run("jobs").await?;
    assert!(listed.stdout.contains("  cancelled  "), "{listed:?}");
    for parent in ["nosuchjob", "0123456789abcdef"] {
        let line = format!("submit --code endless.sh --after {parent}=inputs");
        let unknown = world.run(&line).await?;
        assert!(
            unknown.code == 4 && unknown.stderr.contains(parent),
            "{unknown:?}"
        );
    }
    world.stop().await
}

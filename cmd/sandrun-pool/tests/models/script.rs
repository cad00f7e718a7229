//! The script: submit, follow, logs, result, verify, cancel.

use sandrun_types::Sha256Hex;
use serde_json::{Value, json};

use crate::model::Model;

const HELLO: &str =
    "import sys\nprint('hello')\nprint('oh', file=sys.stderr)\nopen('out.txt', 'w').write('42')\n";

/// What a client does; nothing here knows the model.
pub(crate) async fn play(model: &Model) -> anyhow::Result<()> {
    write(model, "hello/main.py", HELLO)?;
    write(
        model,
        "hello/job.json",
        r#"{"timeout": 20, "outputs": ["*.txt"]}"#,
    )?;
    write(model, "fail/run.sh", "echo no >&2; exit 3\n")?;
    write(model, "fail/job.json", r#"{"timeout": 20}"#)?;
    let job = model.submit("--code hello").await?;
    follow(model, &job).await?;
    look(model, &job).await?;
    fetch(model, &job).await?;
    fail(model).await?;
    cancel(model, &job).await?;
    nobody_knows(model, &model.unknown(&job)).await
}

fn write(model: &Model, name: &str, text: &str) -> anyhow::Result<()> {
    let path = model.directory().join(name);
    std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
    Ok(std::fs::write(path, text)?)
}

fn ids(list: &Value) -> Vec<&str> {
    let jobs = list["jobs"].as_array().into_iter().flatten();
    jobs.filter_map(|it| it["job"].as_str()).collect()
}

async fn follow(model: &Model, job: &str) -> anyhow::Result<()> {
    let followed = model.run(&format!("logs -f {job}"), 0).await?;
    assert_eq!(
        (followed.stdout.as_str(), followed.stderr.as_str()),
        ("hello\n", "oh\n")
    );
    let events = model.run(&format!("logs -f {job} --json"), 0).await?.stdout;
    let events: Vec<Value> = events
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    for (name, text) in [("stdout", "hello\n"), ("stderr", "oh\n")] {
        assert!(
            events.contains(&json!({"event": name, "data": text})),
            "{events:?}"
        );
    }
    assert_eq!(events.last().map(|it| &it["event"]), Some(&json!("status")));
    let logs = model.json(&format!("logs {job}"), 0).await?;
    assert_eq!(logs, json!({"job": job, "stdout": "hello\n", "stderr": "oh\n"}));
    Ok(())
}

async fn look(model: &Model, job: &str) -> anyhow::Result<()> {
    let why = model.run(&format!("job {job} --why"), 0).await?;
    assert_eq!(why.stdout, "it is over; it waits for nothing\n");
    assert_eq!(model.json(&format!("job {job}"), 0).await?["job"], job);
    assert_eq!(ids(&model.json("jobs", 0).await?), [job]);
    assert!(ids(&model.json("jobs --open", 0).await?).is_empty());
    let nodes = model.json("nodes", 0).await?;
    assert!(
        nodes["nodes"].as_array().is_some_and(|it| !it.is_empty()),
        "{nodes}"
    );
    Ok(())
}

/// Fetches the result and verifies it: the files are what they are said to be, and somebody vouches for them.
async fn fetch(model: &Model, job: &str) -> anyhow::Result<()> {
    let fetched = model.json(&format!("fetch {job} --out got"), 0).await?;
    assert!(model.vouches(&fetched), "{fetched}");
    let files = fetched["result"]["files"].as_array().cloned().unwrap_or_default();
    let mut names = Vec::new();
    for file in &files {
        let name = file["path"].as_str().unwrap_or_default();
        let bytes = std::fs::read(model.directory().join("got").join(name))?;
        assert_eq!(file["sha256"], Sha256Hex::of(&bytes).to_string(), "{file}");
        assert_eq!(file["verified"], true, "{file}");
        names.push((name, String::from_utf8(bytes)?));
    }
    names.sort();
    let wanted = [
        ("outputs/out.txt", "42".to_owned()),
        ("stderr", "oh\n".to_owned()),
        ("stdout", "hello\n".to_owned()),
    ];
    assert_eq!(names, wanted);
    let again = model.run(&format!("fetch {job} --out got"), 2).await?;
    assert!(again.stderr.contains("not empty"), "{again:?}");
    let shown = model.run(&format!("fetch {job} --out shown"), 0).await?;
    assert_eq!(shown.stdout.matches("  verified\n").count(), 3, "{shown:?}");
    Ok(())
}

/// A program that fails is a result too, and `submit` ends as `fetch` does.
async fn fail(model: &Model) -> anyhow::Result<()> {
    let line = format!("submit --code fail --out failed {}", model.price());
    let finished = model.json(&line, 5).await?;
    assert!(model.vouches(&finished), "{finished}");
    let read = |name: &str| std::fs::read_to_string(model.directory().join(name));
    assert_eq!(read("failed/stderr")?, "no\n");
    let job = finished["job"].as_str().unwrap_or_default();
    model.json(&format!("fetch {job} --out fetched"), 5).await?;
    assert_eq!(read("fetched/stderr")?, "no\n");
    Ok(())
}

async fn cancel(model: &Model, ended: &str) -> anyhow::Result<()> {
    let waits = model
        .submit(&format!("--code hello {}", model.hopeless()))
        .await?;
    let why = model.run(&format!("job {waits} --why"), 0).await?;
    assert!(why.stdout.starts_with("it waits"), "{why:?}");
    assert_eq!(ids(&model.json("jobs --open", 0).await?), [waits.as_str()]);
    let early = model.run(&format!("fetch {waits}"), 1).await?;
    assert!(
        early.stderr.contains("is not over, and has no result yet"),
        "{early:?}"
    );
    let cancelled = model.json(&format!("cancel {waits}"), 0).await?;
    assert_eq!(cancelled["job"], waits.as_str());
    let followed = model.run(&format!("logs -f {waits}"), 0).await?;
    assert_eq!(followed.stdout, "");
    assert!(ids(&model.json("jobs --open", 0).await?).is_empty());
    model.json(&format!("fetch {waits} --out none"), 6).await?;
    assert!(!model.directory().join("none").exists());
    for over in [waits.as_str(), ended] {
        let again = model.run(&format!("cancel {over}"), 4).await?;
        assert!(
            again.stderr.contains("has ended") || again.stderr.contains("is over"),
            "{again:?}"
        );
    }
    Ok(())
}

async fn nobody_knows(model: &Model, job: &str) -> anyhow::Result<()> {
    for line in ["job", "logs", "logs -f", "fetch", "cancel"] {
        let said = model.run(&format!("{line} {job}"), 2).await?;
        assert!(said.stdout.is_empty() && said.stderr.contains(job), "{said:?}");
    }
    Ok(())
}

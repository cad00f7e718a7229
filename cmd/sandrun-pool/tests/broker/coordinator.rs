//! The same words at a coordinator.

use serde_json::json;

use crate::support::process::Process;
use crate::support::{Said, said};
use crate::world::{World, command};

async fn run(world: &World, to: &str, line: &str) -> anyhow::Result<Said> {
    let mut arguments: Vec<&str> = line.split_whitespace().collect();
    arguments.extend(["--to", to]);
    said(command(world.directory.path(), &arguments)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_takes_the_same_words() -> anyhow::Result<()> {
    let world = World::new().await?;
    let workers = json!([{
        "worker_id": world.worker, "endpoint": world.executor.ready, "max_concurrent_jobs": 2
    }]);
    world.write("workers.json", &workers.to_string())?;
    let start = ["coordinator", "--port", "0", "--workers", "workers.json"];
    let coordinator = Process::start(command(world.directory.path(), &start)).await?;
    let to = coordinator.ready.clone();
    world.write(
        "project/main.py",
        "print('hello')\nopen('out.txt', 'w').write('42')\n",
    )?;
    let submitted = run(&world, &to, "submit --code project --out made --json").await?;
    assert_eq!(submitted.code, 0, "{submitted:?}");
    let finished = submitted.json()?;
    assert_eq!(finished["stdout"], "hello\n", "{finished}");
    assert_eq!(finished["receipt"]["worker"], world.worker, "{finished}");
    assert_eq!(world.read("made/outputs/out.txt")?, "42");
    let job = finished["job"].as_str().unwrap_or_default();
    assert!(job.starts_with("pool-"), "{job}");
    let logs = run(&world, &to, &format!("logs -f {job}")).await?;
    assert_eq!((logs.code, logs.stdout.as_str()), (0, "hello\n"), "{logs:?}");
    let jobs = run(&world, &to, "jobs --json").await?.json()?;
    assert_eq!(jobs["jobs"][0]["job_id"], job, "{jobs}");
    let nodes = run(&world, &to, "nodes --json").await?.json()?;
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(1), "{nodes}");
    let node = nodes["nodes"][0]["id"].as_str().unwrap_or_default();
    let drained = run(&world, &to, &format!("drain {node}")).await?;
    assert_eq!(drained.code, 0, "{drained:?}");
    let waits = run(&world, &to, "submit --code project --detach").await?;
    let waiting = waits.stdout.trim();
    let cancelled = run(&world, &to, &format!("cancel {waiting}")).await?;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let (code, _) = coordinator.terminate().await?;
    assert_eq!(code, 0);
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_without_a_valid_worker_is_a_finding() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let entry = json!([{"worker_id": "short", "endpoint": "http://127.0.0.1:9"}]);
    std::fs::write(folder.path().join("workers.json"), entry.to_string())?;
    let start = ["coordinator", "--port", "0", "--workers", "workers.json"];
    let coordinator = Process::start(command(folder.path(), &start)).await?;
    let look = ["doctor", "--no-isolation", "--json", "--to", &coordinator.ready];
    let found = said(command(folder.path(), &look)).await?.json()?;
    let findings = found["findings"].as_array().cloned().unwrap_or_default();
    let finding = findings.iter().find(|it| it["what"] == "coordinator's workers");
    assert!(
        finding.is_some_and(|it| it["level"] == "warn" && it["do"].to_string().contains("workers.json")),
        "{found}"
    );
    // nor do nodes come to it
    let node = ["node", "--broker", &coordinator.ready];
    let refused = said(command(folder.path(), &node)).await?;
    assert!(
        refused.code == 2 && refused.stderr.contains("no broker but a coordinator"),
        "{refused:?}"
    );
    let (code, _) = coordinator.terminate().await?;
    assert_eq!(code, 0);
    Ok(())
}

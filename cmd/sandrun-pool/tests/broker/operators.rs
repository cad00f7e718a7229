//! What operators do.

use anyhow::Context as _;
use serde_json::json;

use crate::world::World;

async fn node(world: &World) -> anyhow::Result<String> {
    let nodes = world.json("nodes").await?;
    Ok(nodes["nodes"][0]["id"].as_str().context("a node")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_takes_nothing_until_it_is_resumed() -> anyhow::Result<()> {
    let world = World::new().await?;
    let node = node(&world).await?;
    assert_eq!(
        world.json(&format!("drain {node}")).await?,
        json!({"node": node, "status": "draining"})
    );
    let nodes = world.run("nodes").await?;
    assert!(nodes.stdout.contains("draining"), "{nodes:?}");
    world.write("hello.py", "print('hello')\n")?;
    let job = world.detached("--code hello.py").await?;
    // the broker knows of it at once: whatever is asked of it after that sees it
    assert_eq!(world.json(&format!("job {job}")).await?["status"], "pending");
    let why = world.run(&format!("job {job} --why")).await?;
    assert!(why.stdout.contains("are draining"), "{why:?}");
    let mut waits = world.start("submit --code hello.py")?;
    world
        .until("jobs --open", |it| {
            it["jobs"].as_array().is_some_and(|jobs| jobs.len() == 2)
        })
        .await?;

    // who waits does not mind a broker that is away for a while
    let world = world.restart_broker().await?;
    assert_eq!(world.json(&format!("job {job}")).await?["status"], "pending");
    assert_eq!(
        world.json(&format!("drain {node} --resume")).await?,
        json!({"node": node, "status": "up"})
    );
    assert_eq!(waits.line().await?.as_deref(), Some("hello"));
    assert_eq!(waits.end().await?, 0);
    world
        .until(&format!("job {job}"), |it| it["status"] == "completed")
        .await?;
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_shown_as_a_whole() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.write("hello.py", "print('hello')\n")?;
    world
        .detached("--code hello.py --require region=moon --retries 0")
        .await?;
    let shown = world.json("status").await?;
    let facts = ["service", "nodes", "up", "draining", "lost", "open"].map(|it| shown[it].clone());
    let wanted = [json!("broker"), json!(1), json!(1), json!(0), json!(0), json!(1)];
    assert_eq!(facts, wanted, "{shown}");
    let text = world.run("status").await?;
    assert!(text.stdout.contains("jobs     1 open"), "{text:?}");
    let priced = world.run("quote --code hello.py").await?;
    assert_eq!(priced.code, 2, "{priced:?}");
    assert!(priced.stderr.contains("takes no payment"), "{priced:?}");
    let tried = world.run("submit --code hello.py --retries 99").await?;
    assert!(tried.stderr.contains("MAX_RETRIES"), "{tried:?}");
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_a_node_that_has_what_it_needs() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.write("hello.py", "print('hello')\n")?;
    let far = world.detached("--code hello.py --require region=moon").await?;
    let two = world.detached("--code hello.py --redundancy 2").await?;
    let near = world.json("submit --code hello.py --require cpu_cores=1").await?;
    assert_eq!(near["stdout"], "hello\n");
    let shown = world.json(&format!("job {far}")).await?;
    assert_eq!(shown["status"], "pending", "{shown}");
    let shown = world.json(&format!("job {two}")).await?;
    assert_eq!(
        (&shown["replicas"], &shown["quorum"]),
        (&json!(2), &json!(2)),
        "{shown}"
    );
    for job in [far, two] {
        world.json(&format!("cancel {job}")).await?;
        assert_eq!(world.json(&format!("job {job}")).await?["status"], "failed");
    }
    world.stop().await
}

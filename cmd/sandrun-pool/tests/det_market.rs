//! The deterministic class on a real market: orders ask for it unless told otherwise, nodes that serve it agree on programs
//! that draw random numbers and race, and a node of another class is never seated for them.

mod support;

use anyhow::Context as _;
use sandrun_testnet::Role::{Honest, Native};
use serde_json::Value;
use support::Scene;

const PROBES: [&str; 4] = ["entropy.py", "threads.py", "processes.py", "background.sh"];

fn payments(finished: &Value) -> Vec<(u64, &str)> {
    let seats = finished["payments"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    seats
        .iter()
        .filter_map(|seat| Some((seat["node"].as_u64()?, seat["end"].as_str()?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_agree_on_programs_that_race_and_another_class_is_never_seated() -> anyhow::Result<()> {
    let scene = Scene::with(&[Honest, Honest, Honest, Native]).await?;
    let stranger = u64::from(scene.market.nodes[3].index.0);
    let probes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testnet/probes");
    for name in PROBES {
        let text = std::fs::read_to_string(probes.join(name))?;
        let manifest = format!(r#"{{"entrypoint": "{name}", "timeout": 30}}"#);
        let code = scene.code(name, &[(name, text.as_str()), ("job.json", manifest.as_str())])?;
        let said = scene.submit(&code, 3, &[]).await?;
        assert_eq!(said.code, 0, "{name}: {said:?}");
        let finished = said.json()?;
        let paid = payments(&finished);
        assert_eq!(paid.len(), 3, "{name}: {finished}");
        assert!(
            paid.iter().all(|(node, end)| *node != stranger && *end == "Paid"),
            "{name}: {finished}"
        );
    }
    let nodes = scene.run(&["nodes", "--json"]).await?.json()?;
    let served = |place: usize| {
        let all = nodes["nodes"].as_array().context("nodes")?;
        let index = scene.market.nodes[place].index.0;
        let node = all.iter().find(|node| node["node"] == index).context("a node")?;
        Ok::<_, anyhow::Error>(node["classes"].as_array().context("classes")?.clone())
    };
    let (all, native) = (served(0)?, served(3)?);
    assert_eq!(native.len(), 1, "{nodes}");
    assert!(all.len() > 1 && all.contains(&native[0]), "{nodes}");
    // the three that also serve it and the stranger: any of them may run a job of class native
    let code = scene.code(
        "native",
        &[("main.py", "print('hello')\n"), ("job.json", r#"{"timeout": 5}"#)],
    )?;
    let said = scene.submit(&code, 3, &["--class", "native"]).await?;
    assert_eq!(said.code, 0, "{said:?}");
    scene.market.stop().await;
    Ok(())
}

/// Fails unless the image is the one that is asked for, and its package is there.
const WITH_IMAGE: &str = "import os, random, sys\n\
    import shapes\n\
    assert os.environ['SANDRUN_ENVIRONMENT'] == sys.argv[1], os.environ\n\
    assert shapes.__file__.startswith('/env/') and shapes.SIDES == 4\n\
    open('out.txt', 'w').write(f'{random.random()}\\n')\n";

#[tokio::test(flavor = "multi_thread")]
async fn nodes_agree_on_a_job_with_an_environment() -> anyhow::Result<()> {
    let scene = Scene::with(&[Honest, Honest, Honest]).await?;
    let packages = scene.code("packages", &[("shapes/__init__.py", "SIDES = 4\n")])?;
    let packages = packages.to_string_lossy().into_owned();
    let unstored = scene.run(&["env", "build", &packages]).await?;
    assert_eq!(unstored.code, 0, "{unstored:?}");
    let id = unstored.stdout.trim().to_owned();
    let manifest = format!(r#"{{"environment": "{id}", "args": ["{id}"], "timeout": 30}}"#);
    let code = scene.code("with-image", &[("main.py", WITH_IMAGE), ("job.json", &manifest)])?;
    let early = scene.submit(&code, 3, &[]).await?;
    assert_ne!(early.code, 0, "nobody could fetch it yet: {early:?}");
    assert!(early.stderr.contains("env build"), "{early:?}");
    let store = scene.market.ipfs_api.clone();
    let stored = scene.run(&["env", "build", &packages, "--store", &store]).await?;
    assert_eq!(
        (stored.code, stored.stdout.trim()),
        (0, id.as_str()),
        "{stored:?}"
    );
    let said = scene.submit(&code, 3, &[]).await?;
    assert_eq!(said.code, 0, "{said:?}");
    let finished = said.json()?;
    let paid = payments(&finished);
    assert_eq!(paid.len(), 3, "{finished}");
    assert!(paid.iter().all(|(_, end)| *end == "Paid"), "{finished}");
    scene.market.stop().await;
    Ok(())
}

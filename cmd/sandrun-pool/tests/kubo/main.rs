//! Kubo, the store that others run, in the place of the embedded one.

mod content;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sandrun_testnet::Role::Honest;
use sandrun_testnet::Store;
use serde_json::Value;
use support::Scene;

/// Kubo's program, where there is one. Where its module could not be had, `tools/setup.sh` has said so and left a note.
#[allow(clippy::print_stderr)]
fn kubo() -> anyhow::Result<Option<PathBuf>> {
    let toolchain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.toolchain");
    let program = toolchain.join("bin/ipfs");
    if program.is_file() {
        return Ok(Some(program));
    }
    let why = std::fs::read_to_string(toolchain.join("kubo.missing"))
        .context("no Kubo: run tools/setup.sh kubo")?;
    eprintln!("left out: {why}");
    Ok(None)
}

/// What Kubo itself says.
async fn ask(scene: &Scene, call: &str) -> anyhow::Result<Value> {
    let url = format!("{}/api/v0/{call}", scene.market.ipfs_api);
    let answer = reqwest::Client::new().post(url).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    anyhow::ensure!(status.is_success(), "{call}: {status} {text}");
    Ok(serde_json::from_str(&text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_lives_on_kubo() -> anyhow::Result<()> {
    let Some(program) = kubo()? else { return Ok(()) };
    let scene = Scene::on(Store::Kubo(program), &[Honest, Honest, Honest]).await?;
    let store = scene.market.ipfs_api.as_str();
    content::a_bundle_goes_through_kubo_and_comes_back(store).await?;
    content::what_kubo_does_not_have_is_an_error_in_time(store).await?;

    scene.code("image", &[("words/__init__.py", "SAID = 'from the image'\n")])?;
    let built = scene.run(&["env", "build", "image", "--store", store]).await?;
    assert_eq!(built.code, 0, "{built:?}");
    let image = built.stdout.trim();
    let manifest = format!(r#"{{"timeout": 10, "environment": "{image}"}}"#);
    let program = "import words\nopen('large.bin', 'wb').write(b'7' * 3_000_000)\nprint(words.SAID)\n";
    let code = scene.code("job", &[("main.py", program), ("job.json", &manifest)])?;
    let submitted = scene.submit(&code, 3, &[]).await?;
    assert_eq!(submitted.code, 0, "{submitted:?}");
    let finished = submitted.json()?;
    let ends = finished["payments"].as_array().into_iter().flatten();
    let ends: Vec<&str> = ends.filter_map(|seat| seat["end"].as_str()).collect();
    assert_eq!(ends, ["Paid"; 3], "{finished}");
    let result = finished["result"]["directory"].as_str().unwrap_or_default();
    let result = scene.directory.path().join(result);
    assert_eq!(
        std::fs::read_to_string(result.join("stdout"))?,
        "from the image\n"
    );
    assert_eq!(
        std::fs::metadata(result.join("outputs/large.bin"))?.len(),
        3_000_000
    );

    let pins = ask(&scene, "pin/ls?type=recursive").await?;
    assert!(
        pins["Keys"].get(image).is_some(),
        "what was built stays: {image} {pins}"
    );
    let job = finished["job"].as_str().unwrap_or_default();
    let again = scene.run(&["fetch", job, "--json", "--out", "again"]).await?;
    assert_eq!(
        again.json()?["result"]["files"],
        finished["result"]["files"],
        "{again:?}"
    );
    scene.market.stop().await;
    Ok(())
}

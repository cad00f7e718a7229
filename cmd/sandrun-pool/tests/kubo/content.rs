//! The client of Kubo's RPC and a real Kubo. Each adds, checks and unpins its own content.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sandrun_content::{
    ContentError, ContentStore, EmbeddedConfig, EmbeddedStore, KuboClient, KuboConfig, Limits, pack_bundle,
};

/// A file of several blocks, an executable of one and of several, many files (a sharded directory), an empty one.
fn write_bundle(dir: &Path) -> Result<()> {
    let large: Vec<u8> = (0_u32..3_000_000)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    std::fs::create_dir_all(dir.join("many"))?;
    std::fs::create_dir_all(dir.join("void"))?;
    std::fs::write(dir.join("large.bin"), &large)?;
    for (name, content) in [("run.sh", b"#!/bin/sh\n".as_slice()), ("tool", &large)] {
        std::fs::write(dir.join(name), content)?;
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755))?;
    }
    // a directory is sharded from 256 KiB of names and ids on
    let long = "n".repeat(200);
    for n in 0..1_200 {
        std::fs::write(dir.join(format!("many/{long}-{n:05}")), format!("{n}"))?;
    }
    Ok(())
}

pub(super) async fn a_bundle_goes_through_kubo_and_comes_back(api: &str) -> Result<()> {
    let (dir, limits) = (tempfile::tempdir()?, Limits::default());
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle)?;
    let packed = pack_bundle(&bundle, b"{\"entrypoint\":\"run.sh\"}", &limits)?;
    let kubo = KuboClient::new(api)?;
    let embedded = EmbeddedStore::open(EmbeddedConfig::new(dir.path().join("store"))).await?;
    ensure!(
        kubo.add(&packed).await? == embedded.add(&packed).await?,
        "one tree has one id"
    );
    ensure!(kubo.has(packed.root()).await?, "it is there");
    for (name, store) in [("kubo", &kubo as &dyn ContentStore), ("embedded", &embedded)] {
        let back = dir.path().join(name);
        let fetched = store.fetch(packed.root(), &back, &limits).await?;
        ensure!(
            (fetched.files, fetched.bytes) == (packed.files(), packed.bytes()),
            "{name}"
        );
        let again = pack_bundle(&back, b"{\"entrypoint\":\"run.sh\"}", &limits)?;
        ensure!(
            again.root() == packed.root(),
            "{name}: what came back packs to the same id"
        );
    }
    // Kubo itself reads what we packed
    for name in ["large.bin", "tool", "run.sh"] {
        let url = format!("{api}/api/v0/cat?arg={}/{name}", packed.root());
        let read = reqwest::Client::new()
            .post(url)
            .send()
            .await?
            .error_for_status()?;
        ensure!(read.bytes().await? == std::fs::read(bundle.join(name))?, "{name}");
    }
    kubo.unpin(packed.root()).await?;
    kubo.unpin(packed.root()).await?;
    Ok(())
}

pub(super) async fn what_kubo_does_not_have_is_an_error_in_time(api: &str) -> Result<()> {
    let mut config = KuboConfig::new(api);
    config.stall = std::time::Duration::from_secs(2);
    let kubo = KuboClient::with(config)?;
    ensure!(!kubo.health().await?.version.is_empty(), "it answers");
    let gone = "bafybeibml5uieyxa5tufngvg7fgwbkwvlsuntwbxgtskoqynbt7wlchmfm".parse()?;
    ensure!(!kubo.has(gone).await?, "nobody has it");
    let dir = tempfile::tempdir()?;
    let error = kubo
        .fetch(gone, &dir.path().join("x"), &Limits::default())
        .await
        .err()
        .context("no error")?;
    // a node with a network goes on searching, one without knows at once
    ensure!(
        matches!(
            error,
            ContentError::NotFound { .. } | ContentError::Stalled { .. }
        ),
        "{error}"
    );
    Ok(())
}

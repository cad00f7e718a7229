//! Against a real Kubo: `SANDRUN_KUBO_API=http://127.0.0.1:5001 cargo test -p sandrun-content --test kubo -- --ignored`.
//! Each test adds, checks and unpins its own content.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use ipfs_api_backend_hyper::{IpfsApi, IpfsClient, TryFromUri};
use sandrun_content::{
    ContentError, ContentStore, EmbeddedConfig, EmbeddedStore, KuboClient, KuboConfig, Limits, pack_bundle,
};

fn api() -> Result<String> {
    std::env::var("SANDRUN_KUBO_API").context("set SANDRUN_KUBO_API to the RPC address of a Kubo node")
}

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
    for n in 0..5000 {
        std::fs::write(
            dir.join(format!("many/a-file-with-a-long-enough-name-{n:05}")),
            format!("{n}"),
        )?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a Kubo node, see the head of this file"]
async fn a_bundle_goes_through_kubo_and_comes_back() -> Result<()> {
    let (dir, limits) = (tempfile::tempdir()?, Limits::default());
    let bundle = dir.path().join("bundle");
    write_bundle(&bundle)?;
    let packed = pack_bundle(&bundle, b"{\"entrypoint\":\"run.sh\"}", &limits)?;
    let kubo = KuboClient::new(&api()?)?;
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
    let ipfs = IpfsClient::from_str(&api()?)?;
    for name in ["large.bin", "tool", "run.sh"] {
        let read: Vec<_> = ipfs
            .cat(&format!("{}/{name}", packed.root()))
            .try_collect()
            .await?;
        ensure!(read.concat() == std::fs::read(bundle.join(name))?, "{name}");
    }
    kubo.unpin(packed.root()).await?;
    kubo.unpin(packed.root()).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a Kubo node, see the head of this file"]
async fn what_kubo_does_not_have_is_an_error_in_time() -> Result<()> {
    let mut config = KuboConfig::new(api()?);
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

//! A content store that has lost what it was trusted with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sandrun_testnet::Role::Honest;

use crate::scene::Frail;
use crate::wire::Mode;

/// The files of a store's blocks.
fn blocks(store: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for shard in std::fs::read_dir(store.join("blocks"))? {
        for file in std::fs::read_dir(shard?.path())? {
            files.insert(file?.path());
        }
    }
    Ok(files)
}

/// Does something to what a posting has put into the store, before any node looks; nobody takes a seat until it is as it
/// was, and then the job is paid.
async fn damaged(word: &str, damage: impl Fn(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let to_store = |_: &str, target: &str| target == "content";
    let store = frail.scene.directory.path().join("market/content");
    let before = blocks(&store)?;
    frail.wires.set(Mode::Cut, to_store);
    let key = frail.scene.market.client_key.clone();
    let job = frail.post(&key, word).await?;
    let mut bundle = BTreeMap::new();
    for block in blocks(&store)?.difference(&before) {
        bundle.insert(block.clone(), std::fs::read(block)?);
        damage(block)?;
    }
    anyhow::ensure!(!bundle.is_empty(), "no block of the bundle was found");
    frail.wires.set(Mode::Straight, to_store);
    frail.blocks(5).await?;
    let reader = frail.scene.market.reader().await?;
    let seats = reader.job(job.parse()?).await?.map(|it| it.seats);
    anyhow::ensure!(
        seats == Some(0),
        "{seats:?} seats were taken for a bundle that nobody has"
    );
    for (block, bytes) in bundle {
        std::fs::write(block, bytes)?;
    }
    frail.over(&job).await?;
    frail.check(&BTreeMap::from([(job, word.to_owned())])).await?;
    frail.scene.market.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_seat_for_a_bundle_with_a_corrupt_block() -> anyhow::Result<()> {
    let turn_over = |block: &Path| {
        let mut bytes = std::fs::read(block)?;
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        Ok(std::fs::write(block, bytes)?)
    };
    damaged("corrupt", turn_over).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_seat_for_a_bundle_that_the_store_lacks() -> anyhow::Result<()> {
    damaged("gone", |block| Ok(std::fs::remove_file(block)?)).await
}

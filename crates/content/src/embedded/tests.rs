use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use futures::StreamExt;

use super::*;
use crate::block::BlockError;
use crate::limits::Limits;
use crate::pack::pack_directory;
use crate::tests::{cids_of, directory, leaf, link, pattern, put, read_tree, store, write_tree};

/// The file of a block.
fn file_of(store: &EmbeddedStore, cid: &Cid) -> PathBuf {
    let name = hex::encode(supported(cid).unwrap());
    store.dir().join("blocks").join(&name[..2]).join(name)
}

/// A tree whose content is its own: no block is shared with one of another name.
fn tree(dir: &Path, name: &str, len: usize) -> PackedTree {
    let at = dir.join(name);
    let key = name.bytes().fold(0, u8::wrapping_add);
    let content: Vec<u8> = pattern(len).iter().map(|b| b ^ key).collect();
    write_tree(
        &at,
        &[("file", &content, false), ("name", name.as_bytes(), false)],
    );
    pack_directory(&at, &Limits::default()).unwrap()
}

#[tokio::test]
async fn what_was_added_is_there_after_reopening() {
    let (dir, store) = store().await;
    let packed = tree(dir.path(), "tree", 600_000);
    store.add(&packed).await.unwrap();
    let config = store.inner.config.clone();
    let stat = store.stat().await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(config).await.unwrap();
    assert_eq!(store.stat().await.unwrap(), stat);
    assert_eq!((stat.blocks, stat.pins), (packed.block_count(), 1));
    let back = dir.path().join("back");
    store
        .fetch(packed.root(), &back, &Limits::default())
        .await
        .unwrap();
    assert_eq!(read_tree(&back), read_tree(&dir.path().join("tree")));
}

#[tokio::test]
async fn a_corrupt_block_is_never_served_and_heals() {
    let (dir, store) = store().await;
    let packed = tree(dir.path(), "tree", 600_000);
    store.add(&packed).await.unwrap();
    let cids = cids_of(&packed);
    for cid in &cids {
        let path = file_of(&store, cid);
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [
            flipped,
            good[..good.len() - 1].to_vec(),
            [good.clone(), vec![0]].concat(),
            Vec::new(),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = store.get_block(cid).await.unwrap_err();
            assert!(
                matches!(&error, ContentError::Block(e) if matches!(**e, BlockError::Corrupt { .. })),
                "{error}"
            );
            let back = dir.path().join("back");
            assert!(
                store
                    .fetch(packed.root(), &back, &Limits::default())
                    .await
                    .is_err()
            );
            assert!(!back.exists());
        }
        // adding the same again writes it anew
        store.add(&packed).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), good);
    }
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let (_dir, store) = store().await;
    let again = EmbeddedStore::open(store.inner.config.clone()).await.unwrap_err();
    assert!(matches!(again, ContentError::Locked { .. }), "{again}");
}

#[tokio::test]
async fn what_an_interrupted_write_left_is_removed() {
    let (_dir, store) = store().await;
    let config = store.inner.config.clone();
    drop(store);
    std::fs::write(config.dir.join("tmp/.tmpXYZ"), "half a block").unwrap();
    std::fs::write(config.dir.join("blocks/00/README"), "not ours").unwrap();
    let store = EmbeddedStore::open(config.clone()).await.unwrap();
    assert_eq!(std::fs::read_dir(config.dir.join("tmp")).unwrap().count(), 0);
    assert_eq!(store.stat().await.unwrap().blocks, 0);
    store.collect().await.unwrap();
    assert!(config.dir.join("blocks/00/README").exists());
}

#[tokio::test]
async fn only_what_no_pin_reaches_is_collected() {
    let (dir, store) = store().await;
    let (kept, dropped) = (
        tree(dir.path(), "kept", 300_000),
        tree(dir.path(), "dropped", 300_001),
    );
    store.add(&kept).await.unwrap();
    store.add(&dropped).await.unwrap();
    assert_eq!(store.collect().await.unwrap(), Collected::default());
    store.unpin(dropped.root()).await.unwrap();
    store.unpin(dropped.root()).await.unwrap();
    let collected = store.collect().await.unwrap();
    assert!(!collected.removed.is_empty());
    assert!(!store.has(dropped.root()).await.unwrap());
    let back = dir.path().join("back");
    store.fetch(kept.root(), &back, &Limits::default()).await.unwrap();
    let stat = store.stat().await.unwrap();
    assert_eq!(
        (stat.pins, stat.bytes),
        (1, store.inner.used.load(Ordering::Relaxed))
    );
}

#[tokio::test]
async fn the_same_bytes_as_leaf_and_as_node_keep_their_children() {
    let (_dir, store) = store().await;
    let child = leaf(b"child");
    let inner = directory(vec![link("child", child.cid())]);
    // the leaf comes first in the walk, under the digest of the node
    let as_leaf = Block::hashed(crate::id::RAW_CODEC, inner.bytes().clone());
    let root = directory(vec![link("a", as_leaf.cid()), link("b", inner.cid())]);
    let id = put(&store, &[child.clone(), inner, as_leaf, root]).await;
    store.pin(id).await.unwrap();
    store.collect().await.unwrap();
    assert!(store.has_block(&child.cid()).await.unwrap());
}

#[tokio::test]
async fn nothing_is_collected_below_a_damaged_pin() {
    let (dir, store) = store().await;
    let kept = tree(dir.path(), "kept", 300_000);
    store.add(&kept).await.unwrap();
    put(&store, &[leaf(b"garbage"), directory(vec![])]).await;
    std::fs::write(file_of(&store, &kept.root().to_cid()), "damage").unwrap();
    let before = store.stat().await.unwrap();
    assert!(store.collect().await.is_err());
    assert_eq!(store.stat().await.unwrap().blocks, before.blocks);
}

#[tokio::test]
async fn an_incomplete_tree_is_not_pinned() {
    let (_dir, store) = store().await;
    let id = put(&store, &[directory(vec![link("a", leaf(b"gone").cid())])]).await;
    let error = store.pin(id).await.unwrap_err();
    assert!(
        matches!(error, ContentError::NotFound { cid } if cid == leaf(b"gone").cid()),
        "{error}"
    );
    assert!(store.pins().is_empty());
}

#[tokio::test]
async fn the_cap_is_kept_by_collecting_and_then_by_refusing() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (
        tree(dir.path(), "first", 300_000),
        tree(dir.path(), "second", 300_001),
    );
    let mut config = EmbeddedConfig::new(dir.path().join("store"));
    config.max_bytes = Some(500_000);
    config.grace = Duration::ZERO;
    let store = EmbeddedStore::open(config).await.unwrap();
    store.add(&first).await.unwrap();
    // pinned content does not make room
    let full = store.add(&second).await.unwrap_err();
    assert!(matches!(full, ContentError::Full { cap: 500_000, .. }), "{full}");
    assert!(store.stat().await.unwrap().bytes <= 500_000);
    store
        .fetch(first.root(), &dir.path().join("back"), &Limits::default())
        .await
        .unwrap();
    // unpinned content does
    store.unpin(first.root()).await.unwrap();
    store.add(&second).await.unwrap();
    let stat = store.stat().await.unwrap();
    assert!(stat.bytes <= 500_000);
    assert_eq!(stat.bytes, store.inner.used.load(Ordering::Relaxed));
    store
        .fetch(second.root(), &dir.path().join("back2"), &Limits::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_added_lately_is_spared() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EmbeddedConfig::new(dir.path().join("store"));
    config.max_bytes = Some(10);
    let store = EmbeddedStore::open(config).await.unwrap();
    store.put_block(leaf(b"12345678")).await.unwrap();
    let full = store.put_block(leaf(b"abcdefgh")).await.unwrap_err();
    assert!(
        matches!(
            full,
            ContentError::Full {
                used: 8,
                cap: 10,
                needed: 8
            }
        ),
        "{full}"
    );
    assert!(store.has_block(&leaf(b"12345678").cid()).await.unwrap());
    // the same block again needs no room
    store.put_block(leaf(b"12345678")).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_fails_leaves_no_root() {
    let (_dir, store) = store().await;
    let blocks = futures::stream::iter([
        Ok(leaf(b"a")),
        Ok(directory(vec![])),
        Err(ContentError::ShuttingDown),
    ]);
    let failed = store.put_blocks(blocks.boxed()).await;
    assert!(matches!(failed, Err(ContentError::ShuttingDown)));
    assert!(!store.has_block(&directory(vec![]).cid()).await.unwrap());
}

/// Adds trees until it is killed, and says each id when it was acknowledged. Run by the test below.
#[tokio::test]
async fn child_that_adds_until_it_is_killed() {
    let Some(dir) = std::env::var_os("SANDRUN_CONTENT_KILL_TEST").map(PathBuf::from) else {
        return;
    };
    let store = EmbeddedStore::open(EmbeddedConfig::new(dir.join("store")))
        .await
        .unwrap();
    for n in 0.. {
        let root = store
            .add(&tree(&dir, &format!("tree{n}"), 500_000 + n))
            .await
            .unwrap();
        println!("\nadded {root}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    for kill_after in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "embedded::tests::child_that_adds_until_it_is_killed",
                "--nocapture",
            ])
            .env("SANDRUN_CONTENT_KILL_TEST", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut acknowledged: Vec<ContentId> = Vec::new();
        let id = |line: String| {
            line.strip_prefix("added ")
                .map(|id| id.parse::<ContentId>().unwrap())
        };
        while acknowledged.len() < kill_after {
            acknowledged.extend(id(lines.next().expect("the child goes on until it is killed")));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines.filter_map(id));
        let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path().join("store")))
            .await
            .unwrap();
        for (n, root) in acknowledged.iter().enumerate() {
            let back = dir.path().join(format!("back{n}"));
            store.fetch(*root, &back, &Limits::default()).await.unwrap();
            assert_eq!(read_tree(&back), read_tree(&dir.path().join(format!("tree{n}"))));
            assert!(store.is_pinned(&root.to_cid()));
        }
        store.collect().await.unwrap();
    }
}

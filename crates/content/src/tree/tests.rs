use futures::TryStreamExt;

use super::*;
use crate::block::{Block, BlockError};
use crate::embedded::EmbeddedStore;
use crate::id::{ContentId, RAW_CODEC};
use crate::node::{KIND_FILE, UnixFsData};
use crate::pack::pack_directory;
use crate::tests::{directory, leaf, link, node, pattern, put, read_tree, store, write_tree};

async fn fetch_fails(
    store: &EmbeddedStore,
    dir: &tempfile::TempDir,
    id: ContentId,
    limits: &Limits,
) -> ContentError {
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    let error = store
        .fetch(id, &dir.path().join("back"), limits)
        .await
        .unwrap_err();
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        before,
        "nothing is left behind"
    );
    error
}

fn file(parts: &[(&Block, u64)]) -> Block {
    let blocksizes: Vec<u64> = parts.iter().map(|(_, size)| *size).collect();
    let filesize = Some(blocksizes.iter().sum());
    let links = parts.iter().map(|(block, _)| link("", block.cid())).collect();
    node(
        links,
        &UnixFsData {
            kind: KIND_FILE,
            filesize,
            blocksizes,
            ..UnixFsData::default()
        },
    )
}

#[tokio::test]
async fn a_name_that_leaves_the_directory_is_not_written() {
    let (dir, store) = store().await;
    for name in ["../x", "/tmp/x", ".."] {
        let id = put(
            &store,
            &[leaf(b"evil"), directory(vec![link(name, leaf(b"evil").cid())])],
        )
        .await;
        let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
        assert!(matches!(error, ContentError::Malformed { .. }), "{error}");
    }
    assert!(!dir.path().join("x").exists());
}

#[tokio::test]
async fn a_missing_block_is_named() {
    let (dir, store) = store().await;
    let gone = leaf(b"gone");
    let id = put(&store, &[directory(vec![link("a", gone.cid())])]).await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(
        matches!(error, ContentError::NotFound { cid } if cid == gone.cid()),
        "{error}"
    );
    assert!(error.is_unavailable());
}

#[tokio::test]
async fn a_declared_size_is_not_believed() {
    let (dir, store) = store().await;
    // huge by declaration alone: refused before anything is written
    let huge = file(&[(&leaf(b"x"), 1 << 60)]);
    let id = put(
        &store,
        &[
            leaf(b"x"),
            huge.clone(),
            directory(vec![link("huge", huge.cid())]),
        ],
    )
    .await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(
        matches!(&error, ContentError::Limit { path, .. } if path == "huge"),
        "{error}"
    );
    // small by declaration, large in truth
    let small = file(&[(&leaf(b"hello"), 1)]);
    let id = put(
        &store,
        &[
            leaf(b"hello"),
            small.clone(),
            directory(vec![link("small", small.cid())]),
        ],
    )
    .await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(matches!(error, ContentError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_bomb_of_shared_blocks_runs_out_of_budget() {
    let (dir, store) = store().await;
    // 100 directories in a directory, 100 of them in another …: 10^12 entries in seven blocks
    let mut blocks = vec![leaf(b"x")];
    for _ in 0..6 {
        let child = blocks.last().unwrap().cid();
        blocks.push(directory(
            (0..100).map(|n| link(&format!("{n:03}"), child)).collect(),
        ));
    }
    let id = put(&store, &blocks).await;
    let limits = Limits {
        max_entries: 500,
        ..Limits::default()
    };
    let error = fetch_fails(&store, &dir, id, &limits).await;
    assert!(
        matches!(
            error,
            ContentError::Limit {
                what: "files and directories",
                ..
            }
        ),
        "{error}"
    );
    // the same within one file: every level ten times the last
    let mut blocks = vec![leaf(b"x")];
    let mut size = 1;
    for _ in 0..9 {
        let child = blocks.last().unwrap().clone();
        blocks.push(file(&[(&child, size); 10]));
        size *= 10;
    }
    let root = directory(vec![link("f", blocks.last().unwrap().cid())]);
    blocks.push(root);
    let id = put(&store, &blocks).await;
    let limits = Limits {
        max_entries: 1,
        max_bytes: 1 << 30,
        ..Limits::default()
    };
    let error = fetch_fails(
        &store,
        &dir,
        id,
        &Limits {
            max_bytes: 1 << 20,
            ..limits
        },
    )
    .await;
    assert!(
        matches!(
            error,
            ContentError::Limit {
                what: "bytes in all",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn deep_nesting_ends_at_the_limit() {
    let (dir, store) = store().await;
    let mut blocks = vec![directory(vec![])];
    for _ in 0..40 {
        let child = blocks.last().unwrap().cid();
        blocks.push(directory(vec![link("d", child)]));
    }
    let id = put(&store, &blocks).await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(
        matches!(
            error,
            ContentError::Limit {
                what: "levels",
                limit: 32,
                ..
            }
        ),
        "{error}"
    );
    let deep = Limits {
        max_depth: 40,
        ..Limits::default()
    };
    assert_eq!(
        store
            .fetch(id, &dir.path().join("back"), &deep)
            .await
            .unwrap()
            .directories,
        40
    );
}

#[tokio::test]
async fn a_chain_of_file_nodes_ends() {
    let (dir, store) = store().await;
    let mut blocks = vec![leaf(b"x")];
    for _ in 0..20 {
        let child = blocks.last().unwrap().clone();
        blocks.push(file(&[(&child, 1)]));
    }
    blocks.push(directory(vec![link("f", blocks.last().unwrap().cid())]));
    let id = put(&store, &blocks).await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(
        matches!(
            error,
            ContentError::Limit {
                what: "levels of file nodes",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn symlinks_are_not_made() {
    let (dir, store) = store().await;
    let target = UnixFsData {
        kind: 4,
        data: Some("/etc/passwd".into()),
        ..UnixFsData::default()
    };
    let symlink = node(vec![], &target);
    let id = put(
        &store,
        &[symlink.clone(), directory(vec![link("s", symlink.cid())])],
    )
    .await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(
        matches!(&error, ContentError::Symlink { path } if path == "s"),
        "{error}"
    );
}

#[tokio::test]
async fn a_shard_twice_in_a_directory_is_refused() {
    let (dir, store) = store().await;
    let message = UnixFsData {
        kind: 5,
        fanout: Some(256),
        hash_type: Some(0x22),
        ..UnixFsData::default()
    };
    let inner = node(vec![link("01a", leaf(b"x").cid())], &message);
    let outer = node(vec![link("00", inner.cid()), link("01", inner.cid())], &message);
    let id = put(&store, &[leaf(b"x"), inner, outer]).await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(matches!(error, ContentError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_directory_is_not_fetched() {
    let (dir, store) = store().await;
    let id = put(&store, &[leaf(b"x"), file(&[(&leaf(b"x"), 1)])]).await;
    let error = fetch_fails(&store, &dir, id, &Limits::default()).await;
    assert!(matches!(error, ContentError::NotADirectory { .. }), "{error}");
}

#[tokio::test]
async fn only_a_new_or_empty_directory_is_filled() {
    let (dir, store) = store().await;
    let id = put(
        &store,
        &[leaf(b"x"), directory(vec![link("a", leaf(b"x").cid())])],
    )
    .await;
    let back = dir.path().join("back");
    std::fs::create_dir(&back).unwrap();
    store.fetch(id, &back, &Limits::default()).await.unwrap();
    let again = store.fetch(id, &back, &Limits::default()).await.unwrap_err();
    assert!(matches!(again, ContentError::Occupied { .. }), "{again}");
    assert_eq!(read_tree(&back).len(), 1);
    let nowhere = store
        .fetch(id, &dir.path().join("no/parent"), &Limits::default())
        .await
        .unwrap_err();
    assert!(matches!(nowhere, ContentError::Io { .. }), "{nowhere}");
}

#[tokio::test]
async fn cat_and_list_find_what_is_there() {
    let (dir, store) = store().await;
    let tree = dir.path().join("tree");
    let large = pattern(1_000_000);
    write_tree(
        &tree,
        &[
            ("a/large", &large, false),
            ("a/run", b"#!", true),
            ("b", b"", false),
        ],
    );
    let limits = Limits::default();
    let id = store.add(&pack_directory(&tree, &limits).unwrap()).await.unwrap();
    let read: Vec<bytes::Bytes> = store
        .cat(id, "a/large", &limits)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(read.concat(), large);
    assert!(read.len() > 3, "in pieces");
    let listed = store.list(id, "a", &limits).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|e| (e.name.as_str(), e.kind, e.size)).collect();
    let (plain, executable) = (
        EntryKind::File { executable: false },
        EntryKind::File { executable: true },
    );
    assert_eq!(listed, [("large", plain, 1_000_000), ("run", executable, 2)]);

    assert!(matches!(
        store.cat(id, "a", &limits).await.err(),
        Some(ContentError::NotAFile { .. })
    ));
    assert!(matches!(
        store.cat(id, "a/none", &limits).await.err(),
        Some(ContentError::NoSuchPath { .. })
    ));
    assert!(matches!(
        store.cat(id, "b/c", &limits).await.err(),
        Some(ContentError::NotADirectory { .. })
    ));
    assert!(matches!(
        store.list(id, "b", &limits).await.err(),
        Some(ContentError::NotADirectory { .. })
    ));
    let small = limits.with_bytes(999_999);
    assert!(matches!(
        store.cat(id, "a/large", &small).await.err(),
        Some(ContentError::Limit { .. })
    ));
}

#[tokio::test]
async fn a_codec_that_can_not_be_read_is_refused() {
    let (_dir, store) = store().await;
    let raw = Block::hashed(RAW_CODEC, "x".into());
    let cbor = Cid::new_v1(0x71, *raw.cid().hash());
    let error = resolve(&store, &cbor, "", &Limits::default()).await.unwrap_err();
    assert!(
        matches!(&error, ContentError::Block(e) if matches!(**e, BlockError::Unsupported { .. })),
        "{error}"
    );
}

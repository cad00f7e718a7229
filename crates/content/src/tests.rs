//! Helpers of this crate's own tests: stores in temporary directories, trees on disk, nodes built by hand.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use prost::Message;
use tempfile::TempDir;

use crate::block::Block;
use crate::embedded::{EmbeddedConfig, EmbeddedStore};
use crate::id::{ContentId, DAG_PB_CODEC, RAW_CODEC};
use crate::node::UnixFsData;
use crate::pack::{PackError, PackedTree};
use crate::store::ContentStore;

/// A store in a temporary directory that lives as long as the returned guard.
pub(crate) async fn store() -> (TempDir, EmbeddedStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(EmbeddedConfig::new(dir.path().join("store")))
        .await
        .unwrap();
    (dir, store)
}

/// Bytes that differ from chunk to chunk; the golden ids were made from the same.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from(((i >> 16) * 131 + (i >> 8) * 31 + i) & 0xff).unwrap())
        .collect()
}

/// Writes files (path, content, executable) below a directory.
pub(crate) fn write_tree(dir: &Path, files: &[(&str, &[u8], bool)]) {
    for (path, content, executable) in files {
        let at = dir.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, content).unwrap();
        let mode = if *executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A tree on disk: content and executable bit by path, none for a directory.
pub(crate) fn read_tree(dir: &Path) -> BTreeMap<String, Option<(Vec<u8>, bool)>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let about = std::fs::symlink_metadata(&path).unwrap();
            if about.is_dir() {
                found.insert(name, None);
                pending.push(path);
            } else {
                assert!(about.is_file(), "{name}");
                let executable = about.permissions().mode() & 0o111 != 0;
                found.insert(name, Some((std::fs::read(&path).unwrap(), executable)));
            }
        }
    }
    found
}

/// A link of a hand-made node.
pub(crate) fn link(name: &str, cid: Cid) -> PbLink {
    PbLink {
        cid,
        name: Some(name.to_owned()),
        size: Some(1),
    }
}

/// A dag-pb block of links and a UnixFS message, canonical.
pub(crate) fn node(links: Vec<PbLink>, message: &UnixFsData) -> Block {
    let node = PbNode {
        links,
        data: Some(message.encode_to_vec().into()),
    };
    Block::hashed(DAG_PB_CODEC, node.into_bytes().into())
}

/// A directory of these links.
pub(crate) fn directory(links: Vec<PbLink>) -> Block {
    node(
        links,
        &UnixFsData {
            kind: 1,
            ..UnixFsData::default()
        },
    )
}

/// A raw leaf.
pub(crate) fn leaf(content: &'static [u8]) -> Block {
    Block::hashed(RAW_CODEC, Bytes::from_static(content))
}

/// The CIDs of all blocks of a tree, in order.
pub(crate) fn cids_of(tree: &PackedTree) -> Vec<Cid> {
    let mut cids = Vec::new();
    let all = tree.each_block(|block| {
        cids.push(block.cid());
        Ok::<(), PackError>(())
    });
    all.unwrap();
    cids
}

/// Puts blocks and returns the id of the last, a root.
pub(crate) async fn put(store: &EmbeddedStore, blocks: &[Block]) -> ContentId {
    for block in blocks {
        store.put_block(block.clone()).await.unwrap();
    }
    ContentId::try_from(&blocks.last().unwrap().cid()).unwrap()
}

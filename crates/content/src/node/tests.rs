use proptest::prelude::*;

use super::*;
use crate::id::cid_of;
use crate::tests::{directory, leaf, link, node};

fn file_message(filesize: u64, blocksizes: Vec<u64>) -> UnixFsData {
    UnixFsData {
        kind: KIND_FILE,
        filesize: Some(filesize),
        blocksizes,
        ..UnixFsData::default()
    }
}

#[test]
fn a_raw_block_is_content() {
    let Node::File(file) = decode(&leaf(b"hello")).unwrap() else {
        panic!("no file")
    };
    assert_eq!(
        (file.data.as_ref(), file.size, file.executable),
        (b"hello".as_ref(), 5, false)
    );
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in ["../x", "/etc/passwd", "..", ".", "", "a\0b"] {
        let block = directory(vec![link(name, leaf(b"x").cid())]);
        assert!(matches!(decode(&block), Err(NodeError::Name { .. })), "{name:?}");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let block = directory(vec![link("a", leaf(b"x").cid()), link("a", leaf(b"y").cid())]);
    assert_eq!(decode(&block), Err(NodeError::Duplicate("a".into())));
}

#[test]
fn sizes_must_add_up() {
    let part = || link("", leaf(b"hello").cid());
    assert!(decode(&node(vec![part()], &file_message(5, vec![5]))).is_ok());
    for (filesize, blocksizes) in [(6, vec![5]), (5, vec![]), (0, vec![0]), (5, vec![5, 5])] {
        let block = node(vec![part()], &file_message(filesize, blocksizes.clone()));
        assert!(
            matches!(decode(&block), Err(NodeError::Sizes(_))),
            "{filesize} {blocksizes:?}"
        );
    }
    let overflow = node(vec![part(), part()], &file_message(0, vec![u64::MAX, 2]));
    assert!(matches!(decode(&overflow), Err(NodeError::Sizes(_))));
}

#[test]
fn only_the_canonical_encoding_is_read() {
    let good = directory(vec![link("a", leaf(b"x").cid()), link("b", leaf(b"y").cid())]);
    assert!(decode(&good).is_ok());
    // the same node, its data field in front of its links
    let bytes = good.bytes();
    let data_at = bytes.len() - 4;
    let swapped = [&bytes[data_at..], &bytes[..data_at]].concat();
    assert!(PbNode::from_bytes(swapped.clone().into()).is_ok());
    let swapped = Block::hashed(DAG_PB_CODEC, swapped.into());
    assert_eq!(decode(&swapped), Err(NodeError::NotCanonical));
}

#[test]
fn shards_of_another_shape_are_refused() {
    let message = |fanout, hash_type| UnixFsData {
        kind: 5,
        fanout,
        hash_type,
        ..UnixFsData::default()
    };
    let shard = |name: &str| {
        node(
            vec![link(name, leaf(b"x").cid())],
            &message(Some(256), Some(0x22)),
        )
    };
    assert!(matches!(decode(&shard("0Fname")), Ok(Node::Shard(_))));
    assert!(matches!(decode(&shard("0F../x")), Err(NodeError::Name { .. })));
    assert!(matches!(decode(&shard("zzname")), Err(NodeError::ShardPrefix(_))));
    assert!(matches!(decode(&shard("ä")), Err(NodeError::ShardPrefix(_))));
    let other = node(vec![], &message(Some(1 << 60), Some(0x22)));
    assert!(matches!(decode(&other), Err(NodeError::ShardShape { .. })));
}

#[test]
fn unknown_kinds_are_refused() {
    for kind in [3, 6, -1, i32::MAX] {
        let block = node(
            vec![],
            &UnixFsData {
                kind,
                ..UnixFsData::default()
            },
        );
        assert_eq!(decode(&block), Err(NodeError::Kind(kind)));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _either = decode(&Block::hashed(DAG_PB_CODEC, bytes.into()));
    }

    #[test]
    fn no_damaged_node_makes_it_panic(at in 0_usize..100, with in any::<u8>(), cut in 0_usize..100) {
        let parts = (0..2).map(|n| link("name", cid_of(RAW_CODEC, [n; 32]))).collect();
        let mut bytes = node(parts, &file_message(7, vec![3, 4])).into_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        bytes.truncate(bytes.len() - cut % bytes.len());
        let _either = decode(&Block::hashed(DAG_PB_CODEC, bytes.into()));
    }

    #[test]
    fn no_message_makes_it_panic(data in proptest::collection::vec(any::<u8>(), 0..64)) {
        let node = PbNode { links: vec![], data: Some(data.into()) };
        let _either = decode(&Block::hashed(DAG_PB_CODEC, node.into_bytes().into()));
    }
}

mod any;
mod file;
mod form;
mod vectors;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{ClassId, Sha256Hex};

fn header() -> TraceHeader {
    TraceHeader {
        class: ClassId([0; 32]),
        image: None,
        seed: [0; 32],
        limits: TraceLimits {
            memory_bytes: 512 << 20,
            processes: 32,
            open_files: 256,
            tmpfs_bytes: 100 << 20,
            inodes: 16_384,
            output_bytes: 10 << 20,
            virtual_nanos: 0,
        },
        argv: vec!["/usr/bin/python3".into(), "main.py".into()],
        env: BTreeMap::from([("LC_ALL".into(), "C.UTF-8".into()), ("TZ".into(), "UTC".into())]),
        input_tree: tree_root(&files(&[("main.py", b"print(1)\n")])),
    }
}

fn files(list: &[(&str, &[u8])]) -> BTreeMap<BundlePath, InputFile> {
    list.iter()
        .map(|(name, bytes)| {
            let file = InputFile {
                sha256: Sha256Hex::of(bytes),
                size_bytes: bytes.len() as u64,
            };
            (BundlePath::parse(name).unwrap(), file)
        })
        .collect()
}

fn trace(stdout: &[u8], stderr: &[u8]) -> Trace {
    let files = files(&[("out/table.csv", b"a,b\n")]);
    let result = RunResult {
        stdout,
        stderr,
        files: &files,
        outcome: RunOutcome::Exited,
        status: Some(ExitStatus::Code(0)),
    };
    Trace::of_untraced(header(), result)
}

/// The definition in RFC 6962, literally.
fn naive_root(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => Sha256::digest([&[0], leaf.as_slice()].concat()).into(),
        many => {
            let split = 1 << (many.len() - 1).ilog2();
            let (left, right) = (naive_root(&many[..split]), naive_root(&many[split..]));
            Sha256::digest([&[1], left.as_slice(), right.as_slice()].concat()).into()
        }
    }
}

#[test]
fn streams_are_cut_by_offset() {
    let long = vec![7; STREAM_CHUNK + 1];
    let events = trace(&long, b"e").events;
    let cuts: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            TraceEvent::Chunk {
                stream,
                offset,
                length,
                ..
            } => Some((*stream, *offset, *length)),
            TraceEvent::Task { .. } | TraceEvent::OutputTree { .. } | TraceEvent::Exit { .. } => None,
        })
        .collect();
    assert_eq!(
        cuts,
        [
            (Stream::Stdout, 0, 65_536),
            (Stream::Stdout, 65_536, 1),
            (Stream::Stderr, 0, 1)
        ]
    );
}

#[test]
fn bisection_finds_the_first_difference() {
    let (a, mut b) = (
        trace(&[1; 3 * STREAM_CHUNK], b""),
        trace(&[1; 3 * STREAM_CHUNK], b""),
    );
    b.events[2] = TraceEvent::OutputTree { root: [9; 32] };
    assert_eq!(a.root_at(2), b.root_at(2));
    assert_ne!(a.root_at(3), b.root_at(3));
    assert_ne!(a.root(), b.root());
    assert_eq!(a.root_at(usize::MAX), a.root());
}

proptest! {
    #[test]
    fn root_is_the_one_of_the_rfc(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..40)) {
        prop_assert_eq!(merkle_root(&leaves), naive_root(&leaves));
    }

    #[test]
    fn different_streams_have_different_roots(a in prop::collection::vec(any::<u8>(), 0..9), b in prop::collection::vec(any::<u8>(), 0..9)) {
        prop_assume!(a != b);
        prop_assert_ne!(trace(&a, &b).root(), trace(&b, &a).root());
        prop_assert_ne!(output_root(&a, &b, &BTreeMap::new()), output_root(&b, &a, &BTreeMap::new()));
    }
}

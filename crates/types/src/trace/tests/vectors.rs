//! The test vectors of the specification are what this code makes.

use super::{files, header, trace};
use crate::*;

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/trace.md"));

fn path(text: &str) -> TracePath {
    TracePath::of(text.as_bytes())
}

/// One event of each kind, by the name that the specification has for it.
fn events() -> Vec<(&'static str, TaskEvent)> {
    let content = FileHash::of(b"a,b\n");
    let (one, other) = (path("/work/a"), path("/work/b"));
    let tree = |change| TaskEvent::Tree(change);
    vec![
        (
            "task started",
            TaskEvent::Started {
                parent: TaskId(1),
                kind: TaskKind::Thread,
            },
        ),
        (
            "process ended",
            TaskEvent::Ended {
                end: TaskEnd::Signal(9),
            },
        ),
        (
            "exec",
            TaskEvent::Exec {
                path: path("/usr/bin/python3"),
                program: content,
                argv: list_hash(&["python3", "main.py"]),
                env: list_hash(&["TZ=UTC"]),
            },
        ),
        (
            "file read",
            TaskEvent::FileRead {
                path: one.clone(),
                content,
            },
        ),
        (
            "file written",
            TaskEvent::FileWritten {
                path: one.clone(),
                content,
            },
        ),
        (
            "made",
            tree(TreeChange::Made {
                kind: NodeKind::Directory,
                path: one.clone(),
            }),
        ),
        (
            "symbolic link made",
            tree(TreeChange::Symlinked {
                target: path("a"),
                path: other.clone(),
            }),
        ),
        (
            "linked",
            tree(TreeChange::Linked {
                from: one.clone(),
                path: other.clone(),
            }),
        ),
        ("removed", tree(TreeChange::Removed { path: one.clone() })),
        (
            "directory removed",
            tree(TreeChange::RemovedDirectory { path: one.clone() }),
        ),
        (
            "renamed",
            tree(TreeChange::Renamed {
                from: one.clone(),
                path: other.clone(),
            }),
        ),
        (
            "exchanged",
            tree(TreeChange::Exchanged {
                from: one.clone(),
                path: other,
            }),
        ),
        (
            "mode changed",
            tree(TreeChange::Mode {
                mode: 0o644,
                path: one.clone(),
            }),
        ),
        (
            "length changed by name",
            tree(TreeChange::Resized { length: 2, path: one }),
        ),
        (
            "entropy drawn",
            TaskEvent::Entropy {
                source: EntropySource::Call,
                bytes: 2500,
            },
        ),
        ("call denied", TaskEvent::Denied { call: 101, errno: 1 }),
    ]
}

fn traced_header() -> TraceHeader {
    let mut class = [0; 32];
    class[0] = 1;
    TraceHeader {
        class: ClassId(class),
        image: Some(ContentDigest([7; 32])),
        seed: [2; 32],
        limits: TraceLimits {
            virtual_nanos: 300_000_000_000,
            ..header().limits
        },
        ..header()
    }
}

fn version_1() -> Vec<(&'static str, String)> {
    let one = trace(b"1\n", b"");
    let outputs = files(&[("out/table.csv", b"a,b\n")]);
    vec![
        (
            "merkle root of no leaves",
            hex::encode(merkle_root::<Vec<u8>>(&[])),
        ),
        (
            "merkle root of the leaves 00, 01, 02",
            hex::encode(merkle_root(&[[0], [1], [2]])),
        ),
        ("input tree", hex::encode(header().input_tree)),
        ("header", hex::encode(header().encode())),
        ("chunk", hex::encode(one.events[0].encode())),
        ("output tree", hex::encode(one.events[1].encode())),
        ("exit", hex::encode(one.events[2].encode())),
        ("trace root", hex::encode(one.root().0)),
        ("output root", hex::encode(output_root(b"1\n", b"", &outputs).0)),
    ]
}

fn version_2() -> Vec<(&'static str, String)> {
    let tasks = events().into_iter().map(|(name, event)| {
        let task = TaskId(2);
        (name, TraceEvent::Task { task, event })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut vectors = vec![("header, version 2", hex::encode(traced_header().encode()))];
    vectors.extend(
        tasks
            .iter()
            .map(|(name, event)| (*name, hex::encode(event.encode()))),
    );
    let ending = trace(b"1\n", b"").events;
    let tasks = tasks.into_iter().map(|(_, event)| event);
    let whole = Trace {
        header: traced_header(),
        events: tasks.chain(ending).collect(),
    };
    let mut file = Vec::new();
    let mut writer = TraceWriter::new(&mut file, &whole.header).unwrap();
    whole.events.iter().for_each(|event| writer.event(event).unwrap());
    writer.finish().unwrap();
    let outputs = files(&[("out/table.csv", b"a,b\n")]);
    let leaves = OutputLeaves::new(FileHash::of(b"1\n"), FileHash::of(b""), &outputs);
    let name = OutputName::File(BundlePath::parse("out/table.csv").unwrap());
    let proof = leaves.proof(&name).unwrap();
    vectors.extend([
        ("trace root, version 2", hex::encode(whole.root().0)),
        ("SHA-256 of the file", Sha256Hex::of(&file).to_string()),
        ("proof", serde_json::to_string(&proof).unwrap()),
    ]);
    vectors
}

#[test]
fn the_specification_has_these_vectors() {
    let vectors = version_1().into_iter().chain(version_2());
    let lines = vectors.map(|(name, value)| format!("{name}: {value}"));
    let missing: Vec<_> = lines
        .filter(|line| !DOCUMENT.lines().any(|l| l.trim() == *line))
        .collect();
    assert!(missing.is_empty(), "docs/trace.md lacks\n{}", missing.join("\n"));
}

#[test]
fn every_tag_is_in_the_specification() {
    for (name, event) in events() {
        let tag = TraceEvent::Task {
            task: TaskId(1),
            event,
        }
        .encode()[0];
        let row = format!("| {name} | `{tag:02x}` |");
        assert!(
            DOCUMENT.lines().any(|line| line.starts_with(&row)),
            "no row {row}"
        );
    }
}

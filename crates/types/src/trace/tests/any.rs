//! Any header and any event, for properties.

use proptest::prelude::*;

use crate::*;

fn hash() -> impl Strategy<Value = Sha256Hex> {
    any::<[u8; 32]>().prop_map(Sha256Hex)
}

fn content() -> impl Strategy<Value = FileHash> {
    (any::<u64>(), hash()).prop_map(|(length, sha256)| FileHash { length, sha256 })
}

fn path() -> impl Strategy<Value = TracePath> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| TracePath::of(&bytes))
}

fn change() -> impl Strategy<Value = TreeChange> {
    let kind = prop::sample::select(vec![
        NodeKind::File,
        NodeKind::Directory,
        NodeKind::Fifo,
        NodeKind::Socket,
    ]);
    (0..9, kind, path(), path(), 0..0o10000_u16, any::<u64>()).prop_map(
        |(which, kind, from, path, mode, length)| match which {
            0 => TreeChange::Made { kind, path },
            1 => TreeChange::Symlinked { target: from, path },
            2 => TreeChange::Linked { from, path },
            3 => TreeChange::Removed { path },
            4 => TreeChange::RemovedDirectory { path },
            5 => TreeChange::Renamed { from, path },
            6 => TreeChange::Exchanged { from, path },
            7 => TreeChange::Mode { mode, path },
            _ => TreeChange::Resized { length, path },
        },
    )
}

fn task_event() -> impl Strategy<Value = TaskEvent> {
    let source = prop::sample::select(vec![
        EntropySource::Auxiliary,
        EntropySource::Call,
        EntropySource::Device,
    ]);
    prop_oneof![
        (any::<u32>(), any::<bool>()).prop_map(|(parent, is_thread)| TaskEvent::Started {
            parent: TaskId(parent),
            kind: if is_thread {
                TaskKind::Thread
            } else {
                TaskKind::Process
            },
        }),
        any::<u8>().prop_map(|code| TaskEvent::Ended {
            end: TaskEnd::Code(code)
        }),
        any::<u8>().prop_map(|signal| TaskEvent::Ended {
            end: TaskEnd::Signal(signal)
        }),
        (path(), content(), hash(), hash()).prop_map(|(path, program, argv, env)| TaskEvent::Exec {
            path,
            program,
            argv,
            env
        }),
        (path(), content()).prop_map(|(path, content)| TaskEvent::FileRead { path, content }),
        (path(), content()).prop_map(|(path, content)| TaskEvent::FileWritten { path, content }),
        change().prop_map(TaskEvent::Tree),
        (source, any::<u64>()).prop_map(|(source, bytes)| TaskEvent::Entropy { source, bytes }),
        (any::<u32>(), any::<u16>()).prop_map(|(call, errno)| TaskEvent::Denied { call, errno }),
    ]
}

fn status() -> impl Strategy<Value = Option<ExitStatus>> {
    prop_oneof![
        Just(None),
        Just(Some(ExitStatus::Memory)),
        Just(Some(ExitStatus::Budget)),
        any::<u8>().prop_map(|code| Some(ExitStatus::Code(code))),
        any::<u8>().prop_map(|signal| Some(ExitStatus::Signal(signal))),
    ]
}

/// An event of a task.
pub(super) fn task() -> impl Strategy<Value = TraceEvent> {
    (any::<u32>(), task_event()).prop_map(|(task, event)| TraceEvent::Task {
        task: TaskId(task),
        event,
    })
}

/// Any event.
pub(super) fn event() -> impl Strategy<Value = TraceEvent> {
    let streams = prop::sample::select(vec![Stream::Stdout, Stream::Stderr]);
    let outcomes = prop::sample::select(vec![
        RunOutcome::Exited,
        RunOutcome::Signalled,
        RunOutcome::Timeout,
        RunOutcome::Memory,
        RunOutcome::OutputLimit,
        RunOutcome::Budget,
        RunOutcome::Refused,
        RunOutcome::Internal,
    ]);
    prop_oneof![
        4 => task(),
        1 => (streams, 0..u64::MAX / 65_536, 1..=65_536_u32, hash()).prop_map(
            |(stream, at, length, sha256)| TraceEvent::Chunk {
                stream,
                offset: at * 65_536,
                length,
                sha256
            }
        ),
        1 => any::<[u8; 32]>().prop_map(|root| TraceEvent::OutputTree { root }),
        1 => (outcomes, status()).prop_map(|(outcome, status)| TraceEvent::Exit { outcome, status }),
    ]
}

/// Any header, of either version.
pub(super) fn header() -> impl Strategy<Value = TraceHeader> {
    let limits = (
        any::<[u64; 4]>(),
        any::<[u32; 2]>(),
        prop_oneof![Just(0), any::<u64>()],
    );
    let limits = limits.prop_map(|(long, short, virtual_nanos)| TraceLimits {
        memory_bytes: long[0],
        processes: short[0],
        open_files: short[1],
        tmpfs_bytes: long[1],
        inodes: long[2],
        output_bytes: long[3],
        virtual_nanos,
    });
    let class = (0..3_u8, any::<[u8; 32]>()).prop_map(|(kind, mut id)| {
        id[0] = kind;
        ClassId(id)
    });
    let argv = prop::collection::vec(".{0,6}", 0..4);
    let env = prop::collection::btree_map(".{0,4}", ".{0,6}", 0..4);
    let image = prop::option::of(any::<[u8; 32]>().prop_map(ContentDigest));
    (
        class,
        image,
        any::<[u8; 32]>(),
        limits,
        argv,
        env,
        any::<[u8; 32]>(),
    )
        .prop_map(
            |(class, image, seed, limits, argv, env, input_tree)| TraceHeader {
                class,
                image,
                seed,
                limits,
                argv,
                env,
                input_tree,
            },
        )
}

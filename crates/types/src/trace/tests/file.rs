//! The file of a trace: what is written is read, what was changed is refused, and the first difference is found.

use proptest::prelude::*;

use super::any;
use crate::*;

fn written(path: &str) -> TraceEvent {
    TraceEvent::Task {
        task: TaskId(1),
        event: TaskEvent::FileWritten {
            path: TracePath::of(path.as_bytes()),
            content: FileHash::of(path.as_bytes()),
        },
    }
}

fn traced_header() -> TraceHeader {
    TraceHeader {
        class: ClassId([1; 32]),
        ..super::header()
    }
}

fn ending() -> Vec<TraceEvent> {
    super::trace(b"1\n", b"").events
}

/// The file of a traced run with these events of tasks.
fn file(tasks: &[TraceEvent]) -> (Vec<u8>, TraceFileSummary) {
    let mut bytes = Vec::new();
    let mut writer = TraceWriter::new(&mut bytes, &traced_header()).unwrap();
    for event in tasks.iter().chain(&ending()) {
        writer.event(event).unwrap();
    }
    let summary = writer.finish().unwrap();
    (bytes, summary)
}

fn read(bytes: &[u8]) -> Result<Vec<TraceLeaf>, TraceFileError> {
    TraceReader::new(bytes)?.collect()
}

/// The first difference, and how often the left file was read.
fn diff(left: &[u8], right: &[u8]) -> Result<(Option<Box<Difference>>, u32), TraceFileError> {
    let mut diff = TraceDiff::new(left.len() as u64, right.len() as u64);
    loop {
        match diff.step()? {
            DiffStep::Done(found) => return Ok((found, diff.reads(Side::Left))),
            DiffStep::Read(side, range) => {
                let from = match side {
                    Side::Left => left,
                    Side::Right => right,
                };
                let begin = usize::try_from(range.offset).unwrap();
                let end = begin + usize::try_from(range.length).unwrap();
                diff.feed(from.get(begin..end).unwrap_or_default())?;
            }
        }
    }
}

fn many(count: usize) -> Vec<TraceEvent> {
    (0..count)
        .map(|number| written(&format!("/work/{number}")))
        .collect()
}

#[test]
fn a_difference_far_inside_is_found_with_few_reads() {
    let left = many(50_000);
    let mut right = left.clone();
    right[37_777] = written("/work/other");
    let (left, right) = (file(&left).0, file(&right).0);
    let (found, reads) = diff(&left, &right).unwrap();
    let found = found.unwrap();
    // the header is leaf 0
    assert_eq!(found.leaf, 37_778);
    assert_eq!(found.before.len(), 3);
    assert_eq!(found.left, Some(TraceLeaf::Event(written("/work/37777"))));
    assert_eq!(found.right, Some(TraceLeaf::Event(written("/work/other"))));
    // the end, the index, the block
    assert_eq!(reads, 3);
}

#[test]
fn a_file_that_is_written_and_deleted_changes_the_root_and_is_named() {
    let removed = TraceEvent::Task {
        task: TaskId(1),
        event: TaskEvent::Tree(TreeChange::Removed {
            path: TracePath::of(b"/tmp/secret"),
        }),
    };
    let (plain, plain_summary) = file(&many(3));
    let with = [many(3), vec![written("/tmp/secret"), removed]].concat();
    let (other, other_summary) = file(&with);
    assert_ne!(plain_summary.root, other_summary.root);
    let found = diff(&plain, &other).unwrap().0.unwrap();
    assert!(
        found.right.unwrap().to_string().contains("/tmp/secret"),
        "names the file"
    );
}

#[test]
fn leaves_out_of_order_are_refused() {
    let [chunk, tree, exit] = <[TraceEvent; 3]>::try_from(ending()).unwrap();
    let write = |header: &TraceHeader, events: &[&TraceEvent]| {
        let mut bytes = Vec::new();
        let mut writer = TraceWriter::new(&mut bytes, header).unwrap();
        for event in events {
            writer.event(event).unwrap();
        }
        writer.finish().unwrap();
        read(&bytes)
    };
    let task = written("/a");
    let (traced, native) = (traced_header(), super::header());
    assert!(write(&traced, &[&task, &chunk, &tree, &exit]).is_ok());
    assert!(write(&native, &[&chunk, &tree, &exit]).is_ok());
    for events in [
        vec![&chunk, &task, &tree, &exit],
        vec![&chunk, &chunk, &tree, &exit],
        vec![&tree, &chunk, &exit],
        vec![&tree, &exit, &task],
        vec![&tree, &tree, &exit],
        vec![&exit],
        vec![&tree],
        vec![],
    ] {
        let found = write(&traced, &events);
        assert!(matches!(found, Err(TraceFileError::Order(_))), "{found:?}");
    }
    let found = write(&native, &[&task, &tree, &exit]);
    assert!(matches!(found, Err(TraceFileError::Order(1))), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_is_read_as_it_was_written(tasks in prop::collection::vec(any::task(), 0..600)) {
        let (bytes, summary) = file(&tasks);
        let trace = Trace { header: traced_header(), events: [tasks, ending()].concat() };
        prop_assert_eq!(summary.root, trace.root());
        prop_assert_eq!(summary.leaves, trace.events.len() as u64 + 1);
        prop_assert_eq!(summary.bytes, bytes.len() as u64);
        let end = FileEnd::range(summary.bytes).unwrap();
        let end = FileEnd::parse(&bytes[usize::try_from(end.offset).unwrap()..], summary.bytes).unwrap();
        prop_assert_eq!((end.root(), end.leaves()), (summary.root, summary.leaves));
        let events = trace.events.into_iter().map(TraceLeaf::Event);
        let leaves: Vec<_> = [TraceLeaf::Header(trace.header)].into_iter().chain(events).collect();
        prop_assert_eq!(read(&bytes).unwrap(), leaves);
    }

    #[test]
    fn a_changed_file_is_refused(count in 0_usize..600, at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut bytes = file(&many(count)).0;
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn an_index_that_does_not_make_up_the_root_steers_nothing(
        count in 1_usize..1500, block in any::<prop::sample::Index>(), at in 8_usize..72, by in 1..=255_u8,
    ) {
        let (left, summary) = file(&many(count));
        let mut right = left.clone();
        let blocks = usize::try_from(summary.leaves.div_ceil(TRACE_BLOCK)).unwrap();
        // the hash or the root of any block, and another root at the end, without which nothing is compared
        let index = right.len() - 64 - 72 * blocks;
        right[index + 72 * block.index(blocks) + at] ^= by;
        prop_assert!(diff(&left, &right).unwrap().0.is_none());
        let root = right.len() - 40;
        right[root] ^= 1;
        prop_assert!(matches!(diff(&left, &right), Err(TraceFileError::Changed(_))));
        prop_assert!(matches!(diff(&right, &left), Err(TraceFileError::Changed(_))));
    }

    #[test]
    fn a_cut_file_is_refused(count in 0_usize..600, at in any::<prop::sample::Index>()) {
        let bytes = file(&many(count)).0;
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(read(cut).is_err());
        prop_assert!(diff(cut, &bytes).is_err());
    }

    #[test]
    fn the_first_difference_is_found(left in prop::collection::vec(0..3_u8, 0..40), right in prop::collection::vec(0..3_u8, 0..40), shared in 0_usize..1100) {
        let of = |own: &[u8]| -> Vec<TraceEvent> {
            many(shared).into_iter().chain(own.iter().map(|it| written(&format!("/{it}")))).collect()
        };
        let (a, b) = (of(&left), of(&right));
        let found = diff(&file(&a).0, &file(&b).0).unwrap().0;
        let whole = |tasks: Vec<TraceEvent>| [tasks, ending()].concat();
        let (a, b) = (whole(a), whole(b));
        let first = (0..a.len().max(b.len())).find(|at| a.get(*at) != b.get(*at));
        match (first, found) {
            (None, None) => {}
            (Some(first), Some(found)) => {
                prop_assert_eq!(found.leaf, first as u64 + 1);
                prop_assert_eq!(found.left, a.get(first).cloned().map(TraceLeaf::Event));
                prop_assert_eq!(found.right, b.get(first).cloned().map(TraceLeaf::Event));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

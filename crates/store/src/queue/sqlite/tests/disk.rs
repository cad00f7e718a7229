//! What disks do: power cuts, syncs that fail, and what is in memory alone.

use super::*;
use crate::queue::{LogPiece, LogStream, NodeRow, OutputRef};
use sandrun_types::OutputRoot;

/// The batches that one of the journal's files has.
fn in_journal(path: &Path, mark: &[u8; MARK]) -> usize {
    replay::batches(&std::fs::read(path).unwrap(), mark, path)
        .unwrap()
        .len()
}

fn mark(shared: &Shared) -> [u8; MARK] {
    standing(&shared.connect().unwrap()).unwrap().0
}

#[test]
fn a_start_brings_the_log_of_the_former_process_into_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let (mut former, shared) = store(folder.path());
    for number in 1..=3 {
        former.transact(&mut |_| batch(number, 10)).unwrap();
    }
    shared.settling.settle_all("test").unwrap();
    // as a kill leaves them
    let next = tempfile::tempdir().unwrap();
    for name in [
        "queue.sqlite",
        "queue.sqlite-wal",
        "queue.sqlite.journal-0",
        "queue.sqlite.journal-1",
    ] {
        std::fs::copy(folder.path().join(name), next.path().join(name)).unwrap();
    }
    let (_store, _shared) = store(next.path());
    // a log that could not be synced is not on the disk, whatever is read from it
    let disk = tempfile::tempdir().unwrap();
    let tables = disk.path().join("queue.sqlite");
    std::fs::copy(next.path().join("queue.sqlite"), &tables).unwrap();
    let tables = open_database(&tables, MIGRATIONS).unwrap();
    assert_eq!(standing(&tables).unwrap().1, 3);
}

#[test]
fn what_was_taken_back_in_memory_alone_never_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.sqlite");
    leave_behind(folder.path(), 1..=3);
    // they lie in the second file
    let [first, second] = Names::fresh(&path).journal;
    std::fs::rename(&first, folder.path().join("first")).unwrap();
    std::fs::rename(&second, &first).unwrap();
    std::fs::rename(folder.path().join("first"), &second).unwrap();
    let on_disk = std::fs::read(&second).unwrap();
    let lead = journal::HEADER;
    let length = u32::from_le_bytes(*on_disk[lead + 8..].first_chunk().unwrap());
    let second_record = lead + journal::LEAD + usize::try_from(length).unwrap();
    // 2 and 3 could not be synced; zeros went over them, and could not be synced either
    let mut in_memory = on_disk.clone();
    in_memory[second_record..].fill(0);
    std::fs::write(&second, in_memory).unwrap();

    let (mut next, shared) = store(folder.path());
    let mark = mark(&shared);
    assert_eq!(next.load().unwrap().last_job, 1);
    assert_eq!((in_journal(&first, &mark), in_journal(&second, &mark)), (0, 0));
    next.transact(&mut |_| batch(2, 100)).unwrap();
    drop((next, shared));
    // the power is cut: what was never synced is as it was
    let mut after = std::fs::read(&second).unwrap();
    after[second_record..].copy_from_slice(&on_disk[second_record..]);
    std::fs::write(&second, after).unwrap();
    let (mut last, _shared) = store(folder.path());
    let found = last.load().unwrap();
    assert_eq!(
        (found.last_job, found.jobs.len()),
        (2, 2),
        "nobody was told of a third"
    );
    assert_eq!(last.requests(&[JobNumber(2)]).unwrap()[0].1.len(), 100);
}

#[test]
fn tables_that_cannot_be_synced_go_on_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, shared) = store(folder.path());
    store.transact(&mut |_| batch(1, 10)).unwrap();
    shared.settling.durable(1, "test").unwrap();
    shared.log.fail();
    for number in 2..=20 {
        store.transact(&mut |_| batch(number, 10)).unwrap();
        assert!(store.job(JobNumber(number)).unwrap().is_some());
        let error = shared.settling.durable(number, "test").unwrap_err();
        assert!(
            matches!(&error, QueueStoreError::Undone(error) if matches!(**error, QueueStoreError::Sync { .. })),
            "{error:?}"
        );
    }
}

/// Everything that a batch of the former format may hold.
fn former_batch() -> Writes {
    let mut writes = batch(1, 3);
    let new = &mut writes.new_jobs[0];
    (new.blobs, new.parents) = (vec![BlobHash([0xab; 32])], vec![JobNumber(300)]);
    new.idempotency = Some("k".to_owned());
    let state = &mut writes.jobs[0];
    (state.open, state.word) = (false, JobWord::Completed);
    (state.node, state.attempt) = (Some(NodeNumber(5)), Some(Attempt::FIRST));
    (state.started, state.ended) = (Some(6), Some(1_700_000_000_000));
    state.reason = Some("r".to_owned());
    writes.nodes = vec![NodeRow {
        number: NodeNumber(5),
        id: "n".to_owned(),
        endpoint: "e".to_owned(),
        announced: vec![1],
        heard: 9,
        completed: 2,
        failed: 1,
        snapshot: vec![3],
    }];
    writes.answers = vec![Answer {
        job: JobNumber(1),
        attempt: Attempt::FIRST,
        node: NodeNumber(5),
        exit_code: Some(-1),
        stdout: b"out".to_vec(),
        stderr: Vec::new(),
        outputs: vec![OutputRef {
            path: "p".to_owned(),
            size: 200,
            blob: BlobHash([1; 32]),
        }],
        receipt: Some(vec![4]),
        signature: None,
        details: b"{}".to_vec(),
        output_root: Some(OutputRoot([2; 32])),
    }];
    writes.logs = vec![LogPiece {
        job: JobNumber(1),
        attempt: Attempt::FIRST,
        stream: LogStream::Stderr,
        from: 0,
        bytes: b"log".to_vec(),
    }];
    writes
}

/// That one, as the version that knew no other format wrote it.
const FORMER: &str = "\
    010103616e6e010101010403070707014061626162616261626162616261626162616261626162616261626162616261\
    62616261626162616261626162616261626162616261626162616261626162616201ac0201016b010100030101720105\
    010101060180d095ffbc3101010105016e016501010902010103010101050101036f757400010170c801403031303130\
    313031303130313031303130313031303130313031303130313031303130313031303130313031303130313031303130\
    313031303130313031303101010400027b7d014230783032303230323032303230323032303230323032303230323032\
    30323032303230323032303230323032303230323032303230323032303230323032303230320101010100036c6f67";

#[test]
fn a_batch_that_a_former_version_wrote_is_read_whole() {
    let byte = |at: usize| u8::from_str_radix(&FORMER[at..at + 2], 16).unwrap();
    let body: Vec<u8> = (0..FORMER.len()).step_by(2).map(byte).collect();
    assert_eq!(replay::former(&body).unwrap(), former_batch());
}

/// As a former version named it.
fn rename_as_former(path: &Path) {
    let Names { lock, journal } = Names::fresh(path);
    for (file, end) in journal
        .iter()
        .chain([&lock])
        .zip(["journal-0", "journal-1", "lock"])
    {
        std::fs::rename(file, path.with_extension(end)).unwrap();
    }
}

async fn numbers(path: &Path) -> Vec<u64> {
    let (mut store, _reader) = open(path).await.unwrap();
    store
        .load()
        .unwrap()
        .jobs
        .iter()
        .map(|job| job.number.0)
        .collect()
}

#[tokio::test]
async fn two_databases_of_one_folder_have_journals_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("q.db"), folder.path().join("q.sqlite"));
    let (mut one, _reader) = open(&first).await.unwrap();
    let (mut two, _other) = open(&second).await.unwrap();
    one.transact(&mut |_| batch(1, 10)).unwrap();
    two.transact(&mut |_| batch(2, 10)).unwrap();
    drop((one, two, _reader, _other));
    assert_eq!(
        (numbers(&first).await, numbers(&second).await),
        (vec![1], vec![2])
    );

    // the one has its journal from a former version, under the name that both would have had
    rename_as_former(&first);
    let former = [
        first.with_extension("journal-0"),
        first.with_extension("journal-1"),
    ];
    let tables = open_database(&first, MIGRATIONS).unwrap();
    let (mark, settled) = standing(&tables).unwrap();
    let (mut journal, _) = Journal::open(former, mark, 7, settled).unwrap();
    let mut record = journal::Record::of(&batch(3, 10)).unwrap();
    journal.write(&mut record).unwrap();
    drop((journal, tables));
    assert_eq!(Names::find(&first).lock, folder.path().join("q.lock"));
    assert_eq!(Names::find(&second), Names::fresh(&second));
    assert_eq!(numbers(&second).await, [2]);
    assert_eq!(numbers(&first).await, [1, 3]);
    // a start has emptied it
    assert_eq!(numbers(&second).await, [2]);
    let (mut one, _reader) = open(&first).await.unwrap();
    one.transact(&mut |_| batch(4, 10)).unwrap();
    drop((one, _reader));
    // alone in its folder it would be the journal of the wrong backup
    std::fs::rename(&second, &first).unwrap();
    let error = open(&first).await.err().unwrap();
    assert!(matches!(error, QueueStoreError::Mixed(_)), "{error:?}");
}

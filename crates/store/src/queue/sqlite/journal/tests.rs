use super::super::names::Names;
use super::*;
use crate::queue::ClientRow;
use sandrun_core::pool::ClientNumber;
use std::sync::atomic::{AtomicU64, Ordering};

fn paths(path: &Path) -> [PathBuf; 2] {
    Names::fresh(path).journal
}

const OURS: [u8; MARK] = [7; MARK];

fn batch(number: u32, bytes: usize) -> Writes {
    Writes {
        clients: vec![ClientRow {
            number: ClientNumber(number),
            name: "x".repeat(bytes),
        }],
        ..Writes::default()
    }
}

fn open(folder: &Path, settled: u64) -> (Journal, Vec<(u64, Writes)>) {
    Journal::open(paths(&folder.join("q.sqlite")), OURS, fresh_salt(), settled).unwrap()
}

/// Never the same twice.
fn fresh_salt() -> u64 {
    static SALT: AtomicU64 = AtomicU64::new(1);
    SALT.fetch_add(1 << 32, Ordering::Relaxed)
}

fn append(journal: &mut Journal, writes: &Writes) -> u64 {
    let mut record = Record::of(writes).unwrap();
    if !journal.has_room(&record) {
        journal.turn();
    }
    journal.write(&mut record).unwrap();
    journal.synced(journal.unsynced().1);
    journal.last()
}

#[test]
fn batches_come_back_in_their_order_and_a_torn_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, before) = open(folder.path(), 0);
    assert!(before.is_empty());
    let written: Vec<(u64, Writes)> = (1..=5)
        .map(|number| (u64::from(number), batch(number, 100)))
        .collect();
    for (id, writes) in &written {
        assert_eq!(append(&mut journal, writes), *id);
    }
    let end = journal.at;
    drop(journal);
    assert_eq!(open(folder.path(), 0).1, written);
    assert_eq!(open(folder.path(), 3).1, written[3..]);
    assert_eq!(open(folder.path(), 5).0.next, 6);
    for at in [end - 1, end - 50, end - 110] {
        let file = OpenOptions::new()
            .write(true)
            .open(&paths(&folder.path().join("q.sqlite"))[0]);
        file.unwrap().write_all_at(b"!", at).unwrap();
        assert_eq!(open(folder.path(), 0).1, written[..4], "torn at {at}");
    }
}

#[test]
fn what_a_sync_did_not_keep_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path(), 0);
    append(&mut journal, &batch(1, 10));
    for number in 2..=3 {
        let mut record = Record::of(&batch(number, 10)).unwrap();
        journal.write(&mut record).unwrap();
    }
    let _ = journal.take_back(io::Error::other("a torn cable"));
    assert_eq!(open(folder.path(), 0).1, [(1, batch(1, 10))]);
    assert_eq!(append(&mut journal, &batch(9, 10)), 2);
    drop(journal);
    assert_eq!(open(folder.path(), 0).1, [(1, batch(1, 10)), (2, batch(9, 10))]);
}

#[test]
fn files_take_turns_and_wait_for_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path(), 0);
    let big = batch(1, 6 << 20);
    let mut waited = Vec::new();
    for _ in 0..7 {
        let has_room = journal.has_room(&Record::of(&big).unwrap());
        waited.push(if has_room { 0 } else { journal.waits_for() });
        append(&mut journal, &big);
    }
    // two to a file: the third goes to the second one, the fifth has to wait for the first two
    assert_eq!(waited, [0, 0, 0, 0, 2, 0, 4]);
    drop(journal);
    let found = open(folder.path(), 4).1;
    let numbers: Vec<u64> = found.iter().map(|(id, _)| *id).collect();
    assert_eq!(numbers, [5, 6, 7]);
    let gone = Journal::open(paths(&folder.path().join("q.sqlite")), OURS, 0, 1);
    assert!(
        matches!(gone, Err(QueueStoreError::Mixed(_))),
        "batches 2 to 4 are gone"
    );
}

#[test]
fn a_batch_that_is_larger_than_a_file_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path(), 0);
    let large = batch(1, 20 << 20);
    append(&mut journal, &large);
    append(&mut journal, &batch(2, 5));
    drop(journal);
    assert_eq!(open(folder.path(), 0).1, [(1, large), (2, batch(2, 5))]);
    // begun anew, it has its old length
    let (mut journal, _) = open(folder.path(), 2);
    append(&mut journal, &batch(3, 5));
    let lengths = paths(&folder.path().join("q.sqlite")).map(|path| path.metadata().unwrap().len());
    assert_eq!(lengths, [SIZE; 2]);
    drop(journal);
    assert_eq!(open(folder.path(), 2).1, [(3, batch(3, 5))]);
}

#[test]
fn what_a_former_time_left_behind_a_newer_record_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path(), 0);
    for number in 1..=5 {
        append(&mut journal, &batch(number, 10));
    }
    let third = journal.at - 3 * (journal.at - HEADER as u64) / 5;
    drop(journal);
    // the third is torn: of the five two are left, and the file begins anew with the third one's number
    let file = &paths(&folder.path().join("q.sqlite"))[0];
    let torn = OpenOptions::new().write(true).open(file).unwrap();
    torn.write_all_at(b"!", third + LEAD as u64).unwrap();
    let (mut journal, found) = open(folder.path(), 0);
    assert_eq!(found.len(), 2);
    append(&mut journal, &batch(8, 10));
    append(&mut journal, &batch(9, 10));
    drop(journal);
    let found = open(folder.path(), 2).1;
    assert_eq!(
        found,
        [(3, batch(8, 10)), (4, batch(9, 10))],
        "and not the former fifth"
    );
}

#[test]
fn files_of_the_first_format_are_read() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), 0));
    let mut bytes = b"sandrnj1".to_vec();
    bytes.extend_from_slice(&OURS);
    bytes.extend_from_slice(&4_u64.to_le_bytes());
    for number in 4..=5_u32 {
        let writes = batch(number, 10);
        let mut body = postcard::to_allocvec(&writes).unwrap();
        assert_eq!(body.pop(), Some(0), "the list of bodies, which it did not have");
        let mut lead = u64::from(number).to_le_bytes().to_vec();
        lead.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        let sum = crc32fast::hash(&[lead.as_slice(), &body].concat());
        lead.extend_from_slice(&sum.to_le_bytes());
        bytes.extend(lead.into_iter().chain(body));
    }
    let file = &paths(&folder.path().join("q.sqlite"))[0];
    let old = OpenOptions::new().write(true).open(file).unwrap();
    old.write_all_at(&bytes, 0).unwrap();
    let (mut journal, found) = open(folder.path(), 3);
    assert_eq!(found, [(4, batch(4, 10)), (5, batch(5, 10))]);
    append(&mut journal, &batch(6, 10));
    assert_eq!(open(folder.path(), 5).1, [(6, batch(6, 10))]);
}

#[test]
fn another_queues_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    append(&mut open(folder.path(), 0).0, &batch(1, 1));
    let other = Journal::open(paths(&folder.path().join("q.sqlite")), [8; MARK], 0, 0);
    assert!(matches!(other, Err(QueueStoreError::Mixed(_))));
}

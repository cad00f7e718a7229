use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::queue::{
    Answer, BlobHash, Body, ClientRow, Foreign, JobFilter, JobState, JobWord, NewJob, Writes,
};
use futures::TryStreamExt as _;
use sandrun_core::pool::{ClientNumber, JobNumber, NodeNumber};
use sandrun_types::Attempt;

mod disk;

fn batch(number: u64, request: usize) -> Writes {
    let number = JobNumber(number);
    Writes {
        clients: vec![ClientRow {
            number: ClientNumber(1),
            name: "ann".to_owned(),
        }],
        new_jobs: vec![NewJob {
            number,
            client: ClientNumber(1),
            created: 1,
            priority: 4,
            request: vec![7; request],
            blobs: Vec::new(),
            parents: Vec::new(),
            idempotency: None,
        }],
        jobs: vec![JobState {
            number,
            open: true,
            word: JobWord::Pending,
            reason: None,
            node: None,
            attempt: None,
            started: None,
            ended: None,
            snapshot: vec![1],
        }],
        ..Writes::default()
    }
}

fn store(folder: &Path) -> (SqliteStore, Arc<Shared>) {
    let lock = LockFile::take(&folder.join("queue.lock")).unwrap().unwrap();
    let path = folder.join("queue.sqlite");
    let journal = Names::fresh(&path).journal;
    begin(path, journal, lock).unwrap()
}

fn pages(connection: &Connection) -> i64 {
    connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap()
}

fn limit(connection: &Connection, pages: i64) {
    connection.pragma_update(None, "max_page_count", pages).unwrap();
}

#[test]
fn a_full_disk_is_told_as_one_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, shared) = store(folder.path());
    store.transact(&mut |_| batch(1, 10)).unwrap();
    store.committer.fill_disk();
    let error = store.transact(&mut |_| batch(2, 100_000)).unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
    let left = store.load().unwrap();
    assert_eq!((left.last_job, left.jobs.len()), (1, 1));
    assert_eq!(store.job(JobNumber(2)).unwrap(), None);
    drop((store, shared));

    let (mut store, _shared) = self::store(folder.path());
    let mut told = Foreign::default();
    store
        .transact(&mut |foreign| {
            told = foreign;
            batch(2, 100_000)
        })
        .unwrap();
    assert_eq!(told.last_job, 1);
    assert!(store.job(JobNumber(2)).unwrap().is_some());
}

/// Batches that a process acknowledged and did not bring to the tables any more.
fn leave_behind(folder: &Path, numbers: std::ops::RangeInclusive<u64>) {
    let path = folder.join("queue.sqlite");
    let tables = open_database(&path, MIGRATIONS).unwrap();
    let (mark, settled) = standing(&tables).unwrap();
    let (mut journal, _) = Journal::open(Names::fresh(&path).journal, mark, 7, settled).unwrap();
    for number in numbers {
        let mut record = journal::Record::of(&batch(number, 10)).unwrap();
        journal.write(&mut record).unwrap();
    }
}

#[test]
fn what_the_tables_lack_comes_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    leave_behind(folder.path(), 1..=200);
    let (mut store, shared) = store(folder.path());
    assert_eq!(store.load().unwrap().jobs.len(), 200);
    store.transact(&mut |_| batch(201, 10)).unwrap();
    assert_eq!(store.load().unwrap().last_job, 201);
    drop((store, shared));

    let tables = open_database(&folder.path().join("queue.sqlite"), MIGRATIONS).unwrap();
    assert_eq!(
        standing(&tables).unwrap().1,
        201,
        "the end brings all to the tables"
    );
}

#[test]
fn full_tables_lose_nothing_and_go_on_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (store, shared) = store(folder.path());
    drop(store);
    let tables = shared.connect().unwrap();
    let few = pages(&tables) + 2;
    limit(&tables, few);
    let (_, settled) = standing(&tables).unwrap();
    let big = batch(1, 100_000);
    let error = settle::settle_writes(&shared, &mut { tables }, [&big].into_iter(), settled + 1);
    assert!(matches!(error, Err(QueueStoreError::Full { .. })), "{error:?}");
    let mut tables = shared.connect().unwrap();
    assert_eq!(standing(&tables).unwrap().1, settled, "nothing by half");
    settle::settle_writes(&shared, &mut tables, [&big].into_iter(), settled + 1).unwrap();
}

#[test]
fn what_the_tables_refuse_is_acknowledged_and_brought_there_once_they_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, shared) = store(folder.path());
    store.transact(&mut |_| batch(1, 10)).unwrap();
    assert!(store.job(JobNumber(1)).unwrap().is_some());
    let other = shared.connect().unwrap();
    let refuse = "CREATE TRIGGER no_room BEFORE INSERT ON job BEGIN SELECT RAISE(ABORT, 'no room'); END";
    other.execute_batch(refuse).unwrap();

    for number in 2..=4 {
        store.transact(&mut |_| batch(number, 10)).unwrap();
    }
    let error = store.job(JobNumber(3)).unwrap_err();
    assert!(matches!(error, QueueStoreError::Unsettled { .. }), "{error:?}");
    assert!(error.to_string().contains("no room"), "{error}");
    assert!(
        store.job(JobNumber(1)).unwrap().is_some(),
        "what is there can be read"
    );
    let requests = store.requests(&[JobNumber(2)]).unwrap();
    assert_eq!(requests.len(), 1, "nodes get what was acknowledged");

    other.execute_batch("DROP TRIGGER no_room").unwrap();
    let started = std::time::Instant::now();
    // it tries again by itself: nothing new has to be written
    while let Err(error) = store.job(JobNumber(3)) {
        assert!(matches!(error, QueueStoreError::Unsettled { .. }), "{error:?}");
        assert!(started.elapsed().as_secs() < 30, "it has given up: {error}");
        std::thread::yield_now();
    }
    store.transact(&mut |_| batch(5, 10)).unwrap();
    assert_eq!(store.load().unwrap().jobs.len(), 5);
    drop((store, shared));
    let (mut store, _shared) = self::store(folder.path());
    assert_eq!(store.load().unwrap().jobs.len(), 5);
}

#[test]
fn a_journal_of_another_queue_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    leave_behind(folder.path(), 1..=1);
    leave_behind(other.path(), 1..=1);
    let path = folder.path().join("queue.sqlite");
    let ours = Names::fresh(&path).journal;
    let [theirs, _] = Names::fresh(&other.path().join("queue.sqlite")).journal;
    std::fs::copy(theirs, &ours[0]).unwrap();
    let lock = LockFile::take(&folder.path().join("queue.lock"))
        .unwrap()
        .unwrap();
    let error = begin(path, ours, lock).err().unwrap();
    assert!(matches!(error, QueueStoreError::Mixed(_)), "{error:?}");
}

#[tokio::test]
async fn one_process_has_it_and_its_files_are_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.sqlite");
    let (writer, reader) = open(&path).await.unwrap();
    let again = open(&path).await.err().unwrap();
    assert!(matches!(again, QueueStoreError::InUse(_)), "{again:?}");
    drop(writer);
    assert!(
        matches!(open(&path).await, Err(QueueStoreError::InUse(_))),
        "a reader can write bodies"
    );
    // by another name, or without its lock file, it is the same queue
    let link = folder.path().join("link.sqlite");
    std::fs::hard_link(&path, &link).unwrap();
    assert!(matches!(open(&link).await, Err(QueueStoreError::InUse(_))));
    std::fs::remove_file(Names::fresh(&path).lock).unwrap();
    assert!(matches!(open(&path).await, Err(QueueStoreError::InUse(_))));
    std::fs::remove_file(link).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(reader);
    assert!(open(&path).await.is_ok());
}

#[tokio::test]
async fn a_mistyped_path_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("data")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    for (name, says) in [
        ("dat/queue.db", "that is no folder"),
        ("a/b/queue.db", "make the folder"),
        ("file/queue.db", "that is no folder"),
        ("data", "is a folder"),
    ] {
        let words = open(&at(name)).await.err().unwrap().to_string();
        assert!(words.contains(says) && words.contains("--db"), "{name}: {words}");
    }
    let mut left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["data", "file"]);
    assert_eq!(std::fs::read_dir(at("data")).unwrap().count(), 0);
}

/// With a million jobs a list must not look at more rows than it gives, and the start at no more than are open.
#[test]
fn lists_loads_and_sweeps_walk_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, shared) = store(folder.path());
    let tables = shared.connect().unwrap();
    let plan = |sql: &str, values: usize| -> String {
        let mut statement = tables.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = vec![rusqlite::types::Value::Null; values];
        let rows = statement
            .query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3))
            .unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let filters = [
        (None, None, "USING INTEGER PRIMARY KEY (rowid<?)"),
        (Some(JobWord::Running), None, "job_by_word (word=? AND number<?)"),
        (None, Some("ann"), "job_by_client (client=? AND number<?)"),
        (Some(JobWord::Failed), Some("ann"), "(client=? AND number<?)"),
    ];
    for (word, client, index) in filters {
        let filter = JobFilter {
            word,
            client: client.map(str::to_owned),
            below: None,
            limit: 10,
        };
        let (rest, values) = select::picked(&filter);
        let steps = plan(
            &format!("SELECT job.snapshot FROM job WHERE {rest}"),
            values.len(),
        );
        assert!(steps.contains(index), "{filter:?}: {steps}");
        assert!(
            !steps.contains("TEMP B-TREE") && !steps.contains("SCAN job"),
            "{filter:?}: {steps}"
        );
    }
    for (sql, index) in [
        (
            format!("SELECT snapshot FROM job WHERE {}", store::OPEN).as_str(),
            "job_by_word (word<?)",
        ),
        (
            "SELECT number FROM job WHERE open = 0 AND ended < 5 ORDER BY ended LIMIT 9",
            "job_by_end",
        ),
        (
            "SELECT MIN(number) FROM job WHERE client = 1 AND key = 'k'",
            "job_by_key",
        ),
        (
            "SELECT id FROM blob WHERE refs = 0 AND hash IS NOT NULL AND touched < 5 ORDER BY touched LIMIT 9",
            "blob_unused",
        ),
        (
            "SELECT id FROM blob WHERE hash IS NULL AND touched < 5 ORDER BY id LIMIT 9",
            "sqlite_autoindex_blob_1 (hash=?)",
        ),
    ] {
        let steps = plan(sql, 0);
        assert!(
            steps.contains(index) && !steps.contains("TEMP B-TREE"),
            "{sql}: {steps}"
        );
    }
}

/// What was answered before it is on the disk is in the next list all the same.
#[tokio::test]
async fn a_list_has_what_anybody_was_told_before() {
    let folder = tempfile::tempdir().unwrap();
    let address = folder.path().join("queue.sqlite");
    let (mut store, reader) = open(&address).await.unwrap();
    for number in 1..=20 {
        store.decide(&mut |_| batch(number, 10)).unwrap();
        let (sender, written) = std::sync::mpsc::sync_channel(1);
        let written_is_told = Box::new(move |how| drop(sender.send(how)));
        store.when_durable_at_leisure(written_is_told, Box::new(|_| {}));
        written.recv().unwrap().unwrap();
        let filter = JobFilter {
            word: None,
            client: None,
            below: None,
            limit: 1,
        };
        let latest = reader.list(&filter).await.unwrap();
        assert_eq!(latest[0].state.number, JobNumber(number));
    }
}

fn with_body(number: u64, text: &'static str) -> Writes {
    let body = Body {
        blob: BlobHash([text.len().try_into().unwrap(); 32]),
        put: 5,
        data: text.into(),
    };
    let mut writes = batch(number, 10);
    writes.new_jobs[0].blobs = vec![body.blob];
    writes.bodies = vec![body];
    writes
}

async fn read_whole(reader: &QueueReader, blob: BlobHash) -> Option<Vec<u8>> {
    let (size, body) = reader.get_blob(blob).await.unwrap()?;
    let whole = body.try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(whole.len() as u64, size);
    Some(whole)
}

#[tokio::test]
async fn a_body_that_comes_with_its_job_is_kept_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.sqlite");
    let tables = open_database(&path, MIGRATIONS).unwrap();
    let (mark, settled) = standing(&tables).unwrap();
    let (mut journal, _) = Journal::open(Names::fresh(&path).journal, mark, 7, settled).unwrap();
    let mut record = journal::Record::of(&with_body(1, "from the journal")).unwrap();
    journal.write(&mut record).unwrap();
    drop((journal, tables));

    let (mut store, reader) = open(&path).await.unwrap();
    assert!(reader.takes_with_batch() >= 10_000);
    store.transact(&mut |_| with_body(2, "of a batch")).unwrap();
    store.transact(&mut |_| with_body(3, "of a batch")).unwrap();
    for text in ["from the journal", "of a batch"] {
        let blob = BlobHash([text.len().try_into().unwrap(); 32]);
        let found = read_whole(&reader, blob).await;
        assert_eq!(found.as_deref(), Some(text.as_bytes()), "{text}");
    }
    let late = crate::queue::BLOB_TTL + 10;
    assert_eq!(reader.sweep_blobs(late).await.unwrap(), 0, "jobs refer to them");
    assert_eq!(read_whole(&reader, BlobHash([9; 32])).await, None);
}

fn completion(number: u64) -> Writes {
    let mut writes = Writes {
        jobs: batch(number, 10).jobs,
        ..Writes::default()
    };
    writes.answers = vec![Answer {
        job: JobNumber(number),
        attempt: Attempt::FIRST,
        node: NodeNumber(1),
        exit_code: Some(3),
        stdout: Vec::new(),
        stderr: Vec::new(),
        outputs: Vec::new(),
        receipt: None,
        signature: None,
        details: Vec::new(),
        output_root: None,
    }];
    (writes.jobs[0].open, writes.jobs[0].word) = (false, JobWord::Completed);
    writes.jobs[0].attempt = Some(Attempt::FIRST);
    writes.jobs[0].reason = Some("a\0b".to_owned());
    writes
}

#[tokio::test]
async fn who_asks_for_a_job_that_changed_just_now_waits_for_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, shared) = store(folder.path());
    let reader = QueueReader::new(Arc::new(read::SqliteReader::new(Arc::clone(&shared))));
    for number in 1..=2 {
        store.transact(&mut |_| batch(number, 10)).unwrap();
    }
    shared.settling.settle_all("test").unwrap();
    shared.settling.forget_recent();
    let other = shared.connect().unwrap();
    let refuse = "CREATE TRIGGER no_room BEFORE UPDATE ON job BEGIN SELECT RAISE(ABORT, 'no room'); END";
    other.execute_batch(refuse).unwrap();
    store.transact(&mut |_| completion(1)).unwrap();

    let before = reader.job_with_answer(JobNumber(1)).await.unwrap().unwrap();
    assert_eq!(before.0.state.word, JobWord::Completed);
    assert_eq!(before.0.state.reason.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(before.1.as_ref().unwrap().exit_code, Some(3));
    assert_eq!(reader.job(JobNumber(1)).await.unwrap().as_ref(), Some(&before.0));
    assert_eq!(reader.answers(JobNumber(1)).await.unwrap().len(), 1);
    let other_job = reader.job(JobNumber(2)).await.unwrap().unwrap();
    assert_eq!(other_job.state.word, JobWord::Pending);

    other.execute_batch("DROP TRIGGER no_room").unwrap();
    shared.settling.settle_all("test").unwrap();
    let after = reader.job_with_answer(JobNumber(1)).await.unwrap();
    assert_eq!(after.as_ref(), Some(&before));
    // batches that the tables have got meanwhile change nothing
    let (mut row, mut answers) = (before.0.clone(), before.1.into_iter().collect::<Vec<_>>());
    let later = vec![Arc::new(completion(1))];
    later::renew_state(&mut row.state, &later);
    later::renew_answers(JobNumber(1), &mut answers, &later);
    assert_eq!((&row, answers.len()), (&before.0, 1));
}

#[tokio::test]
async fn who_asks_for_a_job_of_just_now_waits_for_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, shared) = store(folder.path());
    let reader = QueueReader::new(Arc::new(read::SqliteReader::new(Arc::clone(&shared))));
    let other = shared.connect().unwrap();
    let refuse = "CREATE TRIGGER no_room BEFORE INSERT ON job BEGIN SELECT RAISE(ABORT, 'no room'); END";
    other.execute_batch(refuse).unwrap();
    store.transact(&mut |_| batch(1, 10)).unwrap();
    store.transact(&mut |_| completion(1)).unwrap();
    let (row, answer) = reader.job_with_answer(JobNumber(1)).await.unwrap().unwrap();
    assert_eq!(
        (row.client_name.as_str(), row.state.word),
        ("ann", JobWord::Completed)
    );
    assert_eq!(answer.unwrap().exit_code, Some(3));

    other.execute_batch("DROP TRIGGER no_room").unwrap();
    shared.settling.settle_all("test").unwrap();
    let before = reader.job_with_answer(JobNumber(1)).await.unwrap();
    shared.settling.forget_recent();
    assert_eq!(reader.job_with_answer(JobNumber(1)).await.unwrap(), before);
    assert!(before.is_some());
}

#[test]
fn after_a_failed_sync_of_the_tables_none_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, shared) = store(folder.path());
    store.transact(&mut |_| batch(1, 10)).unwrap();
    shared.sync_tables().unwrap();
    shared.log.fail();
    let error = shared.sync_tables().unwrap_err();
    assert!(matches!(error, QueueStoreError::Sync { .. }), "{error:?}");
    let mut needs_stored = batch(2, 10);
    needs_stored.new_jobs[0].blobs = vec![BlobHash([1; 32])];
    let refused = store.transact(&mut |_| needs_stored.clone());
    assert!(refused.is_err(), "its body may be lost");
    drop((store, shared));
    let (mut store, shared) = self::store(folder.path());
    shared.sync_tables().unwrap();
    assert_eq!(store.load().unwrap().jobs.len(), 1);
}

#[test]
fn what_nobody_brings_to_the_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, shared) = store(folder.path());
    store.transact(&mut |_| batch(1, 10)).unwrap();
    assert!(!store.is_lame());
    store.committer.stop();
    assert!(store.is_lame());
    let error = store.transact(&mut |_| batch(2, 10)).unwrap_err();
    assert!(matches!(error, QueueStoreError::Ending(_)), "{error:?}");
    assert!(store.is_behind());
    // nobody waits for it in vain
    shared.settling.settle_job(JobNumber(2), "test").unwrap();
    assert_eq!(store.job(JobNumber(2)).unwrap(), None);
}

#[test]
fn a_store_without_its_thread_for_the_tables_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (store, shared) = store(folder.path());
    assert!(!store.is_lame());
    shared.settling.stop();
    let began = std::time::Instant::now();
    while !store.is_lame() {
        assert!(began.elapsed().as_secs() < 30, "it was not told");
        std::thread::yield_now();
    }
}

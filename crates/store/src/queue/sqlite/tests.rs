use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::queue::{ClientRow, Foreign, JobFilter, JobState, JobWord, NewJob, Writes};
use sandrun_core::pool::{ClientNumber, JobNumber};

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
    begin(folder.join("queue.sqlite"), lock).unwrap()
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
    let (mut journal, _) = Journal::open(&path, mark, settled).unwrap();
    for number in numbers {
        let record = journal::Record::of(&batch(number, 10), number).unwrap();
        journal.write(&record).unwrap();
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
    let [ours, _] = journal::paths(&folder.path().join("queue.sqlite"));
    let [theirs, _] = journal::paths(&other.path().join("queue.sqlite"));
    std::fs::copy(theirs, ours).unwrap();
    let lock = LockFile::take(&folder.path().join("queue.lock"))
        .unwrap()
        .unwrap();
    let error = begin(folder.path().join("queue.sqlite"), lock).err().unwrap();
    assert!(matches!(error, QueueStoreError::Mixed(_)), "{error:?}");
}

#[tokio::test]
async fn one_process_has_it_and_its_files_are_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data").join("queue.sqlite");
    let (writer, reader) = open(&path).await.unwrap();
    let again = open(&path).await.err().unwrap();
    assert!(matches!(again, QueueStoreError::InUse(_)), "{again:?}");
    drop(writer);
    assert!(
        matches!(open(&path).await, Err(QueueStoreError::InUse(_))),
        "a reader can write bodies"
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(reader);
    assert!(open(&path).await.is_ok());
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
        let (rest, values) = read::picked(&filter);
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
            "SELECT snapshot FROM job WHERE open = 1 ORDER BY number",
            "job_open",
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

//! Batches in PostgreSQL between their row in the journal, the disk and the tables: what is told when, and what the end of
//! a replica or of the server takes of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, unreachable_pub, reason = "a file of another room")]
#[path = "../../../testnet/src/postgres.rs"]
mod postgres;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "queue/stage.rs"]
mod stage;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sandrun_core::pool::JobNumber;
use sandrun_store::queue::{
    Foreign, JobFilter, JobState, JobWord, QueueAddress, QueueStore, QueueStoreError, Writes, open_queue,
};
use stage::{Stage, job, listen, new_job};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

const ADDRESS: &str = "SANDRUN_QUEUE_TEST_ADDRESS";
const POINT: &str = "SANDRUN_QUEUE_TEST_POINT";

type Told = Receiver<Result<(), QueueStoreError>>;

/// Hears of the latest batch: that it was written, and that it is on the disk.
fn follow(store: &mut dyn QueueStore) -> (Told, Told) {
    let ((say_written, written), (say_durable, durable)) = (mpsc::channel(), mpsc::channel());
    store.when_durable(
        Box::new(move |told| say_written.send(told).unwrap_or(())),
        Box::new(move |told| say_durable.send(told).unwrap_or(())),
    );
    (written, durable)
}

#[test]
fn a_batch_is_written_before_it_is_durable_and_durable_only_on_the_disk() {
    let stage = Stage::new();
    let (mut store, _reader) = stage.open();
    // a commit that waits for the disk waits for another server's too, and there is none
    let set = |names: &str| {
        let alter = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        stage.operate(&["SET synchronous_commit = off", &alter, "SELECT pg_reload_conf()"]);
        let is_set = format!("SELECT current_setting('synchronous_standby_names') = '{names}'");
        stage.wait_until(&is_set);
    };
    set("nobody");
    store.decide(&mut |_| new_job(1, "early")).unwrap();
    let (written, durable) = follow(&mut *store);
    written.recv().unwrap().unwrap();
    stage.wait_until("SELECT COUNT(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    assert!(durable.try_recv().is_err(), "it waits for the disk");
    // the next one is decided meanwhile
    store.decide(&mut |_| new_job(2, "next")).unwrap();
    let (_, next) = follow(&mut *store);
    assert!(next.try_recv().is_err());
    set("");
    durable.recv().unwrap().unwrap();
    next.recv().unwrap().unwrap();
}

#[test]
fn a_crash_of_the_server_takes_only_what_was_not_acknowledged() {
    let stage = Stage::new();
    let (mut ours, reader) = stage.open();
    let (mut theirs, _reader) = stage.open();
    ours.transact(&mut |_| new_job(1, "kept")).unwrap();
    let body = stream::iter([Ok(Bytes::from_static(b"a body"))]).boxed();
    let (blob, _) = stage.runtime.block_on(reader.put_blob(body, 1)).unwrap();
    let kept_from_writing = stage.keep_from_writing();
    theirs.decide(&mut |_| new_job(2, "lost")).unwrap();
    ours.decide(&mut |foreign| {
        assert_eq!(foreign.jobs, [job(2, "lost")], "it was decided upon the other's");
        new_job(3, "upon it")
    })
    .unwrap();
    stage.crash(kept_from_writing);
    for store in [&mut ours, &mut theirs] {
        loop {
            let (_, durable) = follow(&mut **store);
            match durable.recv().unwrap() {
                Err(QueueStoreError::Gone(_)) => break,
                // the server takes its time to come back
                Err(QueueStoreError::Undone(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(store.is_behind());
    }
    for store in [&mut ours, &mut theirs] {
        let loaded = stage.load(&mut **store);
        assert_eq!(
            (loaded.jobs.as_slice(), loaded.last_job),
            (&[job(1, "kept")][..], 1)
        );
        assert!(!store.is_behind());
    }
    ours.transact(&mut |_| new_job(2, "again")).unwrap();
    assert_eq!(listen(&mut *theirs).jobs, [job(2, "again")]);
    let (_, body) = stage.runtime.block_on(reader.get_blob(blob)).unwrap().unwrap();
    let body = stage.runtime.block_on(body.try_collect::<Vec<Bytes>>()).unwrap();
    assert_eq!(body.concat(), b"a body");
}

#[test]
fn what_is_swept_is_in_no_batch_either() {
    let stage = Stage::new();
    let (mut store, reader) = stage.open();
    store.transact(&mut |_| new_job(1, "a request")).unwrap();
    let ended = JobState {
        open: false,
        word: JobWord::Failed,
        ended: Some(5),
        ..job(1, "ended")
    };
    let end = |_: Foreign| Writes {
        jobs: vec![ended.clone()],
        ..Writes::default()
    };
    store.transact(&mut |foreign| end(foreign)).unwrap();
    let kept = "SELECT BOOL_OR(POSITION('a request'::BYTEA IN rest) > 0) FROM queue_batch WHERE seq >= 0";
    assert_eq!(stage.admin(kept), [true], "the others may not have it yet");
    let swept = stage.runtime.block_on(reader.sweep_jobs(100, 10)).unwrap();
    assert_eq!((swept, stage.admin(kept)), (1, vec![false]));
}

#[test]
fn a_connection_lost_within_a_batch_has_the_next_call_be_a_load() {
    let stage = Stage::new();
    let (mut store, _reader) = stage.open();
    assert!(!store.is_behind());
    let written = store.transact(&mut |_| {
        // the store's own runtime is at work on this thread
        let end_all = || {
            stage.operate(&[
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
                 AND backend_type = 'client backend'",
            ]);
        };
        std::thread::scope(|scope| scope.spawn(end_all).join()).unwrap();
        new_job(1, "lost")
    });
    assert!(written.is_err() && store.is_behind());
    store.load().unwrap();
    assert!(!store.is_behind());
    store.transact(&mut |_| new_job(1, "on")).unwrap();
}

#[test]
fn who_is_further_behind_than_the_journal_reads_the_tables() {
    let stage = Stage::new();
    let (mut behind, _reader) = stage.open();
    let (mut ahead, reader) = stage.open();
    behind.transact(&mut |_| new_job(1, "a")).unwrap();
    for number in 2..=4 {
        ahead.transact(&mut |_| new_job(number, "b")).unwrap();
    }
    ahead
        .transact(&mut |_| Writes {
            jobs: vec![job(2, "changed")],
            ..Writes::default()
        })
        .unwrap();
    // who reads has the tables brought up to date
    assert!(
        stage
            .runtime
            .block_on(reader.job(JobNumber(4)))
            .unwrap()
            .is_some()
    );
    stage.operate(&["DELETE FROM queue_batch WHERE seq < (SELECT MAX(seq) FROM queue_batch)"]);
    ahead
        .transact(&mut |_| Writes {
            jobs: vec![job(3, "after")],
            ..Writes::default()
        })
        .unwrap();
    let mut heard = listen(&mut *behind);
    // its own may be among them where it came to the tables with the others'
    heard.jobs.retain(|state| state.number != JobNumber(1));
    heard.keys.retain(|row| row.job != JobNumber(1));
    assert_eq!(heard.jobs, [job(2, "changed"), job(3, "after"), job(4, "b")]);
    assert_eq!((heard.last_job, heard.keys.len()), (4, 3));
    assert_eq!(listen(&mut *behind).jobs, []);
}

#[test]
fn who_is_further_behind_than_a_sweep_is_told_which_jobs_are_left() {
    let stage = Stage::new();
    let (mut behind, _reader) = stage.open();
    let (mut ahead, reader) = stage.open();
    for number in 1..=3 {
        ahead.transact(&mut |_| new_job(number, "a")).unwrap();
    }
    assert_eq!(listen(&mut *behind).jobs.len(), 3);
    let write = |store: &mut dyn QueueStore, state: JobState| {
        let written = store.transact(&mut |_| Writes {
            jobs: vec![state.clone()],
            ..Writes::default()
        });
        written.unwrap();
    };
    let sweep = || stage.runtime.block_on(reader.sweep_jobs(10, 0)).unwrap();
    let forget =
        || stage.operate(&["DELETE FROM queue_batch WHERE seq < (SELECT MAX(seq) FROM queue_batch)"]);
    write(&mut *ahead, ended(2));
    write(&mut *ahead, job(1, "later"));
    assert_eq!(sweep(), 1);
    write(&mut *ahead, job(3, "last"));
    forget();
    let heard = listen(&mut *behind);
    assert_eq!(
        heard.jobs,
        [job(1, "later"), job(3, "last")],
        "nothing of the second"
    );
    assert_eq!(heard.standing, Some(vec![JobNumber(1), JobNumber(3)]));

    // what it has taken in before a sweep needs no list
    write(&mut *ahead, ended(1));
    assert_eq!(listen(&mut *behind).standing, None);
    assert_eq!(sweep(), 1);
    for snapshot in ["once", "twice"] {
        write(&mut *ahead, job(3, snapshot));
    }
    // who reads has the tables brought up to date
    assert!(
        stage
            .runtime
            .block_on(reader.job(JobNumber(3)))
            .unwrap()
            .is_some()
    );
    forget();
    let heard = listen(&mut *behind);
    assert_eq!((heard.jobs, heard.standing), (vec![job(3, "twice")], None));
}

fn ended(number: u64) -> JobState {
    JobState {
        open: false,
        word: JobWord::Failed,
        ended: Some(1),
        ..job(number, "over")
    }
}

#[test]
fn what_the_tables_can_not_hold_twice_keeps_nothing_else_from_them() {
    let stage = Stage::new();
    let (mut store, reader) = stage.open();
    store.transact(&mut |_| new_job(1, "a")).unwrap();
    // a name under a second number, of which the tables hold one
    let mut second = new_job(2, "b");
    second.clients[0].number.0 = 2;
    second.new_jobs[0].client.0 = 2;
    store.transact(&mut |_| second.clone()).unwrap();
    let row = stage.runtime.block_on(reader.job(JobNumber(2))).unwrap().unwrap();
    assert_eq!(row.new.request, b"b");
}

#[test]
fn tables_from_before_the_journal_are_taken_over() {
    let stage = Stage::new();
    stage.operate(&[include_str!("queue/schema_3.sql")]);
    let address: QueueAddress = stage.server.url().parse().unwrap();
    let (mut store, reader) = stage.runtime.block_on(open_queue(&address)).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.jobs, [job(1, "waits")]);
    assert_eq!((loaded.last_job, loaded.last_node, loaded.last_client), (2, 1, 1));
    assert_eq!((loaded.nodes.len(), loaded.clients.len()), (1, 1));
    assert_eq!(store.by_idempotency("ann", "first").unwrap(), Some(JobNumber(1)));
    store.transact(&mut |_| new_job(3, "new")).unwrap();
    let (mut other, _reader) = stage.open();
    assert_eq!(other.load().unwrap().jobs, [job(1, "waits"), job(3, "new")]);
    let all = stage.runtime.block_on(reader.list(&JobFilter {
        word: None,
        client: None,
        below: None,
        limit: 10,
    }));
    let numbers: Vec<u64> = all.unwrap().iter().map(|row| row.new.number.0).collect();
    assert_eq!(numbers, [3, 2, 1]);
    let answer = stage
        .runtime
        .block_on(reader.answer(JobNumber(2)))
        .unwrap()
        .unwrap();
    assert_eq!(answer.stdout, b"out");
    // a program of before that still runs writes nothing beside the journal
    let old = stage.runtime.block_on(async {
        let url = stage.server.url();
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        let old = client
            .batch_execute("UPDATE queue_counter SET seq = seq + 1")
            .await;
        drop(client);
        driver.await.unwrap().unwrap();
        old
    });
    assert!(old.is_err());
}

/// Not a test by itself: the replica that the next one ends.
#[test]
fn writes_up_to_a_point() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    let (mut store, reader) = runtime.block_on(open_queue(&address.parse().unwrap())).unwrap();
    store.load().unwrap();
    store.transact(&mut |_| new_job(1, "before")).unwrap();
    assert!(runtime.block_on(reader.job(JobNumber(1))).unwrap().is_some());
    eprintln!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    store.decide(&mut |_| new_job(2, "dying")).unwrap();
    if std::env::var(POINT).unwrap() != "decided" {
        follow(&mut *store).1.recv().unwrap().unwrap();
    }
    eprintln!("there");
    loop {
        std::thread::park();
    }
}

/// A replica that writes a batch up to a point, at which nobody gets anything into the tables.
fn replica(stage: &Stage, point: &str, lock: impl FnOnce()) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_up_to_a_point", "--nocapture"])
        .env(ADDRESS, stage.server.url())
        .env(POINT, point)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.as_ref().unwrap() == "ready"));
    lock();
    writeln!(child.stdin.take().unwrap(), "go").unwrap();
    assert!(lines.any(|line| line.unwrap() == "there"));
    child
}

/// Ends a replica by a signal at a point, and sees what the others have of it and how soon.
fn end_at(point: &str, signal: &str, within: Duration) {
    let stage = Stage::new();
    let (mut living, reader) = stage.open();
    let ((lock, may_lock), (say_locked, locked)) = (mpsc::channel(), mpsc::channel());
    let (unlock, unlocked) = mpsc::channel();
    let (stage, url) = (&stage, stage.server.url());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let runtime = Runtime::new().unwrap();
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                let driver = tokio::spawn(connection);
                tokio::task::block_in_place(|| may_lock.recv()).unwrap();
                let hold = "BEGIN; LOCK TABLE queue_job IN EXCLUSIVE MODE";
                client.batch_execute(hold).await.unwrap();
                say_locked.send(()).unwrap();
                tokio::task::block_in_place(|| unlocked.recv()).unwrap();
                client.batch_execute("COMMIT").await.unwrap();
                drop(client);
                driver.await.unwrap().unwrap();
            });
        });
        let mut child = replica(stage, point, || {
            lock.send(()).unwrap();
            locked.recv().unwrap();
        });
        if point == "merging" {
            stage.wait_until("SELECT COUNT(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'");
        }
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        if signal == "-9" {
            child.wait().unwrap();
        }
        unlock.send(()).unwrap();
        let began = Instant::now();
        let mut heard = Foreign::default();
        living
            .transact(&mut |foreign| {
                heard = foreign;
                new_job(3, "living")
            })
            .unwrap();
        assert_eq!(
            heard.jobs,
            [job(1, "before"), job(2, "dying")],
            "it was written: {point}"
        );
        for (number, who) in [(2, "dying"), (3, "living")] {
            let row = stage
                .runtime
                .block_on(reader.job(JobNumber(number)))
                .unwrap()
                .unwrap();
            assert_eq!(row.new.request, who.as_bytes());
        }
        assert!(began.elapsed() < within, "{point}: {:?}", began.elapsed());
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn what_a_killed_replica_has_written_others_bring_to_the_tables_at_once() {
    for point in ["decided", "durable", "merging"] {
        end_at(point, "-9", Duration::from_secs(3));
    }
}

#[test]
fn a_replica_that_hangs_while_it_merges_holds_the_others_up_for_a_second() {
    end_at("merging", "-STOP", Duration::from_secs(3));
}

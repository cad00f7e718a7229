//! What only several replicas on one PostgreSQL have: turns, news, lost connections.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, unreachable_pub, reason = "a file of another room")]
#[path = "../../../testnet/src/postgres.rs"]
mod postgres;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "queue/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sandrun_core::pool::JobNumber;
use sandrun_store::queue::{Foreign, QueueAddress, QueueStoreError, open_queue};
use stage::{Frozen, Stage, job, listen, new_job};
use tokio_postgres::NoTls;

#[test]
fn replicas_start_at_once_write_at_once_and_agree() {
    const EACH: u64 = 40;
    let stage = Stage::new();
    let views: Vec<BTreeMap<JobNumber, Vec<u8>>> = thread::scope(|scope| {
        let replica = |name: &'static str| {
            let (mut store, _reader) = stage.open();
            let mut view = BTreeMap::new();
            let mut see = |foreign: &Foreign| {
                for state in &foreign.jobs {
                    view.insert(state.number, state.snapshot.clone());
                }
            };
            // one that was quicker to start may have written already
            see(&store.load().unwrap());
            for _ in 0..EACH {
                let mut own = None;
                store
                    .transact(&mut |foreign| {
                        see(&foreign);
                        assert!(foreign.keys.len() <= foreign.jobs.len());
                        let mut writes = new_job(foreign.last_job + 1, name);
                        own = writes.jobs.first().cloned();
                        if let Some(other) = foreign.jobs.last() {
                            writes.jobs.push(job(other.number.0, &format!("{name} was here")));
                        }
                        see(&Foreign {
                            jobs: writes.jobs.clone(),
                            ..Foreign::default()
                        });
                        writes
                    })
                    .unwrap();
                assert!(own.is_some());
            }
            (store, view)
        };
        let replicas = ["a", "b", "c"].map(|name| scope.spawn(move || replica(name)));
        let mut ended: Vec<_> = replicas
            .into_iter()
            .map(|replica| replica.join().unwrap())
            .collect();
        ended
            .iter_mut()
            .map(|(store, view)| {
                let rest = listen(&mut **store).jobs;
                view.extend(rest.into_iter().map(|state| (state.number, state.snapshot)));
                view.clone()
            })
            .collect()
    });
    assert_eq!(views[0].len() as u64, 3 * EACH, "every number once");
    assert_eq!(views[0], views[1]);
    assert_eq!(views[0], views[2]);
    let loaded = stage.open().0.load().unwrap().jobs;
    let loaded: BTreeMap<_, _> = loaded
        .into_iter()
        .map(|state| (state.number, state.snapshot))
        .collect();
    assert_eq!(loaded, views[0]);
}

#[test]
fn a_replica_hears_of_others_commits_and_not_of_its_own() {
    let stage = Stage::new();
    let (mut ours, our_reader) = stage.open();
    let (mut theirs, their_reader) = stage.open();
    let (mut ours_changes, mut theirs_changes) = (our_reader.changes(), their_reader.changes());
    theirs.transact(&mut |_| new_job(1, "they")).unwrap();
    stage.runtime.block_on(ours_changes.next());
    let heard = listen(&mut *ours);
    assert_eq!(heard.jobs, [job(1, "they")]);
    assert_eq!((heard.last_job, heard.last_client), (1, 1));
    assert_eq!(heard.clients.len(), 1);
    assert_eq!(
        listen(&mut *ours),
        Foreign {
            last_job: 1,
            last_client: 1,
            ..Foreign::default()
        }
    );

    // empty batches are no news: the next one that either hears of is the other's
    ours.transact(&mut |_| new_job(2, "we")).unwrap();
    stage.runtime.block_on(theirs_changes.next());
    let quiet = Duration::from_millis(300);
    stage.runtime.block_on(async {
        assert!(
            tokio::time::timeout(quiet, ours_changes.next()).await.is_err(),
            "its own commit"
        );
        // once more at most, where the look of each second has found it before it was told
        let mut more = 0;
        while tokio::time::timeout(quiet, theirs_changes.next()).await.is_ok() {
            more += 1;
        }
        assert!(more <= 1, "nothing more");
    });
}

#[test]
fn a_dead_replica_frees_the_lock_and_a_lost_connection_comes_back() {
    let stage = Stage::new();
    let (mut dying, reader) = stage.open();
    let (mut living, _reader) = stage.open();
    let (inside, is_inside) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let dying = &mut dying;
        let death = scope.spawn(move || {
            let result = dying.transact(&mut |_| {
                inside.send(()).unwrap();
                goes_on.recv().unwrap();
                new_job(1, "dying")
            });
            (result, dying.transact(&mut |_| new_job(1, "dying")), dying.load())
        });
        is_inside.recv().unwrap();
        let life = scope.spawn(|| living.transact(&mut |foreign| new_job(foreign.last_job + 1, "living")));
        stage.kill_the_lock_holder();
        life.join().unwrap().unwrap();
        go_on.send(()).unwrap();
        let (first, second, load) = death.join().unwrap();
        assert!(
            matches!(first, Err(QueueStoreError::Gone(_))),
            "it was looked up: {first:?}"
        );
        assert!(
            matches!(second, Err(QueueStoreError::Lost { .. })),
            "it has to load first: {second:?}"
        );
        assert_eq!(load.unwrap().jobs, [job(1, "living")]);
    });
    dying
        .transact(&mut |foreign| new_job(foreign.last_job + 1, "back"))
        .unwrap();
    assert_eq!(listen(&mut *living).jobs, [job(2, "back")]);

    stage.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'");
    let row = stage.runtime.block_on(async {
        // the first call may meet the connection before it knows that it is gone
        match reader.job(JobNumber(2)).await {
            Err(QueueStoreError::Lost { .. }) => reader.job(JobNumber(2)).await,
            other => other,
        }
    });
    assert_eq!(row.unwrap().unwrap().new.request, b"back");
}

#[test]
fn a_connection_that_broke_while_nobody_used_it_costs_no_batch() {
    let stage = Stage::new();
    let (mut store, _reader) = stage.open();
    let (mut other, _reader) = stage.open();
    let end_all = || {
        stage.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'");
    };
    store.transact(&mut |_| new_job(1, "first")).unwrap();
    other.transact(&mut |_| new_job(2, "other's")).unwrap();
    end_all();
    let mut told = Foreign::default();
    let written = store.transact(&mut |foreign| {
        told = foreign;
        new_job(3, "after")
    });
    written.unwrap();
    assert_eq!(told.jobs, [job(2, "other's")], "nothing is missed");
    end_all();
    assert!(store.job(JobNumber(2)).unwrap().is_some(), "nor does a read fail");
    end_all();
    assert_eq!(store.requests(&[JobNumber(3)]).unwrap().len(), 1);
    assert!(!store.is_behind(), "nothing has to be loaded anew");
    assert_eq!(store.load().unwrap().jobs.len(), 3);
}

#[test]
fn a_replica_that_hangs_in_its_batch_holds_the_others_up_for_a_second() {
    let stage = Stage::new();
    let (mut hanging, _reader) = stage.open();
    let (mut living, _reader) = stage.open();
    let (inside, is_inside) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let hanging = &mut hanging;
        let hung = scope.spawn(move || {
            let result = hanging.transact(&mut |_| {
                inside.send(()).unwrap();
                goes_on.recv().unwrap();
                new_job(1, "hanging")
            });
            (result, hanging.load())
        });
        is_inside.recv().unwrap();
        let began = Instant::now();
        living
            .transact(&mut |foreign| new_job(foreign.last_job + 1, "living"))
            .unwrap();
        let waited = began.elapsed();
        go_on.send(()).unwrap();
        let (result, load) = hung.join().unwrap();
        assert!(waited < Duration::from_secs(3), "{waited:?}");
        assert!(result.is_err(), "its batch is not written over the other's");
        assert_eq!(load.unwrap().jobs, [job(1, "living")]);
    });
}

#[test]
fn a_server_that_does_not_answer_is_given_up_in_time_and_found_again() {
    let stage = Stage::new();
    let (mut store, reader) = stage.open();
    store.transact(&mut |_| new_job(1, "before")).unwrap();
    let frozen = Frozen::freeze(&stage);
    let began = Instant::now();
    let error = store.transact(&mut |_| new_job(2, "frozen")).unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
    assert!(store.load().is_err(), "nobody answers");
    // a call that came while the first one was waited for is refused with the second
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let began = Instant::now();
    assert!(stage.runtime.block_on(reader.job(JobNumber(1))).is_err());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(frozen);
    let loaded = store.load().unwrap();
    assert_eq!(loaded.jobs, [job(1, "before")], "it had not been decided");
    store
        .transact(&mut |foreign| new_job(foreign.last_job + 1, "after"))
        .unwrap();
    let row = stage.runtime.block_on(reader.job(JobNumber(2))).unwrap().unwrap();
    assert_eq!(row.new.request, b"after");
}

#[test]
fn a_full_disk_is_told_as_one_and_leaves_nothing_behind() {
    let stage = Stage::new();
    let (mut store, _reader) = stage.open();
    stage.runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&stage.server.url(), NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        // the server's own code for it
        let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
            CREATE TRIGGER full_disk BEFORE INSERT ON queue_batch EXECUTE FUNCTION full_disk()";
        client.batch_execute(full).await.unwrap();
        drop(client);
        driver.await.unwrap().unwrap();
    });
    let error = store.transact(&mut |_| new_job(1, "late")).unwrap_err();
    assert!(matches!(error, QueueStoreError::Full { .. }), "{error:?}");
    assert_eq!(store.load().unwrap(), Foreign::default());
}

#[test]
fn what_a_later_program_wrote_is_refused_and_what_does_not_answer_is_told() {
    let mut stage = Stage::new();
    let address: QueueAddress = stage.server.socket_url().parse().unwrap();
    let opened = stage.runtime.block_on(open_queue(&address));
    assert!(opened.is_ok(), "over its socket");
    stage.admin("UPDATE queue_schema SET version = version + 1 RETURNING true");
    let later = stage.runtime.block_on(open_queue(&address)).err().unwrap();
    assert!(matches!(later, QueueStoreError::TooNew { .. }), "{later:?}");
    stage.server.stop();
    let gone = stage.runtime.block_on(open_queue(&address)).err().unwrap();
    assert!(matches!(gone, QueueStoreError::Lost { .. }), "{gone:?}");
    assert!(gone.to_string().contains("does it run"), "{gone}");
}

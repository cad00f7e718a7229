//! Replicas see each other come and go, on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../testnet/src/postgres.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a file of another room, of which this one uses a part"
)]
mod postgres;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use postgres::PostgresServer;
use sandrun_store::queue::{Living, Presence, QueueAddress, ReplicaId, join_replicas};
use tokio::sync::watch::Receiver;

const PATIENCE: Duration = Duration::from_secs(30);

async fn join(address: &QueueAddress, numbers: &[u32]) -> Presence {
    let mut numbers = numbers.iter().copied();
    let joined = join_replicas(address, move || numbers.next().unwrap() << 1).await;
    joined.unwrap().unwrap()
}

/// Waits until exactly these live; how long that took.
async fn until(living: &mut Receiver<Living>, ids: &[u32]) -> Duration {
    let wanted: BTreeSet<ReplicaId> = ids.iter().map(|it| ReplicaId(*it)).collect();
    let began = Instant::now();
    let waited = tokio::time::timeout(PATIENCE, living.wait_for(|it| it.replicas == wanted))
        .await
        .is_ok();
    assert!(waited, "{:?}", living.borrow());
    began.elapsed()
}

/// A connection for looking behind, with the number of each connection that a lock is held on.
async fn holders(config: &tokio_postgres::Config, id: u32) -> (tokio_postgres::Client, i32) {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let text = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND objid::BIGINT = $1";
    let row = client.query_one(text, &[&i64::from(id)]).await.unwrap();
    let pid = row.get(0);
    (client, pid)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_is_missed_at_once_and_who_was_cut_off_comes_back_under_its_number() {
    let server = tokio::task::spawn_blocking(PostgresServer::start)
        .await
        .unwrap()
        .unwrap();
    let address: QueueAddress = server.url().parse().unwrap();
    let config: tokio_postgres::Config = server.url().parse().unwrap();
    let one = join(&address, &[7]).await;
    // a number that somebody has is drawn again
    let two = join(&address, &[7, 8]).await;
    assert_eq!((one.id(), two.id()), (ReplicaId(7), ReplicaId(8)));
    let (mut seen_by_one, mut seen_by_two) = (one.living(), two.living());
    until(&mut seen_by_one, &[7, 8]).await;
    until(&mut seen_by_two, &[7, 8]).await;

    // cut off: missed by the other, and back before long under the same number
    let (client, pid) = holders(&config, 8).await;
    client
        .execute("SELECT pg_terminate_backend($1)", &[&pid])
        .await
        .unwrap();
    let missed = until(&mut seen_by_one, &[7]).await;
    assert!(missed < Duration::from_secs(1), "{missed:?}");
    until(&mut seen_by_one, &[7, 8]).await;
    until(&mut seen_by_two, &[7, 8]).await;

    // queues in other schemas of the database have replicas of their own
    client.batch_execute("CREATE SCHEMA other").await.unwrap();
    let elsewhere: QueueAddress = format!("{}?options=-csearch_path%3Dother", server.url())
        .parse()
        .unwrap();
    let stranger = join(&elsewhere, &[7]).await;
    assert_eq!(
        stranger.living().borrow().replicas,
        BTreeSet::from([ReplicaId(7)])
    );
    drop(stranger);

    drop(two);
    let missed = until(&mut seen_by_one, &[7]).await;
    assert!(missed < Duration::from_secs(1), "{missed:?}");
}

#[tokio::test]
async fn there_is_one_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let address = QueueAddress::Sqlite(folder.path().join("queue.db"));
    assert!(join_replicas(&address, || 0).await.unwrap().is_none());
}

//! One random script on every kind of store, against one model in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "queue/model.rs"]
mod model;
// the testnet's own file: its crate would build the whole market for it
#[allow(dead_code, unreachable_pub, reason = "a file of another room")]
#[path = "../../../testnet/src/postgres.rs"]
mod postgres;
#[path = "queue/script.rs"]
mod script;

use postgres::PostgresServer;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sandrun_store::queue::QueueAddress;
use script::{KINDS, Stage, Step};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0..KINDS, any::<u64>()), 20..160)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn play(runtime: &Runtime, address: &QueueAddress, replicas: usize, script: &[Step]) {
    let mut stage = Stage::open(runtime, address, replicas);
    for step in script {
        stage.act(*step);
    }
    stage.finish();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn sqlite_does_what_the_model_does(script in steps()) {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let address = QueueAddress::Sqlite(folder.path().join("queue.sqlite"));
        play(&runtime, &address, 1, &script);
    }
}

/// Up to three replicas take turns: each gets exactly what the others have written since its last turn.
#[test]
fn postgres_does_what_the_model_does() {
    let server = PostgresServer::start().unwrap();
    let runtime = Runtime::new().unwrap();
    let case = std::cell::Cell::new(0);
    let run = |(script, replicas): (Vec<Step>, usize)| {
        case.set(case.get() + 1);
        let schema = format!("case_{}", case.get());
        runtime.block_on(async {
            let (admin, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
            let driver = tokio::spawn(connection);
            admin
                .batch_execute(&format!("CREATE SCHEMA {schema}"))
                .await
                .unwrap();
            drop(admin);
            driver.await.unwrap().unwrap();
        });
        let url = format!("{}?options=-csearch_path%3D{schema}", server.url());
        play(&runtime, &url.parse().unwrap(), replicas, &script);
        Ok(())
    };
    TestRunner::new(config()).run(&(steps(), 1..4usize), run).unwrap();
}

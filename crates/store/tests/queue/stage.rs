//! A PostgreSQL server of a test's own, replicas on it, and what befalls both.

use std::time::{Duration, Instant};

use sandrun_core::pool::{ClientNumber, JobNumber};
use sandrun_store::queue::{
    ClientRow, Foreign, JobState, JobWord, NewJob, QueueAddress, QueueReader, QueueStore, Writes, open_queue,
};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::postgres::PostgresServer;

type Opened = (Box<dyn QueueStore>, QueueReader);

pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    pub(crate) server: PostgresServer,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            server: PostgresServer::start().unwrap(),
        }
    }

    pub(crate) fn open(&self) -> Opened {
        let address: QueueAddress = self.server.url().parse().unwrap();
        let (mut store, reader) = self.runtime.block_on(open_queue(&address)).unwrap();
        store.load().unwrap();
        (store, reader)
    }

    /// What a statement of the operator's gives, in its first column.
    pub(crate) fn admin(&self, sql: &str) -> Vec<bool> {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.server.url(), NoTls).await.unwrap();
            let driver = tokio::spawn(connection);
            let rows = client.query(sql, &[]).await.unwrap();
            drop(client);
            driver.await.unwrap().unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }

    /// Does several statements of the operator's.
    pub(crate) fn operate(&self, sql: &[&str]) {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.server.url(), NoTls).await.unwrap();
            let driver = tokio::spawn(connection);
            for sql in sql {
                client.batch_execute(sql).await.unwrap();
            }
            drop(client);
            driver.await.unwrap().unwrap();
        });
    }

    /// Crashes the server: it ends all connections, forgets what was not on its disk, and comes back. Whoever was kept
    /// from writing goes on, to its end, as soon as the server has told all.
    pub(crate) fn crash(&self, kept_from_writing: Frozen) {
        self.runtime.block_on(async {
            let connect = || async {
                let (client, connection) = tokio_postgres::connect(&self.server.url(), NoTls).await.unwrap();
                (client, tokio::spawn(connection))
            };
            let (client, driver) = connect().await;
            let (_witness, told) = connect().await;
            let row = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
            let pid = row.get::<_, i32>(0).to_string();
            let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
            assert!(killed.unwrap().success());
            assert!(driver.await.unwrap().is_err());
            // a connection that nothing befell ends when the server knows
            assert!(told.await.unwrap().is_err());
        });
        drop(kept_from_writing);
    }

    /// Stops whoever writes without being asked: from now on only a commit that waits for the disk brings anything there.
    pub(crate) fn keep_from_writing(&self) -> Frozen {
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type IN
             ('walwriter', 'background writer', 'checkpointer', 'autovacuum launcher')";
        let writers = self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.server.url(), NoTls).await.unwrap();
            let driver = tokio::spawn(connection);
            let rows = client.query(sql, &[]).await.unwrap();
            drop(client);
            driver.await.unwrap().unwrap();
            rows
        });
        let frozen = Frozen(
            writers
                .iter()
                .map(|row| row.get::<_, i32>(0).to_string())
                .collect(),
        );
        frozen.signal("-STOP");
        frozen
    }

    /// Loads as soon as there is a server.
    pub(crate) fn load(&self, store: &mut dyn QueueStore) -> Foreign {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match store.load() {
                Ok(loaded) => return loaded,
                Err(error) => assert!(Instant::now() < until, "{error:?}"),
            }
            std::thread::yield_now();
        }
    }

    /// Returns when a query of the operator's says so.
    pub(crate) fn wait_until(&self, sql: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.admin(sql) != [true] {
            assert!(Instant::now() < until, "{sql}");
        }
    }

    /// Ends the connection of whoever holds the writers' lock, as a replica's death would.
    pub(crate) fn kill_the_lock_holder(&self) {
        let killed = self.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1",
        );
        assert_eq!(killed, [true]);
    }
}

pub(crate) fn job(number: u64, snapshot: &str) -> JobState {
    JobState {
        number: JobNumber(number),
        open: true,
        word: JobWord::Pending,
        reason: None,
        node: None,
        attempt: None,
        started: None,
        ended: None,
        snapshot: snapshot.as_bytes().to_vec(),
    }
}

pub(crate) fn new_job(number: u64, who: &str) -> Writes {
    let new = NewJob {
        number: JobNumber(number),
        client: ClientNumber(1),
        created: 1,
        priority: 4,
        request: who.as_bytes().to_vec(),
        blobs: Vec::new(),
        parents: Vec::new(),
        idempotency: Some(format!("{who} {number}")),
    };
    Writes {
        clients: vec![ClientRow {
            number: ClientNumber(1),
            name: "ann".to_owned(),
        }],
        new_jobs: vec![new],
        jobs: vec![job(number, who)],
        ..Writes::default()
    }
}

/// Takes in what others have written.
pub(crate) fn listen(store: &mut dyn QueueStore) -> Foreign {
    let mut heard = None;
    store
        .transact(&mut |foreign| {
            heard = Some(foreign);
            Writes::default()
        })
        .unwrap();
    heard.unwrap()
}

/// Processes of a server that are stopped, until the value is dropped.
pub(crate) struct Frozen(Vec<String>);

impl Frozen {
    /// All of them.
    pub(crate) fn freeze(stage: &Stage) -> Self {
        let backend: i32 = stage.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&stage.server.url(), NoTls).await.unwrap();
            let driver = tokio::spawn(connection);
            let row = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
            let status = std::fs::read_to_string(format!("/proc/{}/status", row.get::<_, i32>(0))).unwrap();
            drop(client);
            driver.await.unwrap().unwrap();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            parent.unwrap().trim().parse().unwrap()
        });
        let children = std::fs::read_to_string(format!("/proc/{backend}/task/{backend}/children")).unwrap();
        let mut all = vec![backend.to_string()];
        all.extend(children.split_whitespace().map(str::to_owned));
        let frozen = Self(all);
        frozen.signal("-STOP");
        frozen
    }

    pub(crate) fn signal(&self, signal: &str) {
        // one that has ended meanwhile is none of ours
        let _ = std::process::Command::new("kill")
            .arg(signal)
            .args(&self.0)
            .status();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

//! Several replicas of a service, as processes that can be killed, at one PostgreSQL.

use std::ops::Deref;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Child;
use tokio_postgres::NoTls;

use crate::postgres::PostgresServer;
use crate::support::{Asked, Listed, Mortal, PATIENCE, write_list};

/// A service as a process.
pub(crate) struct Replica {
    client: Asked,
    process: Child,
}

impl Deref for Replica {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.client
    }
}

impl Replica {
    /// Starts one of a kind at a database.
    async fn start(kind: &str, database: &str, others: &[&str]) -> Self {
        let words = [kind, database].into_iter().chain(others.iter().copied());
        let Mortal { process, base } = Mortal::start(words).await;
        Self {
            client: Asked::new(base),
            process,
        }
    }

    async fn until_it_answers(&self) {
        let answers = async {
            let url = format!("{}/health", self.base);
            while self.http.get(&url).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.unwrap();
    }

    /// Sends it a signal: `-STOP`, `-CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }
}

/// Three of them, with one list of workers.
pub(crate) struct Cluster {
    replicas: Vec<Replica>,
    server: PostgresServer,
    folder: TempDir,
}

impl Cluster {
    /// Coordinators, which have found all workers healthy.
    pub(crate) async fn start(workers: &[&Listed]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let list = write_list(folder.path(), workers).to_string_lossy().into_owned();
        let cluster = Self::of("coordinator", folder, &[&list]).await;
        for replica in &cluster.replicas {
            replica.until_healthy(workers.len() as u64).await;
        }
        cluster
    }

    pub(crate) async fn brokers() -> Self {
        Self::of("broker", tempfile::tempdir().unwrap(), &[]).await
    }

    async fn of(kind: &str, folder: TempDir, others: &[&str]) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let server = tokio::task::spawn_blocking(PostgresServer::start)
            .await
            .unwrap()
            .unwrap();
        let start = async |at: usize| {
            let database = format!("{}?application_name=replica-{at}", server.url());
            Replica::start(kind, &database, others).await
        };
        let replicas = Vec::from(<[Replica; 3]>::from(tokio::join!(start(0), start(1), start(2))));
        for replica in &replicas {
            replica.until_it_answers().await;
        }
        Self {
            replicas,
            server,
            folder,
        }
    }

    /// Those that live.
    pub(crate) fn replicas<const N: usize>(&self) -> [&Replica; N] {
        let all: Vec<&Replica> = self.replicas.iter().collect();
        let Ok(all) = all.try_into() else {
            panic!("there are {} replicas", self.replicas.len());
        };
        all
    }

    /// Kills one, as `kill -9` does.
    pub(crate) async fn kill(&mut self, at: usize) {
        let mut gone = self.replicas.remove(at);
        gone.process.kill().await.unwrap();
    }

    pub(crate) fn list(&self, workers: &[&Listed]) {
        write_list(self.folder.path(), workers);
    }

    /// Who carries the one job that is open, as its row says: `replica-0` for the first that was started.
    pub(crate) async fn carrier(&self) -> Option<String> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let text =
            "SELECT a.application_name FROM queue_job j, pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE j.open AND l.locktype = 'advisory' AND l.objsubid = 2
            AND l.objid::BIGINT = (CONVERT_FROM(j.snapshot, 'UTF8')::JSONB -> 'owners' -> 0 ->> 1)::BIGINT";
        let rows = client.query(text, &[]).await.unwrap();
        rows.first().map(|row| row.get(0))
    }

    /// The database.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }
}

//! Several replicas of a service, as processes that can be killed, at one PostgreSQL.

use std::ops::Deref;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_postgres::NoTls;

use crate::postgres::PostgresServer;
use crate::support::{Asked, Listed, PATIENCE, PROCESS, write_list};

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
    /// Starts `words` with an address and a database before the other words.
    fn start(kind: &str, database: &str, others: &[&str]) -> Self {
        // free now: whoever else asks gets another one
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let process = Command::new(PROCESS)
            .args([kind, &address.to_string(), database])
            .args(others)
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            client: Asked::new(format!("http://{address}")),
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
        let start = |at: usize| {
            let database = format!("{}?application_name=replica-{at}", server.url());
            Replica::start(kind, &database, others)
        };
        let replicas: Vec<Replica> = (0..3).map(start).collect();
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

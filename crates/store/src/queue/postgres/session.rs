//! One connection with its prepared statements.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use crate::queue::error::DatabaseError;
use crate::queue::{Doing, QueueStoreError};

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(4);
/// How long an answer may take that somebody waits for.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How long what is long may take: to load the queue, to remove what is old.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// How long it may take to find out, over a new connection, what became of what broke with the former one.
pub(super) const RETURN: Duration = Duration::from_secs(2);
/// How long a connection may take to end in order.
const CLOSE: Duration = Duration::from_millis(200);

/// A replica that hangs between two statements of a transaction, or does not take what it asked for, may hold the
/// writers' lock: the server ends its connection after so long.
const HANGING: &str = "SET idle_in_transaction_session_timeout = '1s'; SET tcp_user_timeout = '3s'";
/// A writer's statements all find their rows by index, whatever their values: planning them once is enough.
const PLANNED_ONCE: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off";

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'a> {
    /// Batches, and bringing them to the tables: a commit waits for nothing. With the statements to prepare.
    Writer(&'a [&'static str]),
    /// Reads, bodies, sweeps: neither does theirs.
    Reader(&'a [&'static str]),
    /// Once.
    Bare,
}

/// A parameter of a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    driver: JoinHandle<()>,
    statements: HashMap<&'static str, Statement>,
}

/// The caller's address, with what finds out soon that the other side is gone.
pub(super) fn configured(config: &Config) -> Config {
    let mut config = config.clone();
    config
        .connect_timeout(CONNECT)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(20));
    if config.get_application_name().is_none() {
        config.application_name("sandrun-pool");
    }
    config
}

/// Waits for an answer, but not for ever.
pub(super) async fn limited<T>(
    limit: Duration,
    doing: Doing,
    answer: impl Future<Output = Result<T, QueueStoreError>>,
) -> Result<T, QueueStoreError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(result) => result,
        Err(_) => Err(QueueStoreError::Lost {
            doing,
            source: DatabaseError::Silent(limit.as_secs()),
        }),
    }
}

impl Session {
    /// Connects and prepares.
    pub(super) async fn connect(
        config: &Config,
        role: Role<'_>,
        doing: Doing,
    ) -> Result<Self, QueueStoreError> {
        let sql = QueueStoreError::postgres(doing);
        let (client, connection) = config.connect(NoTls).await.map_err(sql)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL broke");
            }
        });
        // the server gives up on a lock before the caller does on the server
        let (commit, lock, planning, list) = match role {
            Role::Writer(list) => ("off", "4s", PLANNED_ONCE, list),
            Role::Reader(list) => ("off", "4s", "", list),
            Role::Bare => ("on", "20s", "", [].as_slice()),
        };
        let setup = format!(
            "SET synchronous_commit = {commit}; SET lock_timeout = '{lock}'; SET statement_timeout = '50s';
             {HANGING}; SET jit = off; {planning}"
        );
        client.batch_execute(&setup).await.map_err(sql)?;
        let prepared = try_join_all(list.iter().map(|text| client.prepare(text)))
            .await
            .map_err(sql)?;
        Ok(Self {
            statements: list.iter().copied().zip(prepared).collect(),
            client,
            driver,
        })
    }

    fn statement(&self, text: &'static str, doing: Doing) -> Result<&Statement, QueueStoreError> {
        self.statements.get(text).ok_or(QueueStoreError::Unreadable {
            doing,
            what: "a statement that was not prepared",
        })
    }

    /// Rows of a prepared statement. Sent at the first poll, so that futures that are polled in an order are sent in it.
    pub(super) async fn query(
        &self,
        text: &'static str,
        values: &[Value<'_>],
        doing: Doing,
    ) -> Result<Vec<Row>, QueueStoreError> {
        let statement = self.statement(text, doing)?;
        let found = self.client.query(statement, values).await;
        found.map_err(QueueStoreError::postgres(doing))
    }

    /// As [`Self::query`], for how many rows it changed.
    pub(super) async fn execute(
        &self,
        text: &'static str,
        values: &[Value<'_>],
        doing: Doing,
    ) -> Result<u64, QueueStoreError> {
        let statement = self.statement(text, doing)?;
        let done = self.client.execute(statement, values).await;
        done.map_err(QueueStoreError::postgres(doing))
    }

    /// As [`Self::query`], for what needs no preparation.
    pub(super) async fn simple(&self, text: &str, doing: Doing) -> Result<(), QueueStoreError> {
        self.client
            .batch_execute(text)
            .await
            .map_err(QueueStoreError::postgres(doing))
    }

    /// Whether it is of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends it, and with it what it had begun.
    pub(super) async fn close(self) {
        let Self { client, driver, .. } = self;
        drop(client);
        let ending = driver.abort_handle();
        if tokio::time::timeout(CLOSE, driver).await.is_err() {
            tracing::debug!("a connection to PostgreSQL did not end in time and is cut off");
            ending.abort();
        }
    }
}

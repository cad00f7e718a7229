//! The tables, from the first version on.

use tokio_postgres::Config;

use super::session::{Role, Session};
use super::{OPEN, SCHEMA_LOCK};
use crate::queue::QueueStoreError;

const MIGRATIONS: &[&str] = &["
    CREATE TABLE queue_counter (
        id INT PRIMARY KEY CHECK (id = 1), seq BIGINT NOT NULL, last_job BIGINT NOT NULL, last_node BIGINT NOT NULL,
        last_client BIGINT NOT NULL
    );
    INSERT INTO queue_counter VALUES (1, 0, 0, 0, 0);
    CREATE TABLE queue_kept (name TEXT PRIMARY KEY, value BYTEA NOT NULL);
    CREATE TABLE queue_client (number BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, changed BIGINT NOT NULL);
    CREATE INDEX queue_client_changed ON queue_client (changed);
    CREATE TABLE queue_job (
        number BIGINT PRIMARY KEY, client BIGINT NOT NULL, created BIGINT NOT NULL, priority BIGINT NOT NULL,
        blobs BYTEA NOT NULL, parents BYTEA NOT NULL, key TEXT, open BOOLEAN NOT NULL, word BIGINT NOT NULL, reason TEXT,
        node BIGINT, attempt BIGINT, started BIGINT, ended BIGINT, snapshot BYTEA NOT NULL, changed BIGINT NOT NULL
    );
    CREATE INDEX queue_job_changed ON queue_job (changed);
    CREATE INDEX queue_job_open ON queue_job (number) WHERE open;
    CREATE INDEX queue_job_by_word ON queue_job (word, number);
    CREATE INDEX queue_job_by_client ON queue_job (client, number);
    CREATE INDEX queue_job_by_client_and_word ON queue_job (client, word, number);
    CREATE INDEX queue_job_by_key ON queue_job (client, key) WHERE key IS NOT NULL;
    CREATE INDEX queue_job_by_end ON queue_job (ended) WHERE NOT open;
    CREATE TABLE queue_request (job BIGINT PRIMARY KEY, body BYTEA NOT NULL);
    CREATE TABLE queue_parent (parent BIGINT NOT NULL, job BIGINT NOT NULL, PRIMARY KEY (parent, job));
    CREATE INDEX queue_parent_of ON queue_parent (job);
    CREATE TABLE queue_node (
        number BIGINT PRIMARY KEY, id TEXT NOT NULL, endpoint TEXT NOT NULL, announced BYTEA NOT NULL,
        heard BIGINT NOT NULL, completed BIGINT NOT NULL, failed BIGINT NOT NULL, snapshot BYTEA NOT NULL,
        changed BIGINT NOT NULL
    );
    CREATE TABLE queue_answer (
        job BIGINT NOT NULL, attempt BIGINT NOT NULL, node BIGINT NOT NULL, exit_code INT, stdout BYTEA NOT NULL,
        stderr BYTEA NOT NULL, outputs BYTEA NOT NULL, receipt BYTEA, signature BYTEA, details BYTEA NOT NULL,
        PRIMARY KEY (job, attempt)
    );
    CREATE TABLE queue_log (
        job BIGINT NOT NULL, stream BIGINT NOT NULL, attempt BIGINT NOT NULL, start BIGINT NOT NULL, bytes BYTEA NOT NULL,
        PRIMARY KEY (job, stream, attempt, start)
    );
    CREATE TABLE queue_blob (
        id BIGSERIAL PRIMARY KEY, hash BYTEA UNIQUE, size BIGINT NOT NULL, touched BIGINT NOT NULL,
        refs BIGINT NOT NULL DEFAULT 0
    );
    CREATE INDEX queue_blob_unused ON queue_blob (touched) WHERE refs = 0 AND hash IS NOT NULL;
    CREATE INDEX queue_blob_nameless ON queue_blob (id) WHERE hash IS NULL;
    CREATE TABLE queue_chunk (
        blob BIGINT NOT NULL, number BIGINT NOT NULL, data BYTEA NOT NULL, PRIMARY KEY (blob, number)
    );
    ALTER TABLE queue_chunk ALTER COLUMN data SET STORAGE EXTERNAL;
    CREATE TABLE queue_use (job BIGINT NOT NULL, hash BYTEA NOT NULL, PRIMARY KEY (job, hash));
", "
    -- each change of a job's row writes into every index that it is in
    DROP INDEX queue_job_by_client_and_word;
", "
    ALTER TABLE queue_answer ADD COLUMN output_root BYTEA;
    CREATE INDEX queue_answer_by_output_root ON queue_answer (output_root, job) WHERE output_root IS NOT NULL;
", "
    -- Batches that the tables may not hold yet, the latest ones in any case. Most are small: they lie in the row, as they
    -- are. Programs of before, which know none of them, find no `seq` any more and write nothing beside them.
    CREATE TABLE queue_batch (
        seq BIGINT PRIMARY KEY, writer BIGINT NOT NULL, last_job BIGINT NOT NULL, last_node BIGINT NOT NULL,
        last_client BIGINT NOT NULL, news BYTEA NOT NULL, rest BYTEA NOT NULL
    ) WITH (toast_tuple_target = 8160);
    ALTER TABLE queue_batch ALTER COLUMN news SET STORAGE EXTERNAL, ALTER COLUMN rest SET STORAGE EXTERNAL;
    ALTER TABLE queue_counter RENAME COLUMN seq TO merged;
", "
    -- Jobs are written shorter, which programs of before can't read: they write nothing beside these.
    ALTER TABLE queue_batch RENAME COLUMN news TO changes;
"];

/// Brings the tables to the latest schema; of several replicas that start at once the first does, and the others wait.
pub(super) async fn migrate(config: &Config) -> Result<(), QueueStoreError> {
    let session = Session::connect(config, Role::Bare, OPEN).await?;
    let sql = QueueStoreError::postgres(OPEN);
    let begin = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({SCHEMA_LOCK});
         CREATE TABLE IF NOT EXISTS queue_schema (id INT PRIMARY KEY CHECK (id = 1), version BIGINT NOT NULL);
         INSERT INTO queue_schema VALUES (1, 0) ON CONFLICT DO NOTHING"
    );
    session
        .client
        .batch_execute("SET client_min_messages = warning")
        .await
        .map_err(sql)?;
    session.client.batch_execute(&begin).await.map_err(sql)?;
    let row = session
        .client
        .query_one("SELECT version FROM queue_schema", &[])
        .await
        .map_err(sql)?;
    let found: i64 = row.try_get(0).map_err(sql)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(QueueStoreError::TooNew { found, known });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or_default()) {
        session.client.batch_execute(migration).await.map_err(sql)?;
    }
    let end = format!("UPDATE queue_schema SET version = {known}; COMMIT");
    session.client.batch_execute(&end).await.map_err(sql)?;
    session.close().await;
    Ok(())
}

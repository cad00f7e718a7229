//! `queue.postgres`: `queue.cycle` on PostgreSQL with three replicas, beside the claim and the complete as two bare
//! statements by `pgbench`, on the same server with the same settings.

use std::path::Path;

use anyhow::Context as _;
use sandrun_testnet::PostgresServer;

use super::broker::Broker;
use super::cycle::{CLAIMERS, run};
use super::load;

/// Brokers that share the queue.
const REPLICAS: usize = 3;
/// Jobs that wait, here and at the peer.
const JOBS: usize = 20_000;
/// Cycles of the peer, so many of each of its clients.
const PEER_CYCLES: usize = JOBS / CLAIMERS;

/// The peer's tables: a job of 1 KiB with its place in the queue, by which alone a claim finds it, and a result.
const TABLES: &str = "
    CREATE TABLE peer_job (
        id BIGSERIAL PRIMARY KEY, place BIGINT NOT NULL, state INT NOT NULL DEFAULT 0, node BIGINT, attempt INT,
        body BYTEA NOT NULL
    );
    CREATE INDEX peer_job_waiting ON peer_job (place) WHERE state = 0;
    CREATE TABLE peer_result (job BIGINT PRIMARY KEY, exit_code INT NOT NULL, stdout BYTEA NOT NULL)";
/// One cycle of the peer: two statements, each its own transaction.
const CYCLE: &str = r"
UPDATE peer_job SET state = 1, node = :client_id, attempt = 1 WHERE id = (SELECT id FROM peer_job WHERE state = 0 ORDER BY place FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id, body \gset
WITH done AS (UPDATE peer_job SET state = 2 WHERE id = :id RETURNING id) INSERT INTO peer_result SELECT id, 0, 'a job'::BYTEA FROM done;
";

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replicated {
    /// Jobs claimed and completed a second.
    pub(crate) rate: f64,
    /// The peer's; absent where there is no `pgbench`.
    pub(crate) peer: Option<f64>,
    /// Claims that were wrongly told that there is no job.
    pub(crate) wrong: f64,
}

/// Jobs claimed and completed a second over three replicas.
///
/// # Errors
/// No PostgreSQL, a broker that does not start or refuses.
pub(crate) async fn cycle_of_replicas(program: &Path) -> anyhow::Result<Replicated> {
    let server = PostgresServer::start_durable().context("a PostgreSQL server")?;
    let peer = peer(&server)?;
    let mut brokers = Vec::new();
    for _ in 0..REPLICAS {
        brokers.push(Broker::start_at(program, &server.url()).await?);
    }
    load::fill(&brokers[0].url, JOBS, false).await?;
    let urls: Vec<&str> = brokers.iter().map(|it| it.url.as_str()).collect();
    let measured = run(&urls, JOBS).await;
    for broker in brokers {
        broker.stop().await;
    }
    let (rate, wrong) = measured?;
    Ok(Replicated { rate, peer, wrong })
}

/// Cycles a second of the bare statements; `None` where there is no `pgbench`.
fn peer(server: &PostgresServer) -> anyhow::Result<Option<f64>> {
    let (Some(psql), Some(pgbench)) = (server.program("psql"), server.program("pgbench")) else {
        return Ok(None);
    };
    let folder = tempfile::tempdir().context("a temporary directory")?;
    let script = folder.path().join("cycle.sql");
    std::fs::write(&script, CYCLE)?;
    let fill = format!(
        "{TABLES};
         INSERT INTO peer_job (place, body)
             SELECT place, DECODE(REPEAT('78', 1024), 'hex') FROM GENERATE_SERIES(1, {JOBS}) AS place;
         VACUUM ANALYZE peer_job; CHECKPOINT"
    );
    for statement in fill.split(';') {
        said(std::process::Command::new(&psql).args([&server.url(), "-qc", statement]))?;
    }
    let text = said(
        std::process::Command::new(&pgbench)
            .args(["-n", "-j", "2", "-c", &CLAIMERS.to_string()])
            .args(["-t", &PEER_CYCLES.to_string(), "-f"])
            .arg(&script)
            .arg(server.url()),
    )?;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|it| it.split(' ').next()?.parse().ok());
    Ok(Some(rate.with_context(|| format!("pgbench said {text}"))?))
}

/// What a command prints.
fn said(command: &mut std::process::Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! `pool.end_to_end`: jobs through the coordinator, from the submit to the result that the client knows, over workers that
//! answer at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::body::Bytes;
use serde_json::Value;

use super::broker::Broker;
use super::stub_worker::StubWorker;
use super::wire::Wire;

/// Jobs of a round.
const JOBS: u32 = 1_000;
/// Jobs that go first.
const WARM_UP: u32 = 200;
/// Rounds; the one in the middle counts.
const ROUNDS: usize = 3;
/// Jobs on their way at once.
const IN_FLIGHT: u32 = 16;
const WORKERS: u8 = 4;
/// Bytes of a bundle, all of its own.
const BUNDLE: usize = 10_000;
const BOUNDARY: &str = "a-boundary-of-the-benchmark";
/// Pause between two questions of a client that polls.
const POLL: Duration = Duration::from_millis(2);
/// Longest wait for the workers.
const START: Duration = Duration::from_secs(20);

/// How a client learns of the end of its job.
#[derive(Debug, Clone, Copy)]
enum Follow {
    /// By the job's events.
    Events,
    /// By asking `/status` again and again, as existing clients do.
    Polls,
}

/// A round's figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Jobs a second, from the first submit to the last result.
    pub(crate) rate: f64,
    /// The median of submit to result, in milliseconds.
    pub(crate) p50: f64,
}

/// Jobs through the coordinator, followed by their events; and the same for clients that poll.
///
/// # Errors
/// A coordinator that does not start or refuses, a job that does not end well.
pub(crate) async fn end_to_end(program: &Path) -> anyhow::Result<(Round, Round)> {
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(StubWorker::start(number).await?);
    }
    let list: Vec<Value> = workers.iter().map(|it| it.entry.clone()).collect();
    let coordinator = Broker::start_coordinator(program, &Value::from(list).to_string()).await?;
    until_healthy(&coordinator.url).await?;
    let followed = middle(&coordinator.url, Follow::Events).await?;
    let polled = middle(&coordinator.url, Follow::Polls).await?;
    coordinator.stop().await;
    Ok((followed, polled))
}

async fn until_healthy(url: &str) -> anyhow::Result<()> {
    let mut wire = Wire::open(url).await?;
    let start = Instant::now();
    while start.elapsed() < START {
        let pool: Value = serde_json::from_slice(&wire.get("/pool").await?)?;
        if pool["healthy_workers"] == WORKERS {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    anyhow::bail!("the workers were not healthy within {START:?}")
}

async fn middle(url: &str, follow: Follow) -> anyhow::Result<Round> {
    round(url, follow, WARM_UP).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(url, follow, JOBS).await?);
    }
    rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    Ok(rounds[ROUNDS / 2])
}

async fn round(url: &str, follow: Follow, jobs: u32) -> anyhow::Result<Round> {
    let left = Arc::new(AtomicU32::new(jobs));
    let mut wires = Vec::new();
    for _ in 0..IN_FLIGHT {
        wires.push(Wire::open(url).await?);
    }
    let mut tasks = tokio::task::JoinSet::new();
    let start = Instant::now();
    for wire in wires {
        tasks.spawn(work(wire, follow, Arc::clone(&left)));
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    let rate = f64::from(jobs) / start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let p50 = latencies[latencies.len() / 2].as_secs_f64() * 1e3;
    Ok(Round { rate, p50 })
}

async fn work(mut wire: Wire, follow: Follow, left: Arc<AtomicU32>) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let take = |it: u32| it.checked_sub(1);
    while let Ok(number) = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
        let body = form(number);
        let asked = Instant::now();
        let answer = wire.post_form("/submit", BOUNDARY, body).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let job = answer["job_id"].as_str().context("a job id")?;
        match follow {
            Follow::Events => {
                let events = wire.get(&format!("/v1/jobs/{job}/logs/stream")).await?;
                let events = std::str::from_utf8(&events)?;
                let done = events.split("event: done").nth(1);
                let is_well = done.is_some_and(|it| it.contains("\"completed\""));
                anyhow::ensure!(is_well, "a job ended so: {events}");
            }
            Follow::Polls => poll(&mut wire, job).await?,
        }
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}

async fn poll(wire: &mut Wire, job: &str) -> anyhow::Result<()> {
    loop {
        let status: Value = serde_json::from_slice(&wire.get(&format!("/status/{job}")).await?)?;
        match status["pool_status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed") | None => anyhow::bail!("a job ended so: {status}"),
            Some(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// A submission of a bundle that no other job has.
fn form(number: u32) -> Bytes {
    let unique = format!("# {number} {:?}\n", Instant::now());
    let filling = "x".repeat(BUNDLE - unique.len());
    format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"files\"; filename=\"main.py\"\r\n\
         content-type: application/octet-stream\r\n\r\n{unique}{filling}\r\n\
         --{BOUNDARY}\r\ncontent-disposition: form-data; name=\"manifest\"\r\n\r\n\
         {{\"entrypoint\": \"main.py\"}}\r\n--{BOUNDARY}--\r\n"
    )
    .into()
}

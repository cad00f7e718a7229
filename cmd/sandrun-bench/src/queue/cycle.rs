//! `queue.cycle`: claims and completions over HTTP by eight nodes, as existing nodes make them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::broker::Broker;
use super::wire::Wire;
use super::{Rate, floor, load};
use crate::statistics;

/// Nodes that claim.
pub(super) const CLAIMERS: usize = 8;
/// Jobs that are measured.
const JOBS: usize = 20_000;
/// Jobs that wait while the same number is measured.
const MILLION: usize = 1_000_000;
/// Rounds with and without them, in turns: a disk's pace changes within seconds.
const ROUNDS: usize = 5;

/// Jobs claimed and completed a second, beside the floor, and how often a claim was told that there is no job while
/// there was one.
///
/// # Errors
/// A broker that does not start or refuses.
pub(crate) async fn cycle(program: &Path) -> anyhow::Result<(Rate, f64)> {
    let broker = Broker::start(program).await?;
    let peer = floor::commits_per_second(&broker.directory)?;
    load::fill(&broker.url, JOBS, false).await?;
    let (rate, wrong) = run(&[&broker.url], JOBS).await?;
    broker.stop().await;
    Ok((Rate { rate, peer }, wrong))
}

/// The same with a million jobs pending, beside a broker without them: the median of rounds that take turns.
///
/// # Errors
/// As [`cycle`].
pub(crate) async fn cycle_of_a_million(program: &Path) -> anyhow::Result<Rate> {
    let (full, plain) = (Broker::start(program).await?, Broker::start(program).await?);
    load::fill(&full.url, MILLION, true).await?;
    let (mut rates, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        load::fill(&plain.url, JOBS, false).await?;
        peers.push(run(&[&plain.url], JOBS).await?.0);
        rates.push(run(&[&full.url], JOBS).await?.0);
        load::fill(&full.url, JOBS, true).await?;
    }
    full.stop().await;
    plain.stop().await;
    Ok(Rate {
        rate: statistics::median(&rates).context("no round")?,
        peer: statistics::median(&peers).context("no round")?,
    })
}

/// Claims and completes so many of the jobs that wait, the claimers spread over the services at these addresses: how many
/// a second, and how many claims were wrongly told that there is none.
pub(super) async fn run(urls: &[&str], jobs: usize) -> anyhow::Result<(f64, f64)> {
    let (left, wrong) = (Arc::new(AtomicUsize::new(jobs)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    let mut wires = Vec::new();
    for number in 0..CLAIMERS {
        let url = urls[number % urls.len()];
        let mut wire = Wire::open(url).await?;
        let capabilities =
            json!({"cpu_cores": 8, "memory_gb": 64, "gpu": false, "interpreters": ["python3"]});
        let endpoint = format!("http://node-{number}.example:8443");
        let registration = json!({"endpoint": endpoint, "capabilities": capabilities});
        let answer = wire.ask("/register", &registration).await?;
        let node = answer["node_id"].as_str().context("a node id")?.to_owned();
        wires.push((wire, node));
    }
    let start = Instant::now();
    for (wire, node) in wires {
        tasks.spawn(work(wire, node, Arc::clone(&left), Arc::clone(&wrong)));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let wrong = u32::try_from(wrong.load(Ordering::Relaxed))?;
    Ok((f64::from(u32::try_from(jobs)?) / seconds, f64::from(wrong)))
}

/// What a node reads of the answer to its claim.
#[derive(Deserialize)]
struct Claimed {
    job: Option<Job>,
}

#[derive(Deserialize)]
struct Job {
    id: String,
    /// Read as a node reads it, and not run.
    #[serde(rename = "code")]
    _code: String,
}

/// What it says in the end.
#[derive(Serialize)]
struct Completion<'a> {
    node_id: &'a str,
    job_id: &'a str,
    output: &'a str,
    error: &'a str,
    exit_code: i32,
}

async fn work(
    mut wire: Wire,
    node: String,
    left: Arc<AtomicUsize>,
    wrong: Arc<AtomicUsize>,
) -> anyhow::Result<()> {
    let claim: Bytes = json!({"node_id": node}).to_string().into();
    while left
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |it| it.checked_sub(1))
        .is_ok()
    {
        let job = loop {
            let answer = wire.post("/claim", None, claim.clone()).await?;
            let claimed: Claimed = serde_json::from_slice(&answer).context("the answer to a claim")?;
            // each that is left here has its job in the queue
            match claimed.job {
                Some(job) => break job.id,
                None => wrong.fetch_add(1, Ordering::Relaxed),
            };
        };
        let completion = Completion {
            node_id: &node,
            job_id: &job,
            output: "a job\n",
            error: "",
            exit_code: 0,
        };
        let body: Bytes = serde_json::to_vec(&completion)?.into();
        let answer = wire.post("/complete", None, body).await?;
        anyhow::ensure!(
            answer.as_ref() == br#"{"status":"ok"}"#,
            "a completion was answered {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}

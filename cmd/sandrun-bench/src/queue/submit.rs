//! `queue.submit`: single submissions over 16 connections, each on disk before it is answered.

use std::path::Path;
use std::time::{Duration, Instant};

use hyper::body::Bytes;

use super::broker::Broker;
use super::wire::Wire;
use super::{Rate, floor, load};

const CONNECTIONS: usize = 16;
/// How long it is measured.
const SPAN: Duration = Duration::from_secs(4);
/// What goes first.
const WARM_UP: Duration = Duration::from_millis(500);

/// Submissions a second beside the floor, and the 99th percentile of their latency in milliseconds.
///
/// # Errors
/// A broker that does not start, a submission that is refused.
pub(crate) async fn submit(program: &Path) -> anyhow::Result<(Rate, f64)> {
    let broker = Broker::start(program).await?;
    let peer = floor::commits_per_second(&broker.directory)?;
    run(&broker.url, WARM_UP).await?;
    let (rate, mut latencies) = run(&broker.url, SPAN).await?;
    broker.stop().await;
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    Ok((Rate { rate, peer }, p99.as_secs_f64() * 1e3))
}

async fn run(url: &str, span: Duration) -> anyhow::Result<(f64, Vec<Duration>)> {
    let body: Bytes = load::plain().to_string().into();
    let mut tasks = tokio::task::JoinSet::new();
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        let (url, body) = (url.to_owned(), body.clone());
        tasks.spawn(async move {
            let mut wire = Wire::open(&url).await?;
            let mut latencies = Vec::new();
            while start.elapsed() < span {
                let asked = Instant::now();
                wire.post("/submit", None, body.clone()).await?;
                latencies.push(asked.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    anyhow::ensure!(!all.is_empty(), "nothing was submitted");
    let rate = f64::from(u32::try_from(all.len())?) / start.elapsed().as_secs_f64();
    Ok((rate, all))
}

//! `queue.memory`: what a job that waits costs in memory.

use std::path::Path;

use super::broker::Broker;
use super::load;

/// Jobs that wait.
const JOBS: u32 = 100_000;

/// Resident bytes for each queued job, above those of an idle service; the worse one of broker and coordinator.
///
/// # Errors
/// A service that does not start or refuses.
pub(crate) async fn bytes_per_job(program: &Path) -> anyhow::Result<f64> {
    let broker = grown(Broker::start(program).await?).await?;
    // nobody is on its list, so that jobs wait there as well
    let coordinator = grown(Broker::start_coordinator(program, "[]").await?).await?;
    Ok(broker.max(coordinator))
}

async fn grown(service: Broker) -> anyhow::Result<f64> {
    let idle = service.resident()?;
    load::fill(&service.url, usize::try_from(JOBS)?, false).await?;
    let full = service.resident()?;
    service.stop().await;
    let grown = u32::try_from(full.saturating_sub(idle) / 1_024)?;
    Ok(f64::from(grown) * 1_024.0 / f64::from(JOBS))
}

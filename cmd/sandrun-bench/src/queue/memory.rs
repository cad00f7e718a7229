//! `queue.memory`: what a job that waits costs in memory.

use std::path::Path;

use super::broker::Broker;
use super::load;

/// Jobs that wait.
const JOBS: u32 = 100_000;

/// Resident bytes for each queued job, above those of an idle broker.
///
/// # Errors
/// A broker that does not start or refuses.
pub(crate) async fn bytes_per_job(program: &Path) -> anyhow::Result<f64> {
    let broker = Broker::start(program).await?;
    let idle = broker.resident()?;
    load::fill(&broker.url, usize::try_from(JOBS)?, false).await?;
    let full = broker.resident()?;
    broker.stop().await;
    let grown = u32::try_from(full.saturating_sub(idle) / 1_024)?;
    Ok(f64::from(grown) * 1_024.0 / f64::from(JOBS))
}

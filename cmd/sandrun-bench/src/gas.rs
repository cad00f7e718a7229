//! `gas.slow.rN`: what a job costs in gas from its posting to its settlement, all its transactions together, on a real
//! local chain with the committed contracts. Plain keys make the calls of client and agents, one after the other.
//!
//! Counted: the posting, and a claim, a commit and a reveal for each seat, the first reveal with the result. With two
//! replicas a price is left over (the extra round's), so the refund's transaction counts as well. Not counted: the
//! nodes' registration and the withdrawal of earnings. The nodes and the client have worked before: one whole job goes
//! first. Agents whose reveals meet in one block may each bring the result: what that costs on top is not in the figure.

mod market;

use sandrun_types::Redundancy;

use crate::gas::market::Market;
use crate::statistics::median;

/// Jobs that are measured; claims differ a little by the ticket that wins.
const JOBS: u64 = 9;

/// Median gas of a job with this redundancy.
///
/// # Errors
/// No anvil, a transaction that fails, a job that does not end as it should.
pub(crate) async fn posting_to_settlement(redundancy: Redundancy) -> anyhow::Result<f64> {
    let market = Market::open(redundancy).await?;
    market.settle_a_job(0).await?;
    let mut figures = Vec::new();
    for nonce in 1..=JOBS {
        let gas = u32::try_from(market.settle_a_job(nonce).await?)?;
        figures.push(f64::from(gas));
    }
    median(&figures).ok_or_else(|| anyhow::anyhow!("no job was measured"))
}

//! Lines that fail for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use sandrun_core::market::Phase;
use sandrun_testnet::Role::Honest;

use crate::chain::until;
use crate::scene::Frail;
use crate::wire::Mode;

/// For how many blocks (seconds) a fault lasts.
const BLOCKS: u64 = 6;

/// Has the lines that fit fail, each in every way, while a job is under way.
async fn fail(name: &str, fits: impl Fn(&str, &str) -> bool + Copy) -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let mut jobs = BTreeMap::new();
    for (word, mode) in [
        ("cut", Mode::Cut),
        ("stalled", Mode::Stalled),
        ("short", Mode::Short(60)),
        ("nonsense", Mode::Nonsense),
        ("corrupt", Mode::Corrupt),
        ("slow", Mode::Slow(Duration::from_millis(150))),
    ] {
        jobs.insert(frail.post(&key, word).await?, word.to_owned());
        frail.wires.set(mode, fits);
        frail.blocks(BLOCKS).await?;
        frail.wires.set(Mode::Straight, fits);
    }
    for (job, word) in &jobs {
        frail
            .over(job)
            .await
            .map_err(|error| error.context(format!("{name} {word}: {job}")))?;
    }
    frail.check(&jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_to_the_chain_may_fail() -> anyhow::Result<()> {
    fail("anvil", |_, target| target == "anvil").await
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_to_the_store_and_to_executors_may_fail() -> anyhow::Result<()> {
    fail("others", |_, target| target != "anvil").await
}

/// Blocks (seconds) for which no RPC answers, and seconds that a job's program may take: its run window is 105 s, of which
/// the last 15 are for answers without a result.
const LONG: u64 = 66;
const TIMEOUT: u32 = 25;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes over a minute: make faults"]
async fn an_rpc_that_is_down_for_over_a_minute_costs_nobody_anything() -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let job = frail.post_for(&key, "long", TIMEOUT).await?;
    let seated = until(&frail, &job, |it| it.phase != Phase::Seats);
    tokio::time::timeout(Duration::from_secs(60), seated).await??;
    let to_chain = |_: &str, target: &str| target == "anvil";
    // before anybody has committed
    frail.wires.set(Mode::Cut, to_chain);
    frail.blocks(LONG).await?;
    frail.wires.set(Mode::Straight, to_chain);
    frail.over(&job).await?;
    frail.check(&BTreeMap::from([(job, "long".to_owned())])).await?;
    frail.scene.market.stop().await;
    Ok(())
}

//! The model is the contract: what the simulator's chain executed is executed again, call by call, by the real contracts
//! on anvil and by a fresh model. Both accept and refuse the same calls, emit the same events, and end in the same state.

mod replay;
mod translate;

use anyhow::Context as _;
use replay::Replay;

/// Histories that are replayed; each has twenty jobs. In the last a poke decides, slashes a liar, and is tipped for it.
/// SANDRUN_SEEDS=300 replays the first 300, SANDRUN_SEED=7 the seventh.
const SEEDS: [u64; 3] = [1, 2, 27];

#[tokio::test]
async fn the_contract_does_what_the_model_does() -> anyhow::Result<()> {
    let (mut accepted, mut refused) = (0, 0);
    let one = number("SANDRUN_SEED").map(|seed| vec![seed]);
    let many = number("SANDRUN_SEEDS").map(|last| (1..=last).collect());
    for seed in one.or(many).unwrap_or(SEEDS.to_vec()) {
        let (good, bad) = replay(seed)
            .await
            .with_context(|| format!("SANDRUN_SEED={seed}"))?;
        accepted += good;
        refused += bad;
    }
    println!("{accepted} calls were accepted, {refused} refused");
    assert!(
        accepted > 100 && refused > 0,
        "{accepted} accepted, {refused} refused"
    );
    Ok(())
}

async fn replay(seed: u64) -> anyhow::Result<(u32, u32)> {
    let script = sandrun_simulator::script(seed)?;
    let mut replay = Replay::start(&script).await?;
    let (mut accepted, mut refused) = (0, 0);
    for block in &script.blocks {
        let (good, bad) = replay.block(block).await?;
        accepted += good;
        refused += bad;
    }
    replay.compare().await?;
    Ok((accepted, refused))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("SANDRUN_SEED and SANDRUN_SEEDS are numbers"))
}

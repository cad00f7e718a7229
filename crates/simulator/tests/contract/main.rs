//! The model is the contract: what the simulator's chain executed is executed again, call by call, by the real contracts
//! on anvil and by a fresh model. Both accept and refuse the same calls, emit the same events, and end in the same state.

mod replay;
mod translate;

use replay::Replay;

/// Histories that are replayed; each has twenty jobs.
const SEEDS: [u64; 2] = [1, 2];

#[tokio::test]
async fn the_contract_does_what_the_model_does() -> anyhow::Result<()> {
    let (mut accepted, mut refused) = (0, 0);
    for seed in SEEDS {
        let script = sandrun_simulator::script(seed)?;
        let mut replay = Replay::start(&script).await?;
        for block in &script.blocks {
            let (good, bad) = replay.block(block).await?;
            accepted += good;
            refused += bad;
        }
        replay.compare().await?;
    }
    println!("{accepted} calls were accepted, {refused} refused");
    assert!(
        accepted > 250 && refused > 20,
        "{accepted} accepted, {refused} refused"
    );
    Ok(())
}

//! What a connection counts, on a real chain.

use sandrun_chain::{Call, ChainUpdate};
use sandrun_metrics::Exposition;
use sandrun_types::{Address, Amount, Redundancy, UnixSeconds};

use crate::world::{World, applied_until, next};

fn text(world: &World) -> String {
    let mut out = Exposition::default();
    world.chain.meters().expose(&mut out, UnixSeconds(0));
    out.finish()
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|it| it == line), "{line} is missing of\n{text}");
}

#[tokio::test]
async fn transactions_and_a_reorganisation_are_counted() -> anyhow::Result<()> {
    let world = World::new().await?;
    let before = text(&world);
    let paid = world
        .client
        .send(Call::pay(Address::repeat_byte(7), Amount::from_gwei(1)))
        .await?;
    assert_eq!(paid.gas_used, 21_000);
    // a job that is not there: refused by the dry run, for nothing
    let nothing = world.order(Redundancy::One, 9).job_id(world.market.escrow_ref());
    assert!(world.client.send(world.market.poke(nothing)).await.is_err());
    let after = text(&world);
    let number = |text: &str, name: &str| -> Option<f64> {
        let line = text.lines().find_map(|it| it.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    for (name, more) in [
        ("sandrun_transactions_sent_total", 1.0),
        ("sandrun_transactions_ended_total{outcome=\"mined\"}", 1.0),
        ("sandrun_transactions_ended_total{outcome=\"refused\"}", 1.0),
        ("sandrun_transactions_ended_total{outcome=\"lost\"}", 0.0),
        ("sandrun_gas_used_total", 21_000.0),
    ] {
        let grown = number(&after, name).zip(number(&before, name));
        assert_eq!(grown.map(|(new, old)| new - old), Some(more), "{name}\n{after}");
    }
    assert!(number(&after, "sandrun_gas_fees_coins_total") > number(&before, "sandrun_gas_fees_coins_total"));

    world.chain.dev_mine(3, 1).await?;
    let tip = world.chain.head().await?.block.number;
    let mut watch = world.reader.watch(world.reader.from_start(), []);
    applied_until(&mut watch, tip).await?;
    let now = world.chain.head().await?.timestamp;
    let good = world.chain.meters().check(world.chain.id(), now);
    assert!(good.ok, "{good:?}");
    has(&text(&world), &format!("sandrun_chain_head_block {tip}"));
    has(&text(&world), "sandrun_chain_reorgs_total 0");
    world.chain.dev_reorg(2).await?;
    world.chain.dev_mine(1, 1).await?;
    loop {
        if let ChainUpdate::Head(head) = next(&mut watch).await?
            && head.block.number > tip
        {
            break;
        }
    }
    let counted = text(&world);
    has(&counted, "sandrun_chain_reorgs_total 1");
    has(&counted, "sandrun_chain_undone_blocks_total 2");
    has(&counted, "sandrun_chain_deepest_reorg_blocks 2");
    has(&counted, "sandrun_chain_rpc_errors_total{kind=\"unreachable\"} 0");

    let World { anvil, chain, .. } = world;
    anvil.stop().await;
    assert!(chain.head().await.is_err());
    let mut out = Exposition::default();
    chain.meters().expose(&mut out, UnixSeconds(0));
    has(
        &out.finish(),
        "sandrun_chain_rpc_errors_total{kind=\"unreachable\"} 1",
    );
    Ok(())
}

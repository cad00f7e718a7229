//! The watch: reorganisations, restarts, interruptions.

use std::time::Duration;

use futures::StreamExt as _;
use sandrun_chain::{
    BlockHash, BlockRef, Bytes, Chain, ChainUpdate, ConnectOptions, Cursor, Head, MarketReader, WatchError,
};
use sandrun_core::market::MarketEvent;
use sandrun_types::{B256, Redundancy, UnixSeconds};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{SOON, World, applied_until, is_claimed, is_posted, next, next_fact};

/// Signed bytes of a mined transaction.
async fn raw(chain: &Chain, hash: sandrun_chain::TxHash) -> anyhow::Result<Bytes> {
    use alloy::providers::Provider as _;
    let raw = chain.provider().get_raw_transaction_by_hash(hash.0).await?;
    raw.ok_or_else(|| anyhow::anyhow!("no transaction {hash}"))
}

#[tokio::test]
async fn a_reorganisation_undoes_posting_and_claim_and_brings_the_posting_back() -> anyhow::Result<()> {
    let world = World::new().await?;
    let node = world.node(2).await?;
    let mut watch = world.reader.watch(world.reader.from_start(), []);
    let before = world.chain.head().await?.block.number;
    let (registered, _) = applied_until(&mut watch, before).await?;
    assert!(
        registered
            .iter()
            .any(|it| matches!(it.event, MarketEvent::NodeRegistered { .. })),
        "{registered:?}"
    );
    let (job, posted) = world.post(&world.order(Redundancy::One, 1)).await?;
    let claimed = world.claim(&node, job, 0).await?;
    let (facts, _) = applied_until(&mut watch, claimed.block.number).await?;
    assert!(
        is_posted(&facts[0].event, job) && facts.iter().any(|it| is_claimed(&it.event, job)),
        "{facts:?}"
    );
    let signed = raw(&world.chain, posted.hash).await?;
    let tip = world.chain.head().await?.block.number;
    world
        .chain
        .dev_reorg_with(tip - posted.block.number + 1, &[(signed, 0)])
        .await?;
    assert_eq!(
        world.chain.head().await?.block.number,
        tip,
        "the new branch is not longer"
    );
    for expected in facts.iter().rev() {
        assert_eq!(
            next_fact(&mut watch).await?,
            ChainUpdate::Undone(expected.clone())
        );
    }
    let back = next_fact(&mut watch).await?;
    assert!(
        matches!(&back, ChainUpdate::Applied(it) if is_posted(&it.event, job)),
        "{back:?}"
    );
    assert!(
        !facts.iter().any(|it| ChainUpdate::Applied(it.clone()) == back),
        "in another block"
    );
    // and the claim is made again
    let again = world.claim(&node, job, 0).await?;
    let (facts, _) = applied_until(&mut watch, again.block.number).await?;
    assert!(facts.iter().any(|it| is_claimed(&it.event, job)), "{facts:?}");
    Ok(())
}

#[tokio::test]
async fn a_restart_undoes_what_was_reorganised_meanwhile() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (job, posted) = world.post(&world.order(Redundancy::One, 1)).await?;
    world.chain.dev_mine(3, 1).await?;
    let tip = world.chain.head().await?.block.number;
    let mut cursor = world.reader.from_start();
    let mut known = Vec::new();
    let mut watch = world.reader.watch(cursor.clone(), []);
    while cursor.tip().is_none_or(|it| it.number < tip) {
        match next(&mut watch).await? {
            ChainUpdate::Head(head) => cursor.advance(&head),
            ChainUpdate::Applied(logged) => known.push(logged),
            ChainUpdate::Undone(logged) => panic!("{logged:?}"),
        }
    }
    drop(watch);
    let cursor: Cursor = serde_json::from_str(&serde_json::to_string(&cursor)?)?;
    // nothing happened: the watch goes on after its cursor
    world.chain.dev_mine(1, 1).await?;
    let mut watch = world.reader.watch(cursor.clone(), known.clone());
    assert!(matches!(next(&mut watch).await?, ChainUpdate::Head(head) if head.block.number == tip + 1));
    drop(watch);
    world.chain.dev_reorg(tip + 1 - posted.block.number + 1).await?;
    let (other, _) = world.post(&world.order(Redundancy::One, 2)).await?;
    let mut watch = world.reader.watch(cursor.clone(), known.clone());
    let undone = next(&mut watch).await?;
    assert!(
        matches!(&undone, ChainUpdate::Undone(it) if is_posted(&it.event, job)),
        "{undone:?}"
    );
    let back = next(&mut watch).await?;
    assert!(
        matches!(&back, ChainUpdate::Head(it) if it.block.number == posted.block.number - 1),
        "{back:?}"
    );
    let applied = next_fact(&mut watch).await?;
    assert!(
        matches!(&applied, ChainUpdate::Applied(it) if is_posted(&it.event, other)),
        "{applied:?}"
    );
    // without its events there is nothing to undo, but the head goes back all the same
    let mut watch = world.reader.watch(cursor, []);
    assert_eq!(next(&mut watch).await?, back);
    Ok(())
}

#[tokio::test]
async fn a_cursor_of_another_chain_ends_the_watch() -> anyhow::Result<()> {
    let world = World::new().await?;
    world.chain.dev_mine(5, 1).await?;
    let mut cursor = Cursor::from_block(0);
    for number in 1..4 {
        let block = BlockRef {
            number,
            hash: BlockHash(B256::repeat_byte(9)),
        };
        cursor.advance(&Head {
            block,
            timestamp: UnixSeconds(0),
            base_fee: None,
        });
    }
    let mut watch = world.reader.watch(cursor, []);
    let error = tokio::time::timeout(SOON, watch.next()).await?;
    assert!(
        matches!(&error, Some(Err(it @ WatchError::TooDeep { oldest: 1 })) if it.is_final()),
        "{error:?}"
    );
    assert!(tokio::time::timeout(SOON, watch.next()).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn catches_up_by_ranges_and_then_block_by_block() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (first, _) = world.post(&world.order(Redundancy::One, 1)).await?;
    world.chain.dev_mine(200, 1).await?;
    let (second, outcome) = world.post(&world.order(Redundancy::One, 2)).await?;
    let mut watch = world.reader.watch(world.reader.from_start(), []);
    let (mut heads, mut posted) = (0, Vec::new());
    loop {
        match next(&mut watch).await? {
            ChainUpdate::Head(head) if head.block == outcome.block => break,
            ChainUpdate::Head(_) => heads += 1,
            ChainUpdate::Applied(it) => posted.extend(it.event.job()),
            ChainUpdate::Undone(it) => panic!("{it:?}"),
        }
    }
    posted.dedup();
    assert_eq!(posted, [first, second]);
    assert!(heads < 100, "{heads} heads: the old blocks came as one");
    Ok(())
}

#[tokio::test]
async fn confirmed_facts_wait_and_undone_ones_never_come() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut cursor = world.reader.from_start();
    cursor.advance(&world.chain.head().await?);
    let mut confirmed = world.reader.watch(cursor, []).confirmed(2);
    let (_gone, outcome) = world.post(&world.order(Redundancy::One, 1)).await?;
    world.chain.dev_reorg(1).await?;
    let (kept, posted) = world.post(&world.order(Redundancy::One, 2)).await?;
    assert_eq!(outcome.block.number + 1, posted.block.number);
    world.chain.dev_mine(2, 1).await?;
    loop {
        match tokio::time::timeout(SOON, confirmed.next())
            .await?
            .ok_or_else(|| anyhow::anyhow!("ended"))??
        {
            ChainUpdate::Head(head) => assert!(head.block.number < posted.block.number, "passed by the fact"),
            ChainUpdate::Undone(it) => panic!("{it:?}"),
            ChainUpdate::Applied(it) => {
                assert!(is_posted(&it.event, kept), "{it:?}");
                break;
            }
        }
    }
    Ok(())
}

/// Passes connections on to `to` while `up`.
async fn relay(to: String, up: watch::Receiver<bool>) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let (to, mut up) = (to.clone(), up.clone());
            tokio::spawn(async move {
                let Ok(mut there) = TcpStream::connect(&to).await else {
                    return;
                };
                let both = tokio::io::copy_bidirectional(&mut from, &mut there);
                tokio::select! { _ = both => {}, _ = up.wait_for(|up| !up) => {} }
            });
        }
    });
    Ok(url)
}

#[tokio::test]
async fn an_interruption_is_said_and_nothing_is_lost() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (switch, up) = watch::channel(true);
    let address = world.anvil.url().trim_start_matches("http://").to_owned();
    let url = relay(address, up).await?;
    let options = ConnectOptions {
        poll_interval: Some(Duration::from_millis(30)),
        ..ConnectOptions::default()
    };
    let chain = Chain::connect_with(&url, None, options).await?;
    let reader = MarketReader::new(chain, world.market.clone());
    let mut watch = reader.watch(reader.from_start(), []);
    let tip = world.chain.head().await?.block.number;
    applied_until(&mut watch, tip).await?;
    switch.send(false)?;
    let error = tokio::time::timeout(SOON, watch.next()).await?;
    assert!(
        matches!(&error, Some(Err(it @ WatchError::Interrupted { .. })) if !it.is_final()),
        "{error:?}"
    );
    let (job, _) = world.post(&world.order(Redundancy::One, 1)).await?;
    switch.send(true)?;
    loop {
        match tokio::time::timeout(SOON, watch.next())
            .await?
            .ok_or_else(|| anyhow::anyhow!("ended"))?
        {
            Ok(ChainUpdate::Applied(it)) if is_posted(&it.event, job) => break,
            Ok(_) | Err(WatchError::Interrupted { .. }) => {}
            Err(error @ WatchError::TooDeep { .. }) => return Err(error.into()),
        }
    }
    Ok(())
}

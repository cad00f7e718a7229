//! The sender: lost, slow, overtaken and resumed transactions. No contract is needed but where one refuses.

use std::time::Duration;

use alloy::providers::Provider as _;
use sandrun_chain::anvil::{Anvil, AnvilOptions, Mining};
use sandrun_chain::{Call, Chain, Key, SendError, Sender, SenderConfig, SignedTx, TxHash, TxOutcome};
use sandrun_types::{Address, Amount, Attempt, Redundancy};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::world::{SOON, World, connect};

const TO: Address = Address::repeat_byte(0x77);

/// A chain that mines only when asked.
async fn manual() -> anyhow::Result<(Anvil, Chain)> {
    let anvil = Anvil::start(&AnvilOptions {
        mining: Mining::Manual,
        ..AnvilOptions::default()
    })
    .await?;
    let chain = connect(&anvil).await?;
    Ok((anvil, chain))
}

fn sender(chain: &Chain) -> anyhow::Result<Sender> {
    Ok(Sender::new(
        chain.clone(),
        Anvil::key(3)?,
        None,
        SenderConfig::default(),
    ))
}

/// A call on its way, and the versions that were recorded.
struct Flight {
    task: JoinHandle<Result<TxOutcome, SendError>>,
    versions: UnboundedReceiver<SignedTx>,
}

impl Flight {
    fn launch(sender: &Sender, call: Call) -> Self {
        let (told, versions) = unbounded_channel();
        let sender = sender.clone();
        let task = tokio::spawn(async move {
            let record = move |signed: &SignedTx| told.send(signed.clone()).map_err(Into::into);
            sender.send_recorded(call, record).await
        });
        Self { task, versions }
    }

    /// The next version, once the node has it.
    async fn version(&mut self, chain: &Chain) -> anyhow::Result<SignedTx> {
        let signed = tokio::time::timeout(SOON, self.versions.recv()).await?;
        let signed = signed.ok_or_else(|| anyhow::anyhow!("no version"))?;
        known(chain, signed.hash).await?;
        Ok(signed)
    }

    /// Mines until it is done.
    async fn mine(mut self, chain: &Chain) -> anyhow::Result<Result<TxOutcome, SendError>> {
        let ends = tokio::time::Instant::now() + SOON;
        while tokio::time::Instant::now() < ends {
            chain.dev_mine(1, 1).await?;
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(40), &mut self.task).await {
                return Ok(done?);
            }
        }
        anyhow::bail!("not done after {SOON:?}")
    }
}

/// Waits until the node knows a transaction.
async fn known(chain: &Chain, hash: TxHash) -> anyhow::Result<()> {
    let ends = tokio::time::Instant::now() + SOON;
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while looks.tick().await < ends {
        if chain.provider().get_transaction_by_hash(hash.0).await?.is_some() {
            return Ok(());
        }
    }
    anyhow::bail!("the node never got {hash}")
}

fn pay(gwei: u64) -> Call {
    Call::pay(TO, Amount::from_gwei(gwei))
}

#[tokio::test]
async fn many_at_once_have_nonces_in_a_row() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let sender = sender(&chain)?;
    let mut flights: Vec<Flight> = (1..=5).map(|gwei| Flight::launch(&sender, pay(gwei))).collect();
    let mut nonces = Vec::new();
    for flight in &mut flights {
        nonces.push(flight.version(&chain).await?.nonce);
    }
    nonces.sort_unstable();
    assert_eq!(nonces, [0, 1, 2, 3, 4]);
    for flight in flights {
        flight.mine(&chain).await??;
    }
    assert_eq!(chain.balance(TO).await?, Amount::from_gwei(15));
    Ok(())
}

#[tokio::test]
async fn a_slow_one_is_replaced_with_higher_fees() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let sender = sender(&chain)?;
    let mut flight = Flight::launch(&sender, pay(1));
    let first = flight.version(&chain).await?;
    assert_eq!(first.attempt, Attempt::FIRST);
    // gas is dearer now than the first version pays
    chain
        .dev_base_fee(u64::try_from(first.fees.max_fee_per_gas)? * 3)
        .await?;
    let outcome = flight.mine(&chain).await??;
    assert!(
        outcome.attempt > Attempt::FIRST && outcome.hash != first.hash,
        "{outcome:?}"
    );
    assert_eq!(chain.balance(TO).await?, Amount::from_gwei(1), "paid once");
    Ok(())
}

#[tokio::test]
async fn a_lost_one_is_sent_again() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let mut flight = Flight::launch(&sender(&chain)?, pay(1));
    let first = flight.version(&chain).await?;
    chain.dev_drop(first.hash).await?;
    known(&chain, first.hash).await?;
    let outcome = flight.mine(&chain).await??;
    assert_eq!((outcome.hash, outcome.attempt), (first.hash, Attempt::FIRST));
    Ok(())
}

#[tokio::test]
async fn a_gap_below_is_filled() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let sender = sender(&chain)?;
    let mut lost = Flight::launch(&sender, pay(1));
    let first = lost.version(&chain).await?;
    let mut flight = Flight::launch(&sender, pay(2));
    let second = flight.version(&chain).await?;
    assert_eq!((first.nonce, second.nonce), (0, 1));
    // nobody cares for the first any more, and the node has lost it
    lost.task.abort();
    assert!(lost.task.await.is_err());
    chain.dev_drop(first.hash).await?;
    flight.mine(&chain).await??;
    assert_eq!(chain.balance(TO).await?, Amount::from_gwei(2));
    Ok(())
}

#[tokio::test]
async fn one_that_is_overtaken_is_said_to_be() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let mut flight = Flight::launch(&sender(&chain)?, pay(1));
    let first = flight.version(&chain).await?;
    chain.dev_drop(first.hash).await?;
    // the same key in another place
    let elsewhere = alloy::rpc::types::TransactionRequest::default()
        .from(first.from)
        .to(TO)
        .nonce(first.nonce);
    let dear = elsewhere
        .max_fee_per_gas(first.fees.max_fee_per_gas * 4)
        .max_priority_fee_per_gas(3_000_000_000);
    let _watched_elsewhere = chain.provider().send_transaction(dear).await?;
    let error = flight.mine(&chain).await?.unwrap_err();
    assert!(matches!(error, SendError::Replaced { nonce: 0, .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_journalled_one_is_resumed_and_mined_once() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let before = sender(&chain)?;
    let mut flight = Flight::launch(&before, pay(1));
    let first = flight.version(&chain).await?;
    flight.task.abort();
    assert!(flight.task.await.is_err());
    chain.dev_drop(first.hash).await?;
    let journalled: SignedTx = serde_json::from_str(&serde_json::to_string(&first)?)?;
    // a new process
    let after = sender(&chain)?;
    let resumed = {
        let (after, journalled) = (after.clone(), journalled.clone());
        tokio::spawn(async move { after.resume(journalled, |_| Ok(())).await })
    };
    known(&chain, first.hash).await?;
    let outcome = Flight {
        task: resumed,
        versions: unbounded_channel().1,
    }
    .mine(&chain)
    .await??;
    assert_eq!(outcome.hash, first.hash);
    // and once more, when it is mined long since
    assert_eq!(
        after.resume(journalled.clone(), |_| Ok(())).await?.hash,
        first.hash
    );
    assert_eq!(chain.balance(TO).await?, Amount::from_gwei(1));
    let other = Sender::new(chain.clone(), Key::random(), None, SenderConfig::default());
    assert!(matches!(
        other.resume(journalled, |_| Ok(())).await,
        Err(SendError::OtherKey { .. })
    ));
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_that_was_not_recorded() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let sender = sender(&chain)?;
    let error = sender
        .send_recorded(pay(1), |_| Err("the disk is full".into()))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::Record { .. }) && error.to_string().contains("disk is full"),
        "{error}"
    );
    assert_eq!(
        chain
            .provider()
            .get_transaction_count(sender.address())
            .pending()
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn limits_are_kept_before_anything_is_sent() -> anyhow::Result<()> {
    let (_anvil, chain) = manual().await?;
    let with = |config| Ok::<_, anyhow::Error>(Sender::new(chain.clone(), Anvil::key(3)?, None, config));
    let small = with(SenderConfig {
        gas_cap: 20_000,
        ..SenderConfig::default()
    })?;
    assert!(matches!(
        small.send(pay(1)).await,
        Err(SendError::GasAboveCap { cap: 20_000, .. })
    ));
    let cheap = with(SenderConfig {
        max_fee_cap: 1,
        ..SenderConfig::default()
    })?;
    assert!(matches!(
        cheap.send(pay(1)).await,
        Err(SendError::FeeAboveCap { cap: 1, .. })
    ));
    // but not for a call on which more hangs
    let mut flight = Flight::launch(&cheap.paying_up_to(500_000_000_000), pay(1));
    flight.version(&chain).await?;
    flight.mine(&chain).await??;
    let poor = Sender::new(chain.clone(), Key::random(), None, SenderConfig::default());
    let error = poor.send(pay(1)).await.unwrap_err();
    assert!(matches!(error, SendError::NotEnoughCoin { .. }), "{error:?}");
    assert!(error.to_string().contains(&poor.address().to_string()), "{error}");
    Ok(())
}

#[tokio::test]
async fn one_that_reverts_when_mined_says_why() -> anyhow::Result<()> {
    let world = World::new().await?;
    let order = world.order(Redundancy::One, 1);
    world.post(&order).await?;
    world.chain.dev_automine(false).await?;
    let mut flight = Flight::launch(&world.client, world.market.cancel(&order));
    flight.version(&world.chain).await?;
    // the seat window ends before the block comes
    world.chain.dev_increase_time(1_000).await?;
    let error = flight.mine(&world.chain).await?.unwrap_err();
    assert!(matches!(error, SendError::Reverted { .. }), "{error:?}");
    assert!(
        error.revert().and_then(sandrun_chain::Revert::refusal).is_some(),
        "{error}"
    );
    Ok(())
}

//! A chain that takes things back, falls behind, or is another.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use sandrun_chain::JobState;
use sandrun_chain::anvil::{Anvil, AnvilOptions, Mining};
use sandrun_core::market::Phase;
use sandrun_testnet::Role::Honest;
use serde_json::json;

use crate::say;
use crate::scene::Frail;
use crate::wire::Mode;

/// Waits until the chain says this of a job.
pub(crate) async fn until(frail: &Frail, job: &str, what: impl Fn(&JobState) -> bool) -> anyhow::Result<()> {
    let reader = frail.scene.market.reader().await?;
    let job = job.parse()?;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while !reader.job(job).await?.is_some_and(|it| what(&it)) {
        looks.tick().await;
    }
    Ok(())
}

/// A step of a job, and how many blocks are taken back when it is reached.
pub(crate) type Step = (&'static str, u64, fn(&JobState) -> bool);

pub(crate) const STEPS: [Step; 5] = [
    ("a-seat", 1, |it| it.seats > 0),
    ("all-seats", 2, |it| it.phase != Phase::Seats),
    ("a-commit", 2, |it| !it.committed.is_empty()),
    ("a-reveal", 2, |it| !it.revealed.is_empty()),
    ("settlement", 3, |it| it.phase == Phase::Closed),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chain_takes_back_is_done_again() -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let mut jobs = BTreeMap::new();
    for (word, depth, reached) in STEPS {
        let job = frail.post(&key, word).await?;
        let reached = until(&frail, &job, reached);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .with_context(|| format!("{word} of {job}"))??;
        frail.scene.market.reorganise(depth).await?;
        jobs.insert(job, word.to_owned());
    }
    for (job, word) in &jobs {
        frail.over(job).await.with_context(|| format!("{word}: {job}"))?;
    }
    // what was closed may have been taken back: once more, when all has come to rest
    frail.blocks(3).await?;
    frail.check(&jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

/// A copy of the chain that stands still.
async fn copy(frail: &Frail, chain_id: u64) -> anyhow::Result<Anvil> {
    let options = AnvilOptions {
        mining: Mining::Manual,
        chain_id,
        extra: vec!["--fork-url".to_owned(), frail.scene.market.rpc.clone()],
        ..AnvilOptions::default()
    };
    Ok(Anvil::start(&options).await?)
}

/// All agents and the manager see another chain for a while, in the middle of jobs.
async fn astray(chain_id: u64) -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let mut jobs = BTreeMap::new();
    for (word, _, reached) in STEPS {
        // an RPC that has stopped in the past, however far
        let copy = copy(&frail, chain_id).await?;
        let elsewhere = Mode::Elsewhere(copy.url().trim_start_matches("http://").parse()?);
        let job = frail.post(&key, word).await?;
        let reached = until(&frail, &job, reached);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .with_context(|| format!("{word} of {job}"))??;
        jobs.insert(job, word.to_owned());
        frail.wires.set(elsewhere, |_, target| target == "anvil");
        frail.blocks(4).await?;
        frail.wires.set(Mode::Straight, |_, target| target == "anvil");
    }
    for (job, word) in &jobs {
        frail.over(job).await.with_context(|| format!("{word}: {job}"))?;
    }
    frail.check(&jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_that_answers_an_old_block_costs_nobody_anything() -> anyhow::Result<()> {
    astray(31_337).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rpc_of_another_chain_costs_nobody_anything() -> anyhow::Result<()> {
    astray(999).await
}

/// Sets what an account has, wei.
async fn set_balance(frail: &Frail, account: &str, wei: &str) -> anyhow::Result<()> {
    frail
        .rpc("anvil_setBalance", json!([account, wei]))
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn dear_gas_and_an_empty_account_only_delay() -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let chain = frail.scene.market.reader().await?.chain().clone();
    let mut jobs = BTreeMap::new();
    for (word, _, reached) in STEPS {
        let job = frail.post(&key, word).await?;
        let reached = until(&frail, &job, reached);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .with_context(|| format!("{word} of {job}"))??;
        jobs.insert(job, word.to_owned());
        // tenfold, and what is waiting was priced before
        chain.dev_base_fee(10_000_000_000).await?;
        let broke = frail.scene.market.nodes[0].account.to_string();
        set_balance(&frail, &broke, "0x0").await?;
        frail.blocks(4).await?;
        set_balance(&frail, &broke, "0x56bc75e2d63100000").await?;
    }
    for (job, word) in &jobs {
        frail.over(job).await.with_context(|| format!("{word}: {job}"))?;
    }
    frail.check(&jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

/// Somebody else sends with a node's key: transactions that wait for nonces which nobody has used yet, and ones that take the
/// next nonce for a price that no replacement offers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make faults"]
async fn gaps_and_dearer_transactions_in_a_nodes_nonces_only_delay() -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let node = frail.scene.market.nodes[0].account.to_string();
    frail.rpc("anvil_impersonateAccount", json!([&node])).await?;
    let mut jobs = BTreeMap::new();
    for (word, _, reached) in STEPS {
        let job = frail.post(&key, word).await?;
        let reached = until(&frail, &job, reached);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .with_context(|| format!("{word} of {job}"))??;
        jobs.insert(job, word.to_owned());
        let count = frail
            .rpc("eth_getTransactionCount", json!([&node, "pending"]))
            .await?;
        let count = u64::from_str_radix(count.as_str().context("a number")?.trim_start_matches("0x"), 16)?;
        for nonce in [count, count + 2] {
            let call = json!([{
                "from": &node, "to": &node, "value": "0x1", "gas": "0x5208", "nonce": format!("{nonce:#x}"),
                "maxFeePerGas": "0x746a528800", "maxPriorityFeePerGas": "0x746a528800",
            }]);
            // the agent may have been quicker with that nonce
            if let Err(error) = frail.rpc("eth_sendTransaction", call).await {
                say(&format!("{word}, nonce {nonce}: {error:#}"));
            }
        }
    }
    for (job, word) in &jobs {
        frail.over(job).await.with_context(|| format!("{word}: {job}"))?;
    }
    frail.check(&jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

/// Manager and agent are started beside an RPC of another chain, and beside one of a chain that only has the same id: they
/// say so and end. Beside the right one they go on where they were.
#[tokio::test(flavor = "multi_thread")]
async fn another_chain_after_a_restart_is_refused_and_the_right_one_gone_on_with() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let key = frail.scene.market.client_key.clone();
    let mut jobs = BTreeMap::new();
    for (chain_id, word, reasons) in [
        (999, "other-id", ["chain 999", "chain 999"]),
        (31_337, "same-id", ["no contract", "no contract"]),
    ] {
        let other = Anvil::start(&AnvilOptions {
            chain_id,
            ..AnvilOptions::default()
        })
        .await?;
        let elsewhere = Mode::Elsewhere(other.url().trim_start_matches("http://").parse()?);
        let job = frail.post(&key, word).await?;
        let seated = until(&frail, &job, |it| it.seats > 0);
        tokio::time::timeout(Duration::from_secs(60), seated).await??;
        jobs.insert(job, word.to_owned());
        frail.wires.set(elsewhere, |who, target| {
            target == "anvil" && ["pool", "agent1"].contains(&who)
        });
        for (name, reason) in ["pool", "agent1"].into_iter().zip(reasons) {
            let service = frail.service(name)?;
            service.kill().await?;
            let Err(error) = service.restart().await else {
                anyhow::bail!("{name} works beside another chain");
            };
            let error = format!("{error:#}");
            say(&error);
            anyhow::ensure!(error.contains(reason), "{error}");
        }
        frail.wires.set(Mode::Straight, |_, target| target == "anvil");
        for name in ["pool", "agent1"] {
            frail.service(name)?.restart().await?;
        }
    }
    for (job, word) in &jobs {
        frail.over(job).await.with_context(|| format!("{word}: {job}"))?;
    }
    frail.check(&jobs).await?;
    frail.scene.market.stop().await;
    Ok(())
}

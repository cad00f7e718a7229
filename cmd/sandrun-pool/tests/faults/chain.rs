//! A chain that takes things back, falls behind, or is another.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use sandrun_chain::JobState;
use sandrun_chain::anvil::{Anvil, AnvilOptions, Mining};
use sandrun_core::market::Phase;
use sandrun_testnet::Role::Honest;

use crate::scene::Frail;
use crate::wire::Mode;

/// Waits until the chain says this of a job.
async fn until(frail: &Frail, job: &str, what: impl Fn(&JobState) -> bool) -> anyhow::Result<()> {
    let reader = frail.scene.market.reader().await?;
    let job = job.parse()?;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while !reader.job(job).await?.is_some_and(|it| what(&it)) {
        looks.tick().await;
    }
    Ok(())
}

/// A step of a job, and how many blocks are taken back when it is reached.
type Step = (&'static str, u64, fn(&JobState) -> bool);

const STEPS: [Step; 5] = [
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
    let call = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance", "params": [account, wei],
    });
    let answer = reqwest::Client::new()
        .post(&frail.scene.market.rpc)
        .json(&call)
        .send()
        .await?;
    let answer: serde_json::Value = answer.error_for_status()?.json().await?;
    anyhow::ensure!(answer.get("error").is_none(), "{answer}");
    Ok(())
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

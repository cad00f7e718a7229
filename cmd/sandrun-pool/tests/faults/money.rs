//! Money that has nowhere to go, and several who want to do the same for a tip.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use sandrun_chain::{JobState, Key};
use sandrun_core::market::{MarketEvent, Phase, SeatEnd};
use sandrun_testnet::Role::{Honest, Silent};
use sandrun_types::{Amount, JobId, Token};
use serde_json::Value;

use crate::scene::{Frail, until};
use crate::support::process::Process;
use crate::support::{ask, said};

/// How a command ends that the contracts refuse.
const REFUSED: i32 = 4;

/// A node's payout address takes no coin: that is nobody else's trouble, the node earns on, and its earnings wait in the
/// escrow until the address is another.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: make faults"]
async fn a_payout_address_that_refuses_holds_up_nobody_and_can_be_changed() -> anyhow::Result<()> {
    let mut frail = Frail::with(&[Honest, Honest, Honest]).await?;
    let market = &frail.scene.market;
    let [first, second, _] = market.nodes.as_slice() else {
        anyhow::bail!("three nodes")
    };
    let (first, second) = (first.clone(), second.clone());
    let reader = market.reader().await?;
    // the registry takes no coin
    let refuses = market.deployment.registry;
    let owner = frail.sender(&first.key).await?;
    owner
        .send(market.deployment.set_payout(first.index, refuses))
        .await?;

    let client = market.client_key.clone();
    let mut jobs = BTreeMap::new();
    for word in ["one", "two"] {
        jobs.insert(frail.post(&client, word).await?, word.to_owned());
        for job in jobs.keys() {
            frail.over(job).await?;
        }
        until("others have their money", async || {
            Ok(reader.earnings(second.index, Token::Native).await?.is_zero())
        })
        .await?;
    }
    frail.check(&jobs).await?;
    frail
        .says("agent1", "the payout address does not take the earnings")
        .await?;
    let both = Amount::from_gwei(200_000_000);
    let owed = reader.earnings(first.index, Token::Native).await?;
    anyhow::ensure!(owed == both, "{owed} is owed");
    let key = first.key.to_string_lossy().into_owned();
    let refused = frail.scene.run(&["withdraw", "--node", "--key", &key]).await?;
    anyhow::ensure!(
        refused.code == REFUSED
            && refused.stderr.contains(&refuses.to_string())
            && refused.stderr.contains("--payout"),
        "{refused:?}"
    );

    let purse = Key::generate(&frail.scene.directory.path().join("purse.key"))?.address();
    let agent = frail.service("agent1")?;
    agent.kill().await?;
    agent.also(&["--payout", &purse.to_string()], &[]);
    agent.restart().await?;
    until("the earnings are in the new purse", async || {
        Ok(reader.chain().balance(purse).await? == both)
    })
    .await?;
    anyhow::ensure!(reader.earnings(first.index, Token::Native).await?.is_zero());
    frail.scene.market.stop().await;
    Ok(())
}

/// Jobs that wait for somebody's poke.
const STUCK: usize = 3;
/// What a poke gets for each slash: the testnet's tip.
const TIP_GWEI: u64 = 1_000_000;

/// A manager with an account of its own beside the market's.
async fn second_manager(frail: &Frail, key: &Path) -> anyhow::Result<Process> {
    let (key, folder) = (
        key.to_string_lossy().into_owned(),
        frail.scene.directory.path().join("second"),
    );
    let folder = folder.to_string_lossy().into_owned();
    let arguments = ["pool", "--port", "0", "--data-dir", &folder, "--key", &key];
    Process::start(frail.scene.command(&arguments)).await
}

/// Posts what nobody can take: it expires.
async fn post_in_vain(frail: &Frail) -> anyhow::Result<String> {
    frail.scene.code("vain", &[("main.py", "print('vain')\n")])?;
    let mut command = frail
        .scene
        .command(&["submit", "--detach", "--json", "--code", "vain"]);
    command.args(["--payment", "0.3", "--redundancy", "3"]);
    command.args(["--min-reputation", "200", "--force"]);
    let posted = said(command).await?;
    anyhow::ensure!(posted.code == 0, "{posted:?}");
    Ok(posted.json()?["job"].as_str().context("no id")?.to_owned())
}

/// Somebody whom nobody knows pokes and refunds, whatever the managers do.
async fn stranger(frail: &Frail, key: &Path, jobs: &[JobId]) -> anyhow::Result<()> {
    let (sender, reader) = (frail.sender(key).await?, frail.scene.market.reader().await?);
    let market = frail.scene.market.deployment.clone();
    loop {
        for job in jobs {
            if is_at_rest(reader.job(*job).await?.as_ref()) {
                continue;
            }
            // what is not due is refused before it costs anything
            let _ = sender.send(market.poke(*job)).await;
            if let Some(order) = reader.order(*job).await? {
                let _ = sender.send(market.refund(&order)).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn is_at_rest(state: Option<&JobState>) -> bool {
    state.is_some_and(|it| it.phase == Phase::Closed && it.remaining.is_zero())
}

/// What everybody's `withdraw` would give.
async fn credits(frail: &Frail, keys: &[&Path]) -> anyhow::Result<Amount> {
    let reader = frail.scene.market.reader().await?;
    let mut sum = Amount::ZERO;
    for key in keys {
        let owner = Key::load(key, None)?.address();
        let credit = reader.credit(owner, Token::Native).await?;
        sum = sum.checked_add(credit).context("a sum")?;
    }
    Ok(sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_managers_and_a_strangers_keeper_do_everything_once() -> anyhow::Result<()> {
    let frail = Frail::with(&[Honest, Honest, Silent]).await?;
    let folder = frail.scene.directory.path().to_owned();
    let [other, strange] = ["other.key", "strange.key"].map(|it| folder.join(it));
    for key in [&other, &strange] {
        frail.scene.market.client(key).await?;
    }
    let second = second_manager(&frail, &other).await?;
    let client = frail.scene.market.client_key.clone();
    let mut jobs = Vec::new();
    for number in 0..STUCK {
        jobs.push(frail.post(&client, &format!("stuck-{number}")).await?);
    }
    jobs.push(post_in_vain(&frail).await?);
    let ids: Vec<JobId> = jobs.iter().map(|it| it.parse()).collect::<Result<_, _>>()?;
    let reader = frail.scene.market.reader().await?;
    until("two of three have committed", async || {
        for id in &ids[..STUCK] {
            let state = reader.job(*id).await?;
            if state.is_none_or(|it| it.committed.len() < 2) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    // all windows of all jobs are over in the same block: everybody sees the same to be done
    frail.scene.market.advance(100).await?;
    let rest = until("every job is at rest", async || {
        for id in &ids {
            if !is_at_rest(reader.job(*id).await?.as_ref()) {
                return Ok(false);
            }
        }
        Ok(true)
    });
    tokio::select! {
        rest = rest => rest?,
        ended = stranger(&frail, &strange, &ids) => ended?,
    }
    everything_once(&frail, &ids).await?;
    let first = folder.join("market/manager.key");
    let nodes = frail.scene.market.nodes.iter().map(|it| it.key.as_path());
    let keys: Vec<&Path> = [first.as_path(), &other, &strange]
        .into_iter()
        .chain(nodes)
        .collect();
    let tips = credits(&frail, &keys).await?;
    anyhow::ensure!(
        tips == Amount::from_gwei(TIP_GWEI * u64::try_from(STUCK)?),
        "{tips} of tips"
    );
    managers_agree(&frail, &second).await?;
    let (code, _) = second.terminate().await?;
    anyhow::ensure!(code == 0, "the second manager ended with {code}");
    frail.scene.market.stop().await;
    Ok(())
}

/// Each seat ended once, as it had to, and what was left went back once.
async fn everything_once(frail: &Frail, jobs: &[JobId]) -> anyhow::Result<()> {
    let reader = frail.scene.market.reader().await?;
    for (number, job) in jobs.iter().enumerate() {
        let events = reader.job_events(*job).await?;
        let (mut ends, mut refunds) = (Vec::new(), 0);
        for logged in &events {
            if let MarketEvent::SeatFinished { end, .. } = &logged.event {
                ends.push(*end);
            }
            refunds += usize::from(matches!(logged.event, MarketEvent::Refunded { .. }));
        }
        ends.sort_unstable();
        let expected = if number < STUCK {
            vec![SeatEnd::Paid, SeatEnd::Paid, SeatEnd::SlashedUncommitted]
        } else {
            Vec::new()
        };
        anyhow::ensure!(ends == expected && refunds == 1, "{refunds} refunds, {events:#?}");
    }
    Ok(())
}

/// Both have the same index, and neither has anything left to do.
async fn managers_agree(frail: &Frail, second: &Process) -> anyhow::Result<()> {
    let first = frail.scene.market.pool.clone().context("a manager")?;
    let are_over = |_, it: &Value| {
        let mut jobs = it["jobs"].as_array().into_iter().flatten();
        it["total"] == STUCK + 1 && jobs.all(|job| job["facts"]["refunded"].is_string())
    };
    let mut indexes = Vec::new();
    for manager in [&first, &second.ready] {
        indexes.push(ask(&format!("{manager}/v1/jobs"), are_over).await?["jobs"].clone());
        ask(&format!("{manager}/health"), |status, _| status == 200).await?;
        let metrics = reqwest::get(format!("{manager}/metrics")).await?.text().await?;
        anyhow::ensure!(
            metrics.contains("sandrun_market_due{what=\"poke\"} 0\n"),
            "{manager} has something to do: {metrics}"
        );
    }
    anyhow::ensure!(indexes[0] == indexes[1], "{indexes:#?}");
    Ok(())
}

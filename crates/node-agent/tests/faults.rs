//! What goes wrong around an agent: programs that never end, silent companions, a chain that takes things back.

mod support;

use anyhow::{Context as _, Result};
use node_agent::Misbehaviour;
use sandrun_core::market::{MarketEvent, Outcome, SeatEnd};
use sandrun_types::{Amount, Order, Redundancy};
use support::Market;

const PROGRAM: (&str, &str) = ("main.py", "print('steady')\n");

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_ends_is_answered_with_limit_and_paid() -> Result<()> {
    let mut market = Market::new().await?;
    let (node, agent) = market.agent(1, |_| {}).await?;
    let endless = ("main.py", "import time\ntime.sleep(600)\n");
    let order = Order {
        wall_limit: 4,
        ..market
            .order(&[endless], r#"{"timeout":4}"#, Redundancy::One)
            .await?
    };
    let job = market.send_order(&order).await?;
    let story = market.until_closed(job).await?;
    assert_eq!(story.outcome(), Some(Outcome::Limit), "{story:#?}");
    assert_eq!(story.end_of(node), Some(SeatEnd::Paid));
    agent.stop().await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_slashed_and_the_others_are_paid() -> Result<()> {
    let mut market = Market::new().await?;
    let (one, first) = market.agent(1, |_| {}).await?;
    let (two, second) = market.agent(2, |_| {}).await?;
    let (three, silent) = market
        .agent(3, |config| config.misbehaviour = Some(Misbehaviour::Silent))
        .await?;
    let order = Order {
        wall_limit: 3,
        ..market
            .order(&[PROGRAM], r#"{"timeout":3}"#, Redundancy::Three)
            .await?
    };
    let job = market.send_order(&order).await?;
    market
        .block_of(job, |event| matches!(event, MarketEvent::JobDecided { .. }))
        .await?;
    // nobody else's bond waits for the silent seat: a keeper ends it, for the tip
    let keeper = &market;
    market
        .wait_for("the silent seat's end", || async {
            let poked = keeper.client.send(keeper.deployment().poke(job)).await;
            Ok(poked.is_ok().then_some(()))
        })
        .await?;
    let story = market.until_closed(job).await?;
    assert_eq!(story.outcome(), Some(Outcome::Digest), "{story:#?}");
    assert_eq!(
        (story.end_of(one), story.end_of(two)),
        (Some(SeatEnd::Paid), Some(SeatEnd::Paid))
    );
    assert_eq!(story.end_of(three), Some(SeatEnd::SlashedUncommitted));
    for agent in [first, second, silent] {
        agent.stop().await??;
    }
    Ok(())
}

/// A reorganisation drops posting and claim; the agent forgets both, and takes the job anew when it is posted anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_posting_and_a_claim_that_the_chain_takes_back_are_undone() -> Result<()> {
    let mut market = Market::new().await?;
    let (node, agent) = market.agent(1, |_| {}).await?;
    let order = market
        .order(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::Two)
        .await?;
    let job = market.send_order(&order).await?;
    market
        .block_of(job, |event| matches!(event, MarketEvent::SeatClaimed { .. }))
        .await?;
    let posted = market
        .block_of(job, |event| matches!(event, MarketEvent::JobPosted { .. }))
        .await?;
    let head = market.chain.head().await?.block.number;
    market.chain.dev_reorg(head - posted + 1).await?;
    assert!(
        market.reader.job(job).await?.is_none(),
        "the posting is still there"
    );

    market.send_order(&order).await.context("posting anew")?;
    let claimed = market
        .block_of(job, |event| matches!(event, MarketEvent::SeatClaimed { .. }))
        .await?;
    assert!(claimed > posted);
    let (other, companion) = market.agent(2, |_| {}).await?;
    // the companion is younger than the posting: one seat of two, and the job expires; so post one more for both
    let (job, _) = market
        .post(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::Two)
        .await?;
    let story = market.until_closed(job).await?;
    assert_eq!(story.outcome(), Some(Outcome::Digest), "{story:#?}");
    assert_eq!(
        (story.end_of(node), story.end_of(other)),
        (Some(SeatEnd::Paid), Some(SeatEnd::Paid))
    );
    for agent in [agent, companion] {
        agent.stop().await??;
    }
    Ok(())
}

/// An executor whose runs fail, though it says that it is well: the agent notices, takes no other seat, and goes on when
/// it works again.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_executor_gets_no_more_seats_until_it_works_again() -> Result<()> {
    let mut market = Market::new().await?;
    let (node, agent) = market.agent(1, |_| {}).await?;
    let data = market.folder.path().join("executor0/jobs");
    let away = market.folder.path().join("away");
    std::fs::rename(&data, &away)?;
    std::fs::write(&data, "no folder")?;

    let claimed = |event: &MarketEvent| matches!(event, MarketEvent::SeatClaimed { .. });
    let (first, _) = market
        .post(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
        .await?;
    market.block_of(first, claimed).await?;
    market.wait_blocks(10).await?;
    let (second, _) = market
        .post(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
        .await?;
    market.wait_blocks(8).await?;
    let said = market.reader.job_events(second).await?;
    assert!(!said.iter().any(|logged| claimed(&logged.event)), "{said:#?}");

    std::fs::remove_file(&data)?;
    std::fs::rename(&away, &data)?;
    for job in [first, second] {
        let story = market.until_closed(job).await?;
        assert_eq!(story.outcome(), Some(Outcome::Digest), "{story:#?}");
        assert_eq!(story.end_of(node), Some(SeatEnd::Paid));
    }
    agent.stop().await??;
    Ok(())
}

/// A content store that takes no result for a while: it is asked again, and the program runs once.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_store_refuses_is_stored_later() -> Result<()> {
    let mut market = Market::new().await?;
    let mut executor = String::new();
    let (node, agent) = market
        .agent(1, |config| executor.clone_from(&config.sandrun_url))
        .await?;
    let runs = || async {
        let text = reqwest::get(format!("{executor}/metrics")).await?.text().await?;
        let ended = text
            .lines()
            .filter(|line| line.starts_with("sandrun_runs_total{"));
        let counts = ended.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        anyhow::Ok(counts.sum::<u64>())
    };
    // the store is away before the program has ended
    let slow = ("main.py", "print(sum(range(50_000_000)))\n");
    let (job, _) = market.post(&[slow], r#"{"timeout":15}"#, Redundancy::One).await?;
    let claimed = |event: &MarketEvent| matches!(event, MarketEvent::SeatClaimed { .. });
    market.block_of(job, claimed).await?;
    let blocks = market.folder.path().join("content/blocks");
    let away = market.folder.path().join("away");
    std::fs::rename(&blocks, &away)?;
    std::fs::write(&blocks, "no folder")?;
    market
        .wait_for("the run to end", || async {
            Ok((runs().await? > 0).then_some(()))
        })
        .await?;
    market.wait_blocks(5).await?;
    std::fs::remove_file(&blocks)?;
    std::fs::rename(&away, &blocks)?;

    let story = market.until_closed(job).await?;
    assert_eq!(story.outcome(), Some(Outcome::Digest), "{story:#?}");
    assert_eq!(story.end_of(node), Some(SeatEnd::Paid));
    assert_eq!(runs().await?, 1);
    agent.stop().await??;
    Ok(())
}

/// Whoever posts jobs and takes them back pays nothing for them: no more of their bundles are had at once than the node could
/// use, and the first ones are worked on all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_jobs_does_not_fill_the_disk_with_bundles() -> Result<()> {
    const JOBS: usize = 12;
    const WITHOUT_A_SEAT: usize = 4;
    let mut market = Market::new().await?;
    let (node, agent) = market.agent(1, |config| config.max_jobs = 1).await?;
    let mut orders = Vec::new();
    for _ in 0..JOBS {
        orders.push(
            market
                .order(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
                .await?,
        );
    }
    let posted = futures::future::join_all(orders.iter().map(|order| market.send_order(order))).await;
    let jobs = posted.into_iter().collect::<Result<Vec<_>>>()?;
    let bundles = market.folder.path().join("agent1/bundles");
    let most = std::sync::atomic::AtomicUsize::new(0);
    let reader = &market.reader;
    market
        .wait_for("two jobs to be paid", || async {
            let here = std::fs::read_dir(&bundles).map_or(0, |it| it.count());
            most.fetch_max(here, std::sync::atomic::Ordering::Relaxed);
            let mut paid = 0;
            for job in &jobs {
                let events = reader.job_events(*job).await?;
                let is_paid = |event: &MarketEvent| {
                    matches!(event, MarketEvent::SeatFinished { node: of, end: SeatEnd::Paid, .. } if *of == node)
                };
                paid += usize::from(events.iter().any(|it| is_paid(&it.event)));
            }
            Ok((paid >= 2).then_some(()))
        })
        .await?;
    let most = most.into_inner();
    // with a seat: one, and one that ended and is not final yet
    assert!(
        (2..=WITHOUT_A_SEAT + 3).contains(&most),
        "{most} bundles of {JOBS} were here at once"
    );
    agent.stop().await??;
    Ok(())
}

/// A journal that is deleted under a running agent would be missing after a crash, and with it the salts of commits: no more
/// seats are taken.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_journal_was_deleted_takes_no_more_seats() -> Result<()> {
    let mut market = Market::new().await?;
    let (_, agent) = market.agent(1, |_| {}).await?;
    std::fs::remove_dir_all(market.folder.path().join("agent1"))?;
    market.wait_blocks(3).await?;
    let (job, _) = market
        .post(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
        .await?;
    market.wait_blocks(10).await?;
    let said = market.reader.job_events(job).await?;
    let claimed = |event: &MarketEvent| matches!(event, MarketEvent::SeatClaimed { .. });
    assert!(!said.iter().any(|logged| claimed(&logged.event)), "{said:#?}");
    agent.stop().await??;
    Ok(())
}

/// Gas that is dearer than what is usually paid: a bond that is worth more is saved all the same.
#[tokio::test(flavor = "multi_thread")]
async fn dear_gas_costs_no_bond_that_is_worth_more() -> Result<()> {
    const DEAR: u64 = 400_000_000_000;
    let mut market = Market::new().await?;
    let (node, agent) = market.agent(1, |_| {}).await?;
    let order = Order {
        bond: Amount::from_gwei(1_000_000_000),
        ..market
            .order(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
            .await?
    };
    let job = market.send_order(&order).await?;
    market
        .block_of(job, |event| matches!(event, MarketEvent::SeatClaimed { .. }))
        .await?;
    let (chain, reader) = (&market.chain, &market.reader);
    market
        .wait_for("the seat's end", || async {
            // it falls by itself
            chain.dev_base_fee(DEAR).await?;
            let events = reader.job_events(job).await?;
            let is_end = |event: &MarketEvent| matches!(event, MarketEvent::SeatFinished { .. });
            Ok(events.iter().any(|it| is_end(&it.event)).then_some(()))
        })
        .await?;
    let story = market.until_closed(job).await?;
    assert_eq!(story.end_of(node), Some(SeatEnd::Paid), "{story:#?}");
    agent.stop().await??;
    Ok(())
}

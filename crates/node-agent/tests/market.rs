//! Agents on a real chain with real executors.

mod support;

use anyhow::{Context as _, Result};
use node_agent::{AgentError, Misbehaviour, TokenPolicy};
use sandrun_core::market::{Outcome, SeatEnd};
use sandrun_types::{Amount, ExitStatus, Order, Redundancy, Token};
use support::Market;

const PROGRAM: (&str, &str) = (
    "main.py",
    "import hashlib\nprint(hashlib.sha256(b'market').hexdigest())\nopen('table.csv', 'w').write('a,b\\n1,2\\n')\n",
);

#[tokio::test(flavor = "multi_thread")]
async fn one_node_is_paid_and_withdraws_and_its_result_can_be_fetched() -> Result<()> {
    let mut market = Market::new().await?;
    let (node, agent) = market.agent(1, |_| {}).await?;
    let (job, order) = market
        .post(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
        .await?;
    let story = market.until_closed(job).await?;
    assert_eq!(story.outcome(), Some(Outcome::Digest), "{story:#?}");
    assert_eq!(story.ends(), [(node, SeatEnd::Paid, order.price, Amount::ZERO)]);

    let parts = story.published().pop().context("no result was published")?;
    assert_eq!(parts.exit, ExitStatus::Code(0));
    let folder = market
        .result(&parts, &market.folder.path().join("result"))
        .await?;
    assert_eq!(
        std::fs::read_to_string(folder.join("outputs/table.csv"))?,
        "a,b\n1,2\n"
    );
    let hash = sandrun_types::Sha256Hex::of(b"market");
    assert_eq!(
        std::fs::read_to_string(folder.join("stdout"))?,
        format!("{hash}\n")
    );

    // its earnings are above the threshold
    let reader = &market.reader;
    market
        .wait_for("the withdrawal", || async {
            Ok(reader
                .earnings(node, Token::Native)
                .await?
                .is_zero()
                .then_some(()))
        })
        .await?;
    // a program that fails has a result too
    let failing = ("main.py", "import sys\nprint('no')\nsys.exit(3)\n");
    let (job, _) = market.post(&[failing], "{}", Redundancy::One).await?;
    let story = market.until_closed(job).await?;
    assert_eq!(story.end_of(node), Some(SeatEnd::Paid));
    assert_eq!(
        story.published().pop().map(|parts| parts.exit),
        Some(ExitStatus::Code(3))
    );
    agent.stop().await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_among_three_is_slashed_and_accepts_no_more() -> Result<()> {
    let mut market = Market::new().await?;
    let (one, first) = market.agent(1, |_| {}).await?;
    let (two, second) = market.agent(2, |_| {}).await?;
    let (three, liar) = market
        .agent(3, |config| {
            config.misbehaviour = Some(Misbehaviour::Liar);
            config.strikes.most = 1;
        })
        .await?;
    let (job, order) = market
        .post(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::Three)
        .await?;
    let story = market.until_closed(job).await?;
    assert_eq!(story.outcome(), Some(Outcome::Digest), "{story:#?}");
    assert_eq!(story.end_of(one), Some(SeatEnd::Paid));
    assert_eq!(story.end_of(two), Some(SeatEnd::Paid));
    let (.., slashed) = *story
        .ends()
        .iter()
        .find(|(node, ..)| *node == three)
        .context("no end of the liar")?;
    assert_eq!(story.end_of(three), Some(SeatEnd::SlashedWrong));
    assert_eq!(
        slashed,
        Amount(order.bond.0 * sandrun_types::U256::from(3) / sandrun_types::U256::from(10))
    );

    // the liar has stopped accepting: the next job is taken by the other two
    let (job, _) = market.post(&[PROGRAM], "{}", Redundancy::Two).await?;
    let story = market.until_closed(job).await?;
    assert_eq!(
        (story.end_of(one), story.end_of(two)),
        (Some(SeatEnd::Paid), Some(SeatEnd::Paid))
    );
    assert_eq!(story.end_of(three), None);
    for agent in [first, second, liar] {
        agent.stop().await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_with_the_key_and_wrong_settings_are_refused_with_words() -> Result<()> {
    let mut market = Market::new().await?;
    let (_, agent) = market.agent(1, |_| {}).await?;
    let executor = market.executor().await?;
    let refusal = |config| async { node_agent::run(config, std::future::pending()).await.unwrap_err() };

    let second = refusal(market.config(1, executor.clone())?).await;
    assert!(
        second
            .to_string()
            .contains("another agent already runs with the key"),
        "{second}"
    );

    let mut elsewhere = market.config(1, executor.clone())?;
    elsewhere.data_dir = elsewhere.data_dir.join("of-its-own");
    assert!(matches!(refusal(elsewhere).await, AgentError::Twin { .. }));

    let mut poor = market.config(2, executor.clone())?;
    poor.key = sandrun_chain::Key::random();
    assert!(matches!(refusal(poor).await, AgentError::NotEnoughCoin { .. }));

    let nobody = market.config(2, "http://127.0.0.1:1".to_owned())?;
    assert!(matches!(refusal(nobody).await, AgentError::Executor { .. }));

    let mut no_store = market.config(2, executor.clone())?;
    no_store.ipfs_api = "http://127.0.0.1:1".to_owned();
    assert!(matches!(refusal(no_store).await, AgentError::Content { .. }));

    let mut other_class = market.config(2, executor.clone())?;
    other_class.classes = vec![sandrun_types::ClassRequest::Exact(sandrun_types::ClassId(
        [7; 32],
    ))];
    assert!(matches!(
        refusal(other_class).await,
        AgentError::ClassNotOffered { .. }
    ));

    let mut elsewhere = market.config(2, executor)?;
    elsewhere.chain = Some(sandrun_types::ChainId(1));
    let wrong = refusal(elsewhere).await;
    assert!(wrong.to_string().contains("chain 1"), "{wrong}");
    agent.stop().await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_an_erc20_is_taken_where_its_token_is_and_left_alone_elsewhere() -> Result<()> {
    let (mut market, token) = Market::with_token().await?;
    let (_, coin_only) = market.agent(1, |_| {}).await?;
    let policy = TokenPolicy {
        token,
        min_price: Amount::from_gwei(10_000_000),
        withdraw_threshold: Amount::from_gwei(1),
    };
    let (node, taker) = market.agent(2, |config| config.tokens = vec![policy]).await?;
    let order = Order {
        token: Token::Erc20(token),
        ..market
            .order(&[PROGRAM], r#"{"timeout":15}"#, Redundancy::One)
            .await?
    };
    let job = market.send_order(&order).await?;
    let story = market.until_closed(job).await?;
    assert_eq!(
        story.ends(),
        [(node, SeatEnd::Paid, order.price, Amount::ZERO)],
        "{story:#?}"
    );
    let (reader, payout) = (&market.reader, sandrun_chain::anvil::Anvil::key(2)?.address());
    market
        .wait_for("the withdrawal", || async {
            let balance = reader.balance(payout, Token::Erc20(token)).await?;
            Ok((balance == order.price).then_some(()))
        })
        .await?;
    for agent in [coin_only, taker] {
        agent.stop().await??;
    }
    Ok(())
}

/// The local chain was started anew: the same contracts stand at the same addresses, and it is longer than the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_a_chain_that_is_gone_is_refused() -> Result<()> {
    let mut before = Market::new().await?;
    let (_, agent) = before.agent(1, |_| {}).await?;
    agent.stop().await??;
    let data_dir = before.folder.path().join("agent1");

    let mut after = Market::new().await?;
    assert_eq!(before.deployment().escrow, after.deployment().escrow);
    after.chain.dev_mine(100, 1).await?;
    let executor = after.executor().await?;
    let mut config = after.config(1, executor)?;
    config.data_dir = data_dir;
    let refused = node_agent::run(config, std::future::pending()).await.unwrap_err();
    assert!(matches!(refused, AgentError::OtherGenesis { .. }), "{refused}");
    assert!(refused.to_string().contains("started anew"), "{refused}");
    Ok(())
}

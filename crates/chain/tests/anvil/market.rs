//! A job's whole life on the real contracts, read back in our words.

use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall as _;
use sandrun_chain::{
    Call, MarketTerms, Opening, Refusal, Revert, SendError, deploy, deploy_test_token, worker_key_message,
};
use sandrun_core::market::{MarketEvent, Outcome, Phase, SeatEnd};
use sandrun_types::{
    Amount, Answer, B256, ContentDigest, ExitStatus, NodeIndex, Order, OutputRoot, Redundancy, ResultParts,
    SeatIndex, Token, TraceRoot, commitment,
};

use crate::world::{CLASS, Node, World, is_claimed, is_posted};

fn result() -> ResultParts {
    ResultParts {
        class: CLASS,
        exit: ExitStatus::Code(0),
        output_root: OutputRoot([4; 32]),
        trace_root: TraceRoot([0; 32]),
        content: ContentDigest([5; 32]),
    }
}

fn salt(seat: u8) -> B256 {
    B256::repeat_byte(0x50 + seat)
}

/// All nodes take seats and answer alike.
async fn run(world: &World, nodes: &[Node], order: &Order) -> anyhow::Result<()> {
    let (market, job) = (&world.market, order.job_id(world.market.escrow_ref()));
    let digest = result().digest(market.escrow_ref(), job);
    for node in nodes {
        let outcome = world.claim(node, job, 0).await?;
        assert!(
            outcome.events.iter().any(|it| is_claimed(&it.event, job)),
            "{:?}",
            outcome.events
        );
    }
    let mut seated = Vec::new();
    for seat in 0..u8::try_from(nodes.len())? {
        let index = world.reader.seat_node(job, SeatIndex(seat)).await?;
        let node = nodes.iter().find(|it| Some(it.index) == index);
        seated.push((
            seat,
            node.ok_or_else(|| anyhow::anyhow!("seat {seat} of nobody"))?,
        ));
    }
    for (seat, node) in &seated {
        let bound = commitment(job, 0, node.index, digest.into(), salt(*seat));
        node.sender
            .send(market.commit(job, SeatIndex(*seat), bound))
            .await?;
    }
    for (seat, node) in &seated {
        let call = if *seat == 0 {
            market.reveal_result(job, SeatIndex(0), &result(), salt(0))
        } else {
            let opening = Opening {
                seat: SeatIndex(*seat),
                answer: digest.into(),
                salt: salt(*seat),
            };
            market.reveal(job, &[opening])
        };
        node.sender.send(call).await?;
    }
    Ok(())
}

#[tokio::test]
async fn three_nodes_agree_and_are_paid() -> anyhow::Result<()> {
    let world = World::new().await?;
    let mut nodes = Vec::new();
    for account in 2..5 {
        nodes.push(world.node(account).await?);
    }
    assert_eq!(world.reader.nodes().await?.len(), 3);
    let record = world
        .reader
        .node(nodes[0].index)
        .await?
        .ok_or_else(|| anyhow::anyhow!("no node"))?;
    assert_eq!((record.opt_in.cap, record.classes), (nodes[0].stake, vec![CLASS]));
    assert!(world.reader.node(NodeIndex(9)).await?.is_none());
    let order = world.order(Redundancy::Three, 1);
    let (job, posted) = world.post(&order).await?;
    assert!(
        posted.events.iter().any(|it| is_posted(&it.event, job)),
        "the job id is the contract's"
    );
    assert_eq!(world.reader.order(job).await?, Some(order.clone()));
    run(&world, &nodes, &order).await?;
    let state = world
        .reader
        .job(job)
        .await?
        .ok_or_else(|| anyhow::anyhow!("no job"))?;
    assert_eq!(
        (state.phase, state.outcome),
        (Phase::Closed, Some(Outcome::Digest))
    );
    let events = world.reader.job_events(job).await?;
    let answer = Answer::Digest(result().digest(world.market.escrow_ref(), job));
    let count = |wanted: &dyn Fn(&MarketEvent) -> bool| events.iter().filter(|it| wanted(&it.event)).count();
    assert_eq!(count(&|it| matches!(it, MarketEvent::Committed { .. })), 3);
    assert_eq!(
        count(&|it| matches!(it, MarketEvent::Revealed { answer: it, .. } if *it == answer)),
        3
    );
    assert_eq!(
        count(
            &|it| matches!(it, MarketEvent::ResultPublished { result: it, .. } if it.parts() == Ok(result()))
        ),
        1
    );
    let paid = |it: &MarketEvent| matches!(it, MarketEvent::SeatFinished { end: SeatEnd::Paid, paid, .. } if *paid == order.price);
    assert_eq!(count(&paid), 3);
    assert!(
        events
            .windows(2)
            .all(|it| (it[0].at.block.number, it[0].at.log_index)
                < (it[1].at.block.number, it[1].at.log_index))
    );
    for node in &nodes {
        assert_eq!(
            world.reader.earnings(node.index, Token::Native).await?,
            order.price
        );
        node.sender
            .send(world.market.withdraw_node(node.index, Token::Native))
            .await?;
        assert!(world.reader.earnings(node.index, Token::Native).await?.is_zero());
    }
    Ok(())
}

#[tokio::test]
async fn one_node_is_paid_in_a_token() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let deployer = world.sender(0)?;
    let token = deploy_test_token(&deployer, "Test dollar", "TUSD", 6).await?;
    let mut terms = MarketTerms::testnet();
    terms.tokens.push(MarketTerms::token_like_coin(token, 6));
    world.market = deploy(&deployer, &terms).await?;
    world.reader = sandrun_chain::MarketReader::verified(world.chain.clone(), world.market.clone()).await?;
    assert_eq!(world.reader.token_terms().await?, terms.tokens);
    assert_eq!(
        (
            world.reader.decimals(Token::Erc20(token)).await?,
            world.reader.symbol(token).await?.as_str()
        ),
        (6, "TUSD")
    );
    let node = world.node(2).await?;
    let price = Amount::parse("0.5", 6)?;
    let bond = Amount::from_gwei(2_500_000_000);
    node.sender.send(world.market.add_stake(node.index, bond)).await?;
    let cap = node.stake.checked_add(bond).unwrap_or_default();
    node.sender
        .send(world.market.opt_in(node.index, cap, &[CLASS]))
        .await?;
    world.chain.dev_increase_time(2).await?;
    let order = Order {
        token: Token::Erc20(token),
        price,
        bond,
        ..world.order(Redundancy::One, 1)
    };
    world
        .client
        .send(Call::mint(token, world.client.address(), price))
        .await?;
    let broke = world.post(&order).await;
    let error = broke.err().and_then(|it| it.downcast::<SendError>().ok());
    assert!(
        matches!(error, Some(SendError::Refused { .. })),
        "no allowance: {error:?}"
    );
    world.client.send(world.market.approve(token, price)).await?;
    world.post(&order).await?;
    let node = Node { stake: cap, ..node };
    run(&world, std::slice::from_ref(&node), &order).await?;
    assert_eq!(
        world.reader.earnings(node.index, Token::Erc20(token)).await?,
        price
    );
    node.sender
        .send(world.market.withdraw_node(node.index, Token::Erc20(token)))
        .await?;
    assert_eq!(
        world
            .reader
            .balance(node.sender.address(), Token::Erc20(token))
            .await?,
        price
    );
    Ok(())
}

alloy::sol! {
    function workerKeyMessage(address account) external view returns (bytes32);
}

#[tokio::test]
async fn the_worker_key_signs_the_registrys_message() -> anyhow::Result<()> {
    let world = World::new().await?;
    let account = world.client.address();
    let input = workerKeyMessageCall { account }.abi_encode();
    let request = TransactionRequest::default()
        .to(world.market.registry)
        .input(input.into());
    let message = world.chain.provider().call(request).await?;
    assert_eq!(
        message.as_ref(),
        worker_key_message(world.chain.id(), world.market.registry, account)
    );
    Ok(())
}

#[tokio::test]
async fn refusals_have_a_name_and_say_what_to_do() -> anyhow::Result<()> {
    let world = World::new().await?;
    let node = world.node(2).await?;
    let refused = |error: SendError| {
        assert!(matches!(error, SendError::Refused { .. }), "{error:?}");
        error.revert().cloned().unwrap_or(Revert::NoReason)
    };
    let unknown = sandrun_types::JobId([1; 32]);
    let revert = refused(
        node.sender
            .send(world.market.claim(unknown, node.index, 0))
            .await
            .unwrap_err(),
    );
    assert!(revert.refusal().is_some(), "{revert}");
    let order = world.order(Redundancy::Three, 1);
    let (job, _) = world.post(&order).await?;
    let again = world.market.post(&order).ok_or_else(|| anyhow::anyhow!("sum"))?;
    let revert = refused(world.client.send(again).await.unwrap_err());
    assert_eq!(revert.refusal(), Some(Refusal::AlreadyPosted));
    let cheap = Order {
        price: Amount::from_gwei(1),
        bond: Amount::from_gwei(5),
        ..world.order(Redundancy::Three, 2)
    };
    let call = world.market.post(&cheap).ok_or_else(|| anyhow::anyhow!("sum"))?;
    let revert = refused(world.client.send(call).await.unwrap_err());
    assert_eq!(revert.refusal(), Some(Refusal::PriceTooLow));
    assert!(revert.explain().contains("--payment"), "{revert}");
    let revert = refused(
        world
            .client
            .send(world.market.claim(job, node.index, 0))
            .await
            .unwrap_err(),
    );
    assert!(
        matches!(revert.refusal(), Some(Refusal::NotWorker | Refusal::SeedNotReady)),
        "{revert}"
    );
    assert!(world.reader.job(unknown).await?.is_none());
    Ok(())
}

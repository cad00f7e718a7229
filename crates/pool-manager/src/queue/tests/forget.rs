//! Nodes that never come back.

use std::sync::atomic::Ordering;

use super::*;

const DAY: u64 = 86_400;

#[tokio::test]
async fn a_node_that_is_lost_for_a_day_is_forgotten_and_new_when_it_comes_back() {
    let world = World::new().await;
    let gone = world.node("http://gone").await;
    let stays = world.node("http://stays").await;
    let known = async || world.queue.nodes().await.unwrap().len();
    let job = world.submit(job()).await;
    assert_eq!(world.claim(&gone).await.unwrap().job, job);
    world.pass(DAY - 10);
    world.queue.heartbeat(stays.clone(), Vec::new()).await.unwrap();
    assert_eq!(known().await, 2);
    // its job waits for another one since it was lost
    assert_eq!(world.claim(&stays).await.unwrap().attempt, Attempt(2));
    world.pass(DAY / 24 + 20);
    // a batch looks at the clock when it is through with its commands
    world.queue.heartbeat(stays.clone(), Vec::new()).await.unwrap();
    assert_eq!(known().await, 1);
    assert_eq!(
        world.queue.heartbeat(gone.clone(), Vec::new()).await,
        Err(QueueError::UnknownNode(gone.clone()))
    );
    let now = world.clock.load(Ordering::SeqCst);
    assert_eq!(world.reader.sweep_nodes(now, DAY * 1_000).await.unwrap(), 1);
    let again = world.node("http://gone").await;
    assert_ne!(again, gone);
    assert_eq!(known().await, 2);
    let rows = world.reader.nodes().await.unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, [stays.as_str(), again.as_str()]);
}

#[tokio::test]
async fn who_claims_is_not_forgotten_though_it_says_nothing_else() {
    let world = World::new().await;
    let node = world.node("http://a").await;
    for _ in 0..5 {
        world.pass(DAY / 2);
        assert_eq!(world.claim(&node).await, None);
    }
    let now = world.clock.load(Ordering::SeqCst);
    assert_eq!(world.reader.sweep_nodes(now, DAY * 1_000).await.unwrap(), 0);
    assert_eq!(world.queue.nodes().await.unwrap().len(), 1);
}

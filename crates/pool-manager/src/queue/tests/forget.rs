//! Nodes that never come back, and clients that have no jobs.

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

#[tokio::test]
async fn a_client_keeps_its_number_while_it_has_jobs_and_is_new_afterwards() {
    let mut world = World::new().await;
    let node = world.node("http://a").await;
    let of = |name: &str| Submission {
        client: name.to_owned(),
        idempotency: Some("k".to_owned()),
        ..job()
    };
    let first = world.submit(of("ann")).await;
    let client = async |world: &World, job| world.reader.job(job).await.unwrap().unwrap().new.client;
    let number = client(&world, first).await;
    // long enough for the name to leave memory; the store still has it, and the key
    for _ in 0..2 {
        world.pass(2 * 3_600);
        world.queue.heartbeat(node.clone(), Vec::new()).await.unwrap();
    }
    assert_eq!(world.reader.sweep_clients().await.unwrap(), 0);
    assert_eq!(world.submit(of("ann")).await, first);
    let other = Submission {
        idempotency: None,
        ..of("ann")
    };
    let second = world.submit(other.clone()).await;
    assert_eq!(client(&world, second).await, number);

    // swept while it is in memory, it is written again
    for job in [first, second] {
        world.queue.cancel(job).await.unwrap();
    }
    world.pass(60);
    let now = world.clock.load(Ordering::SeqCst);
    assert_eq!(world.reader.sweep_jobs(now, 1).await.unwrap(), 2);
    assert_eq!(world.reader.sweep_clients().await.unwrap(), 1);
    let third = world.submit(other.clone()).await;
    let row = world.reader.job(third).await.unwrap().unwrap();
    assert_eq!((row.client_name.as_str(), row.new.client), ("ann", number));

    // and swept after it has left memory it is a new one
    world.queue.cancel(third).await.unwrap();
    world.restart().await;
    let now = world.clock.load(Ordering::SeqCst) + 10;
    world.reader.sweep_jobs(now, 1).await.unwrap();
    world.reader.sweep_clients().await.unwrap();
    world.restart().await;
    let fourth = world.submit(other).await;
    let row = world.reader.job(fourth).await.unwrap().unwrap();
    assert_eq!(row.client_name, "ann");
    assert_ne!(row.new.client, number);
}
